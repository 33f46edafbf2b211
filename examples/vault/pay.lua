-- Names the key, and does not get it.
local response = http.post("https://localhost:8443/charges", nil, {
  secret = "vault:key",
  json = { amount = ... or 100, currency = "eur" },
})
return { status = response.status, receipt = response:json().receipt }
