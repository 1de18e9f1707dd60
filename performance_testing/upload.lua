-- For wrk: uploads the pictures of PICTURES, a list of paths with colons, in turn, in the form field FIELD.
local field, bodies = os.getenv("FIELD"), {}
for path in string.gmatch(os.getenv("PICTURES"), "[^:]+") do
  local file = assert(io.open(path, "rb"))
  local head = '--BB\r\nContent-Disposition: form-data; name="%s"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
  bodies[#bodies + 1] = string.format(head, field) .. file:read("*a") .. "\r\n--BB--\r\n"
  file:close()
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "multipart/form-data; boundary=BB"
local next = 0
request = function()
  next = next % #bodies + 1
  return wrk.format("POST", "/predict", nil, bodies[next])
end
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  local seconds, p99 = summary.duration / 1e6, latency:percentile(99) / 1e3
  io.write(string.format("RESULT %d %.3f %.1f %d\n", summary.requests, seconds, p99, failed))
end
