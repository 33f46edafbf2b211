-- Tries to see the key, or to have it sent elsewhere. Returns how each attempt ends.
local function try(url, options)
  local ok, answer = pcall(http.request, { url = url, secret = "vault:key", method = options and options.method,
                                           headers = options and options.headers })
  return ok and "got " .. answer.body or answer.kind .. ": " .. answer.message
end

return {
  -- The server repeats what it is sent.
  echo = try("https://localhost:8443/echo"),
  trace = try("https://localhost:8443/", { method = "TRACE" }),
  -- Another name for the same server, another port, and no TLS.
  elsewhere = try("https://127.0.0.1:8443/"),
  port = try("https://localhost:9443/"),
  cleartext = try("http://localhost:8443/"),
  -- A header of its own beside that of the key.
  own = try("https://localhost:8443/", { headers = { authorization = "Bearer mine" } }),
  -- What the frame says: a name.
  frame = frame.get("net.secrets"),
}
