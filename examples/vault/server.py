"""A server for this example. It shows the requests that it gets, and repeats them at /echo."""

import json
import pathlib
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TLS = pathlib.Path(__file__).parent / "tls"


class Payments(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        print(self.requestline, "with", f"authorization: {self.headers.get('authorization')}", flush=True)
        body = json.dumps({"receipt": "r-1"})
        if self.path == "/echo":
            body = str(self.headers)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 8443), Payments)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("payments at https://localhost:8443/", flush=True)
server.serve_forever()
