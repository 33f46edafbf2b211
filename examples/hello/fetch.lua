-- The request takes the network of this call's frame. There is no other way out.
local url = ...
local response = http.get(url)
return { status = response.status, body = response.body }
