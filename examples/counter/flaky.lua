-- Adds up what it is sent, and fails at the tenth message.
local sum = 0
for _ = 1, 9 do
  local message = process.receive()
  if message.kind == "cancelled" then return sum end
  sum = sum + message.payload
  log.info("sum", { sum = sum })
end
error("nine messages are enough")
