-- A room with a topic. Its scribe ends with it, however it ends.
local topic = ...
local scribe = process.spawn { host = "rooms:workers", entry = "rooms:scribe", owned = true }
log.info("a room was opened", { topic = topic })
while true do
  local message = process.receive(2)
  if not message or message.kind == "cancelled" then
    -- No visitor has said anything for two seconds, or the app stops.
    log.info("a room was closed", { topic = topic, heard = process.call(scribe, "count") })
    return
  elseif message.kind == "sent" and message.reply then
    process.send(scribe, message.payload)
    message:reply(message.payload .. ", " .. topic .. "!")
  end
end
