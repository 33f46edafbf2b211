-- Paths begin at the directory that the option `fs_root` names.
local entry = ...
if entry ~= nil then
  fs.append("log.txt", tostring(entry) .. "\n")
end
return fs.exists("log.txt") and fs.read("log.txt") or ""
