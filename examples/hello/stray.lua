-- Tries to have another function fetch around the network that this call has. That is refused: a script may choose the
-- network that it has already, or one that the manifest calls `selectable`.
return call("hello:fetch-anyhow", ..., { network = "hello:lan" })
