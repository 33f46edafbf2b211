-- `...` is the payload, what is returned the result.
local who = ...
if type(who) ~= "table" or type(who.name) ~= "string" then
  error { kind = "invalid", message = 'the payload is { "name": "…" }' }
end

-- A function calls another, in whatever language that is written. The frame of the other inherits from this one's.
local greeting = call("hello:shout", "hello, " .. who.name)
return { text = greeting, by = frame.get("function") }
