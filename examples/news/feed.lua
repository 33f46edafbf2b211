-- Publishes a headline every 200 milliseconds to those that have joined the group `news`.
local tick = process.send_every("200ms", "headline")
local headlines = 0
while true do
  local message = process.receive()
  if message.kind == "cancelled" then return headlines end
  if message.kind == "timer" and message.timer == tick then
    headlines = headlines + 1 + message.missed
    local delivered, full = process.publish("news", { headline = headlines })
    log.info("published", { headline = headlines, delivered = delivered, full = full })
  elseif message.reply then
    message:reply { headlines = headlines, readers = #process.members("news") }
  end
end
