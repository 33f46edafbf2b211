-- What a script sees in place of Lua's own library, run once in every VM. It never sees this chunk's locals.
--
-- Two things are kept here. Nothing that a script does to its environment or a library outlives its call: both are
-- fresh tables in every call. And nothing can be caught, or made to last, once the call is over: whatever catches an
-- error hands it to `recover`, which raises it again, and whatever resumes a coroutine passes on the yields that are
-- not the script's own, which are those of the instruction hook and of host functions that wait.
local native = ...

local assert, error, getmetatable, ipairs, load, next = assert, error, getmetatable, ipairs, load, next
local pairs, pcall, rawequal, rawget, rawlen, rawset = pairs, pcall, rawequal, rawget, rawlen, rawset
local select, setmetatable, tonumber, tostring, type = select, setmetatable, tonumber, tostring, type
local xpcall = xpcall
local coroutine, math, string, table, utf8 = coroutine, math, string, table, utf8
local mtype, tointeger = math.type, math.tointeger
local recover, pause, note_suspended = native.recover, native.pause, native.note_suspended

-- The environment and the thread of the call that runs.
local environment, main

-- Coroutines -----------------------------------------------------------------------------------------------------

local create, resume, yield, status = coroutine.create, coroutine.resume, coroutine.yield, coroutine.status
local running, isyieldable, close = coroutine.running, coroutine.isyieldable, coroutine.close

-- Comes before what a script yields.
local YIELD = {}

-- Lets others run, if it is time. For whoever does much without an instruction of the script.
local function rest()
  if pause() and isyieldable() then yield() end
end

local resumed

-- A coroutine yielded. What is marked is for whoever resumed it; all else is passed outwards, and when that comes
-- back, the coroutine goes on as if nothing had been.
local function suspended(co, mark, ...)
  if mark == YIELD then
    return true, ...
  elseif isyieldable() then
    if mark == nil then yield() else yield(mark) end
  elseif mark == nil then
    pause()
  else
    close(co)
    return false, "attempt to yield across a C-call boundary"
  end
  return resumed(co, resume(co))
end

function resumed(co, ok, ...)
  if not ok then
    return false, recover(...)
  elseif status(co) == "dead" then
    return true, ...
  end
  return suspended(co, ...)
end

-- Every thread counts its own instructions, so that short coroutines inside short coroutines would hardly ever come
-- to a hook. Resuming counts, too.
local RESUMES = 32
local resumes = RESUMES

local function resume_counted(co, ...)
  resumes = resumes - 1
  if resumes <= 0 then
    resumes = RESUMES
    rest()
  end
  return resumed(co, resume(co, ...))
end

local function closed(ok, ...)
  if ok then return ok end
  return false, recover(...)
end

local function wrap_failed(co, err)
  if status(co) == "dead" then
    local ok, other = closed(close(co))
    if not ok then err = other end
  end
  if type(err) == "string" then error(err, 2) end
  error(err, 0)
end

local function wrap_resumed(co, ok, ...)
  if ok then return ... end
  return wrap_failed(co, ...)
end

local coroutines = {
  create = create,
  status = status,
  resume = resume_counted,
  close = function(co) return closed(close(co)) end,
  running = function()
    local co = running()
    return co, co == main
  end,
  isyieldable = function(co)
    if co == nil then co = running() end
    return co ~= main and isyieldable(co)
  end,
  wrap = function(f)
    local co = create(f)
    return function(...) return wrap_resumed(co, resume_counted(co, ...)) end
  end,
  yield = function(...)
    if running() == main then error("attempt to yield from outside a coroutine", 0) end
    return yield(YIELD, ...)
  end,
}

-- Errors ---------------------------------------------------------------------------------------------------------

local function caught(ok, ...)
  if ok then return ok, ... end
  return false, recover(...)
end

local base = {
  assert = assert,
  error = error,
  getmetatable = getmetatable,
  ipairs = ipairs,
  next = next,
  pairs = pairs,
  rawequal = rawequal,
  rawget = rawget,
  rawlen = rawlen,
  rawset = rawset,
  select = select,
  tonumber = tonumber,
  tostring = tostring,
  type = type,
  null = native.null,
  _VERSION = _VERSION,
}

function base.pcall(...)
  return caught(pcall(...))
end

function base.xpcall(f, handler, ...)
  if type(handler) ~= "function" then return xpcall(f, handler, ...) end
  local function handle(err)
    -- What cannot be caught is not for the script's handler, and raised again behind it.
    local ok, recovered = pcall(recover, err)
    if not ok then return recovered end
    return handler(recovered)
  end
  return caught(xpcall(f, handle, ...))
end

-- A finalizer would run with hooks off, when nothing can end it.
function base.setmetatable(t, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    error("a metatable with __gc is not allowed: use __close, or clean up before the script returns", 2)
  end
  return setmetatable(t, metatable)
end

-- Loading --------------------------------------------------------------------------------------------------------

-- Nothing can interrupt the compiler.
local LONGEST_CHUNK = 64 * 1024
local LONG_CHUNK = 1024

local function read_chunk(reader)
  local parts, length = {}, 0
  while true do
    local part = reader()
    if part == nil or part == "" then return table.concat(parts) end
    if type(part) ~= "string" then error("reader function must return a string", 0) end
    length = length + #part
    if length > LONGEST_CHUNK then return nil end
    parts[#parts + 1] = part
  end
end

function base.load(chunk, name, mode, ...)
  local text = chunk
  if type(chunk) == "function" then
    local ok, read = caught(pcall(read_chunk, chunk))
    if not ok then return nil, read end
    text, name = read, name or "=(load)"
  elseif type(chunk) == "number" then
    text = tostring(chunk)
  elseif type(chunk) ~= "string" then
    error("bad argument #1 to 'load' (a string or a function is expected)", 2)
  end
  if text == nil or #text > LONGEST_CHUNK then
    return nil, "a chunk to load is at most " .. LONGEST_CHUNK .. " bytes long"
  end
  if mode ~= nil and not string.find(mode, "t", 1, true) then
    return nil, "attempt to load a text chunk (mode is '" .. mode .. "')"
  end
  if #text > LONG_CHUNK then rest() end
  local env = environment
  if select("#", ...) > 0 then env = (...) end
  return load(text, name or text, "t", env)
end

-- Logging --------------------------------------------------------------------------------------------------------

local function joined(separator, ...)
  local texts = { ... }
  for i = 1, select("#", ...) do texts[i] = tostring(texts[i]) end
  return table.concat(texts, separator)
end

function base.print(...)
  native.log("info", joined("\t", ...))
end

function base.warn(first, ...)
  -- Control messages, such as `@on`, are for an interpreter.
  if type(first) == "string" and select("#", ...) == 0 and string.sub(first, 1, 1) == "@" then return end
  native.log("warn", joined("", first, ...))
end

local log = {}
for _, level in ipairs { "trace", "debug", "info", "warn", "error" } do
  log[level] = function(message, fields) native.log(level, tostring(message), fields) end
end

-- The host -------------------------------------------------------------------------------------------------------

local function called(ok, result)
  if ok then return result end
  error(result, 0)
end

function base.call(...)
  return called(native.call(...))
end

function base.array(t)
  if t == nil then t = {} end
  if type(t) ~= "table" then error("bad argument #1 to 'array' (table expected, got " .. type(t) .. ")", 2) end
  if getmetatable(t) == "array" then return t end
  return setmetatable(t, native.array)
end

function base.bytes(s)
  if type(s) ~= "string" then error("bad argument #1 to 'bytes' (string expected, got " .. type(s) .. ")", 2) end
  return setmetatable({ s }, native.bytes)
end

-- Strings --------------------------------------------------------------------------------------------------------

local find, match, search, rep = native.find, native.match, native.search, native.rep
local srep, sub = string.rep, string.sub

local strings = {}
for _, name in ipairs { "byte", "char", "len" } do strings[name] = string[name] end
strings.find, strings.match = find, match

-- What takes long for a long string.
local LONG = 64 * 1024

local function rested(f)
  return function(s, ...)
    if type(s) == "string" and #s > LONG then rest() end
    return f(s, ...)
  end
end

for _, name in ipairs { "lower", "reverse", "sub", "upper" } do
  strings[name] = rested(string[name])
end

local OUT_OF_MEMORY = "not enough memory"

-- What Lua says of arguments names whoever called the function, which shall not be a function from here.
local function located(ok, ...)
  if ok then return ... end
  local err = ...
  -- What has a place is from a script's `__tostring`.
  if type(err) == "string" and err ~= OUT_OF_MEMORY and not string.find(err, "^[^:\n]*:%d+:") then
    error((string.gsub(err, "'string%.", "'", 1)), 2)
  end
  error(err, 0)
end

-- So many are looked at one by one.
local FEW_ARGUMENTS = 8

-- Rests, too, where any argument may be the long one.
local function all_rested(f)
  return function(...)
    local n = select("#", ...)
    if n > FEW_ARGUMENTS then
      rest()
    else
      for i = 1, n do
        local value = select(i, ...)
        if type(value) == "string" and #value > LONG then
          rest()
          break
        end
      end
    end
    return located(pcall(f, ...))
  end
end

for _, name in ipairs { "format", "pack", "packsize", "unpack" } do
  strings[name] = all_rested(string[name])
end

function strings.rep(s, n, separator)
  if mtype(n) == "integer" and n <= 64 and type(s) == "string" then return srep(s, n, separator) end
  return rep(s, n, separator)
end

local function gmatch_found(state, first, last, ...)
  if first == nil then
    state.position = nil
    return nil
  end
  state.position, state.last = last + 1, last + 1
  return ...
end

function strings.gmatch(s, pattern, init)
  local state = { position = native.start(s, pattern, init), last = 0 }
  return function()
    if state.position == nil then return nil end
    return gmatch_found(state, search(s, pattern, state.position, state.last, false, false))
  end
end

local function replacement(repl, is_table, whole, first, ...)
  local value
  if is_table then value = repl[first] else value = repl(first, ...) end
  if not value then
    return whole
  elseif type(value) == "string" then
    return value
  elseif type(value) == "number" then
    return tostring(value)
  end
  error("invalid replacement value (a " .. type(value) .. ")", 4)
end

local function gsub_found(state, s, repl, is_table, first, last, ...)
  if first == nil then return false end
  local parts, n = state.parts, state.n
  parts[n + 1] = sub(s, state.copied, first - 1)
  parts[n + 2] = replacement(repl, is_table, sub(s, first, last), ...)
  state.n, state.count = n + 2, state.count + 1
  state.copied, state.position, state.last = last + 1, last + 1, last + 1
  return true
end

-- With a function or a table, so that what they run can be suspended.
local function gsub_with(s, pattern, repl, limit)
  local is_table = type(repl) == "table"
  s, limit = tostring(s), limit or #s + 1
  local anchored = sub(pattern, 1, 1) == "^"
  local state = { parts = {}, n = 0, count = 0, copied = 1, position = 1, last = 0 }
  while state.count < limit do
    if not gsub_found(state, s, repl, is_table, search(s, pattern, state.position, state.last, true, is_table)) then break end
    if anchored then break end
  end
  state.parts[state.n + 1] = sub(s, state.copied)
  return table.concat(state.parts), state.count
end

function strings.gsub(s, pattern, repl, limit)
  local kind = type(repl)
  if (kind == "function" or kind == "table") and (type(s) == "string" or type(s) == "number")
    and type(pattern) == "string" and (limit == nil or mtype(limit) == "integer") then
    return gsub_with(s, pattern, repl, limit)
  elseif kind ~= "string" and kind ~= "number" then
    error("bad argument #3 to 'gsub' (string/function/table expected, got " .. kind .. ")", 2)
  end
  return native.gsub(s, pattern, repl, limit)
end

-- Tables ---------------------------------------------------------------------------------------------------------

-- Where there are metamethods, or more elements than this, the work is done in Lua, where it can be suspended.
local FEW = 4096

local function is_plain(t)
  return type(t) == "table" and getmetatable(t) == nil
end

local function length(t, f)
  local n = mtype(#t) == "integer" and #t or tointeger(#t)
  if n == nil then error("object length is not an integer", 3) end
  return n
end

local function check_list(t, f, position)
  if type(t) ~= "table" and getmetatable(t) == nil then
    error("bad argument #" .. (position or 1) .. " to '" .. f .. "' (table expected, got " .. type(t) .. ")", 3)
  end
end

local function check_integer(value, default, f, position)
  if value == nil and default ~= nil then return default end
  local n = tointeger(value)
  if n == nil and type(value) == "string" then n = tointeger(tonumber(value)) end
  if n == nil then
    local got = type(value) == "number" and "number has no integer representation"
      or "number expected, got " .. (value == nil and "no value" or type(value))
    error("bad argument #" .. position .. " to '" .. f .. "' (" .. got .. ")", 3)
  end
  return n
end

local concat, insert, move, remove = table.concat, table.insert, table.move, table.remove
local pack, unpack = table.pack, table.unpack

local tables = { pack = pack }

local function check_part(value, i)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "number" then return tostring(value) end
  error("invalid value (at index " .. i .. ") in table for 'concat'", 3)
end

local function concat_slowly(t, separator, first, last)
  local parts, n = {}, 0
  local i = first
  while i <= last do
    local part, m, until_ = {}, 0, last
    if last - i >= FEW or last - i < 0 then until_ = i + FEW - 1 end
    for k = i, until_ do
      m = m + 1
      part[m] = check_part(t[k], k)
    end
    n = n + 1
    parts[n] = concat(part, separator)
    if until_ == last then break end
    i = until_ + 1
  end
  if n <= FEW then return concat(parts, separator) end
  return concat_slowly(parts, separator, 1, n)
end

function tables.concat(t, separator, first, last)
  if is_plain(t) and rawlen(t) <= FEW and first == nil and last == nil then
    return concat(t, separator)
  end
  check_list(t, "concat")
  if separator == nil then
    separator = ""
  elseif type(separator) == "number" then
    separator = tostring(separator)
  elseif type(separator) ~= "string" then
    error("bad argument #2 to 'concat' (string expected, got " .. type(separator) .. ")", 2)
  end
  first = check_integer(first, 1, "concat", 3)
  last = check_integer(last, length(t), "concat", 4)
  return concat_slowly(t, separator, first, last)
end

function tables.insert(t, ...)
  if is_plain(t) and rawlen(t) <= FEW then return insert(t, ...) end
  check_list(t, "insert")
  local n, count = length(t) + 1, select("#", ...)
  if count == 1 then
    t[n] = (...)
    return
  elseif count ~= 2 then
    error("wrong number of arguments to 'insert'", 2)
  end
  local position, value = ...
  position = check_integer(position, nil, "insert", 2)
  if position < 1 or position > n then
    error("bad argument #2 to 'insert' (position out of bounds)", 2)
  end
  for i = n, position + 1, -1 do t[i] = t[i - 1] end
  t[position] = value
end

function tables.remove(t, ...)
  if is_plain(t) and rawlen(t) <= FEW then return remove(t, ...) end
  check_list(t, "remove")
  local n = length(t)
  local position = n
  if select("#", ...) > 0 then
    position = check_integer((...), nil, "remove", 2)
    if n + 1 ~= position and (position < 1 or position > n + 1) and not (n == 0 and position == 0) then
      error("bad argument #2 to 'remove' (position out of bounds)", 2)
    end
  end
  local value = t[position]
  while position < n do
    t[position] = t[position + 1]
    position = position + 1
  end
  t[position] = nil
  return value
end

function tables.move(from, first, last, to, into)
  first = check_integer(first, nil, "move", 2)
  last = check_integer(last, nil, "move", 3)
  to = check_integer(to, nil, "move", 4)
  if into == nil then into = from end
  if is_plain(from) and is_plain(into) and (last < first or (last - first >= 0 and last - first < FEW)) then
    return move(from, first, last, to, into)
  end
  check_list(from, "move")
  check_list(into, "move", 5)
  if last < first then return into end
  if not (first > 0 or last < math.maxinteger + first) then
    error("bad argument #3 to 'move' (too many elements to move)", 2)
  elseif to > math.maxinteger - (last - first) then
    error("bad argument #4 to 'move' (destination wrap around)", 2)
  end
  if to > last or to <= first or not rawequal(from, into) then
    for i = 0, last - first do into[to + i] = from[first + i] end
  else
    for i = last - first, 0, -1 do into[to + i] = from[first + i] end
  end
  return into
end

function tables.unpack(t, first, last)
  if is_plain(t) then return unpack(t, first, last) end
  first = check_integer(first, 1, "unpack", 2)
  last = check_integer(last, last == nil and length(t) or nil, "unpack", 3)
  if first > last then return end
  if last - first < 0 or last - first >= 1000000 then error("too many results to unpack", 2) end
  local values = {}
  for i = first, last do values[i - first + 1] = t[i] end
  return unpack(values, 1, last - first + 1)
end

local function is_less(a, b)
  return a < b
end

local function sort_run(a, first, last, less)
  for i = first + 1, last do
    local value, j = a[i], i - 1
    while j >= first and less(value, a[j]) do
      a[j + 1] = a[j]
      j = j - 1
    end
    a[j + 1] = value
  end
end

local function merge(from, into, first, middle, last, less)
  local i, j = first, middle
  for k = first, last do
    if i < middle and (j > last or not less(from[j], from[i])) then
      into[k] = from[i]
      i = i + 1
    else
      into[k] = from[j]
      j = j + 1
    end
  end
end

-- Merges a copy, so that an error leaves the table as it was, and no comparison function can make it last longer.
function tables.sort(t, less)
  check_list(t, "sort")
  local n = length(t)
  if n < 2 then return end
  if n >= 2147483647 then error("bad argument #1 to 'sort' (array too big)", 2) end
  if less == nil then
    less = is_less
  elseif type(less) ~= "function" then
    error("bad argument #2 to 'sort' (function expected, got " .. type(less) .. ")", 2)
  end
  local a, b = {}, {}
  for i = 1, n do a[i] = t[i] end
  local width = 8
  for first = 1, n, width do
    local last = first + width - 1
    sort_run(a, first, last < n and last or n, less)
  end
  while width < n do
    for first = 1, n, 2 * width do
      local middle, last = first + width, first + 2 * width - 1
      if last > n then last = n end
      if middle > n then
        for k = first, last do b[k] = a[k] end
      else
        merge(a, b, first, middle, last, less)
      end
    end
    a, b = b, a
    width = 2 * width
  end
  for i = 1, n do t[i] = a[i] end
end

-- UTF-8 ----------------------------------------------------------------------------------------------------------

local texts = {}
for name, value in pairs(utf8) do texts[name] = value end
texts.len, texts.offset = rested(utf8.len), rested(utf8.offset)

-- The environment ------------------------------------------------------------------------------------------------

local libraries = {
  coroutine = coroutines,
  frame = { get = native.frame_get },
  log = log,
  math = math,
  string = strings,
  table = tables,
  utf8 = texts,
}

local names = { _G = true }
for name in pairs(base) do names[name] = true end
for name in pairs(libraries) do names[name] = true end
for name, module in pairs(native.modules) do libraries[name] = module end

-- Made once, on the first use in a call: what is not used costs nothing.
local function __index(env, name)
  local value = base[name]
  if value ~= nil then
    rawset(env, name, value)
    return value
  end
  local library = libraries[name]
  if library then
    local copy = {}
    for key, member in next, library do copy[key] = member end
    if name == "math" then math.randomseed() end
    rawset(env, name, copy)
    return copy
  end
  if name == "_G" then
    rawset(env, "_G", env)
    return env
  end
end

local environment_of = { __index = __index, __metatable = false }

-- What `("x"):rep(2)` finds. No script can reach the table.
local string_metatable = getmetatable("")
string_metatable.__index = strings
string_metatable.__metatable = false

local function failed(err)
  if type(err) == "string" then native.trace() end
  return err
end

local function finished(...)
  environment, main = nil, nil
  return ...
end

-- On the thread that the host runs, where the hook does nothing: the host cuts the stack of a thread that yields, which
-- only one that called `yield` survives. So the script is in a coroutine of its own.
local function driven(ok, ...)
  if not ok then
    return false, ...
  elseif status(main) == "dead" then
    return ...
  end
  -- A host function that waits yields a mark.
  if (...) == nil then note_suspended() end
  yield(...)
  return driven(resume(main))
end

return {
  names = names,
  run = function(script, payload)
    environment, main = setmetatable({}, environment_of), create(xpcall)
    return finished(driven(resume(main, script(environment), failed, payload)))
  end,
}
