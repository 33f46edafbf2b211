-- A script can only take away: what it calls here has no network at all.
local url = ...
local ok, failure = pcall(call, 'shop:fetch', url, { egress = {} })
return { fetched = ok, message = ok or failure.message }
