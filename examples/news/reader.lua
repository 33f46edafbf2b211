-- Reads headlines, and warns when none has come for a second.
local name = ...
process.join("news")
local feed = process.lookup("feed", "5s") or error("there is no feed")
log.info(name .. " reads the news", { readers = process.call(feed, "hello").readers })
local silence = process.send_after("1s", "silence")
while true do
  local message = process.receive()
  if message.kind == "cancelled" then return end
  process.cancel_timer(silence)
  if message.kind == "timer" then
    log.warn(name .. " has heard nothing for a second")
  else
    log.info(name .. " read", { headline = message.payload.headline })
  end
  silence = process.send_after("1s", "silence")
end
