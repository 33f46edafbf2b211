local concat, format, getmetatable, tostring = table.concat, string.format, getmetatable, tostring
local maxn, pcall, rawget, rawlen, select, setmetatable, type = 8, pcall, rawget, rawlen, select, setmetatable, type

-- What a program prints, and how many loops and calls it has left.
local out, left = {}, 250

local function spent()
  left = left - 1
  return left < 0
end

-- Text without addresses.
local function text(v)
  local kind = type(v)
  if kind == "string" or kind == "number" or kind == "boolean" or kind == "nil" then return tostring(v) end
  local meta = getmetatable(v)
  if type(meta) == "table" and rawget(meta, "__tostring") then return tostring(v) end
  return kind
end

local function show(v, depth)
  local kind = type(v)
  if kind == "string" then
    if #v > 200 then v = v:sub(1, 100) .. "..." .. #v end
    return format("%q", v)
  elseif kind ~= "table" then
    return kind == "number" and tostring(v) or text(v)
  elseif depth > 1 then
    return "{}"
  end
  local parts = {}
  for i = 1, rawlen(v) < maxn and rawlen(v) or maxn do parts[i] = show(rawget(v, i), depth + 1) end
  for _, key in ipairs { "x", "y", "n", "kind", "message", "retryable" } do
    local field = rawget(v, key)
    if field ~= nil then parts[#parts + 1] = key .. "=" .. show(field, depth + 1) end
  end
  return "{" .. concat(parts, ",") .. "}"
end

local function log(...)
  if #out >= 400 then return end
  local parts = { ... }
  for i = 1, select("#", ...) do parts[i] = show(parts[i], 0) end
  out[#out + 1] = concat(parts, " ")
end

local function try(name, f, ...) log(name, pcall(f, ...)) end

local function num(v, ...)
  if type(v) == "number" then return v end
  return select("#", ...)
end

-- What an object says of its length. A large one would keep functions of the library busy for years.
local function length(f)
  return function(...)
    local n = f(...)
    local number = type(n) ~= "table" and tonumber(n)
    return number and number > 20 and 3 or n
  end
end

local function closer(f) return setmetatable({}, { __close = f }) end

