-- Reads a file. Paths begin at the directory of the frame, and there is no way out of it.
return fs.read(...)
