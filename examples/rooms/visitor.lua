-- Goes from room to room, and opens those that there are not.
local topics = { "rust", "lua", "wasm" }
local visit = 0
while true do
  local topic = topics[visit % #topics + 1]
  local name = "room " .. topic
  if not process.whereis(name) then
    local _, id = process.start_child("rooms:rooms", { payload = topic, name = name })
    log.info("a child was started", { id = id })
  end
  log.info("a room answers", { says = process.call(name, "hello") })
  local message = process.receive(0.3)
  if message and message.kind == "cancelled" then return visit end
  visit = visit + 1
end
