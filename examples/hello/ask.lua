-- Has another function fetch. Whatever network this call's frame carries, the other's does, too.
return call("hello:fetch-anyhow", ...)
