-- The environment of scripts, run once in every VM. A script never sees this chunk's locals.
--
-- Nothing that a script does to its environment or a library outlives its call: both are fresh tables in every call. They
-- are filled on first use, so that what a script does not use costs nothing.
local base, libraries, seed = ...

local next, rawset, randomseed = next, rawset, libraries.math.randomseed

local environment = { __metatable = false }

function environment.__index(env, name)
  local value = base[name]
  if value == nil then
    local library = libraries[name]
    if library then
      value = {}
      for key, member in next, library do value[key] = member end
      if name == "math" then randomseed(seed()) end
    elseif name == "_G" then
      value = env
    else
      return nil
    end
  end
  rawset(env, name, value)
  return value
end

return environment
