-- Sends numbers to the process with the name `counter`.
local number = 0
while true do
  number = number + 1
  local ok, failure = pcall(process.send, "counter", number)
  if not ok then log.warn("the counter is not there", { why = failure.message }) end
  local message = process.receive(0.2)
  if message and message.kind == "cancelled" then return number end
end
