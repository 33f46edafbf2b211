local trace = frame.get("trace")
return {
  ["function"] = frame.get("function"),
  pid = frame.get("pid"),
  traceparent = trace and trace.traceparent,
}
