-- Counts what it is sent.
local heard = 0
while true do
  local message = process.receive()
  if message.kind ~= "sent" then return end
  if message.reply then message:reply(heard) else heard = heard + 1 end
end
