-- A process: it runs until it is cancelled, and counts as it waits for messages.
local every = (...).every
local ticks = 0
while true do
  local message = process.receive(every)
  if message == nil then
    ticks = ticks + 1
    log.info("tick", { ticks = ticks })
  elseif message.kind == "cancelled" then
    log.info("done", { ticks = ticks, reason = message.reason })
    return ticks
  end
end
