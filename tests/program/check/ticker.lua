local process = process
process.receive()
