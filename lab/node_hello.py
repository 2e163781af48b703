"""What the image ``origin-hello-openshift`` does: an HTTP server with one sentence. Standard library only, because it
also runs inside pod VMs."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"Hello OpenShift!\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        print("Servicing request.", flush=True)


def serve(address: str) -> None:
    """Serve ports 8080 and 8888 for ever."""
    servers = [ThreadingHTTPServer((address, port), Hello) for port in (8080, 8888)]
    print("lab-hello: stand-in for origin-hello-openshift (any)", flush=True)
    for server in servers:
        print(f"serving on {server.server_port}", flush=True)
    threading.Thread(target=servers[1].serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    serve(os.environ.get("LAB_POD_ADDRESS", "0.0.0.0"))
