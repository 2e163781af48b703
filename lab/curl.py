"""The lab's ``curl``: the few options that containers of the lab use, with curl's exit codes. Standard library only.

In a pod VM without a network namespace of its own, ``LAB_GUEST_API`` names the unix socket that stands for
127.0.0.1:8006.
"""

from __future__ import annotations

import argparse
import http.client
import os
import socket
import sys
from typing import NoReturn
from urllib.parse import urlsplit

GUEST_API = ("127.0.0.1", 8006)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("127.0.0.1", 8006, timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"curl: (2) {message}; the lab's curl knows -s -S -f -o -m -X -H -d -w", file=sys.stderr)
        sys.exit(2)


def parser() -> Parser:
    options = Parser(prog="curl", add_help=False, allow_abbrev=False)
    options.add_argument("-s", "--silent", action="store_true")
    options.add_argument("-S", "--show-error", action="store_true")
    options.add_argument("-f", "--fail", action="store_true")
    options.add_argument("-o", "--output")
    options.add_argument("-m", "--max-time", type=float)
    options.add_argument("--connect-timeout", type=float)
    options.add_argument("-X", "--request")
    options.add_argument("-H", "--header", action="append", default=[])
    options.add_argument("-d", "--data")
    options.add_argument("-w", "--write-out", default="")
    options.add_argument("url")
    return options


def main(arguments: list[str]) -> int:
    """One transfer; curl's exit code: 0, 3 URL, 7 no connection, 22 HTTP error with --fail, 23 write, 28 time-out."""
    options = parser().parse_args(arguments)
    quiet = options.silent and not options.show_error

    def failed(code: int, text: str) -> int:
        if not quiet:
            print(f"curl: ({code}) {text}", file=sys.stderr)
        return code

    url = urlsplit(options.url if "://" in options.url else f"http://{options.url}")
    if url.scheme != "http" or not url.hostname:
        return failed(1, f'Protocol "{url.scheme}" not supported')
    port = url.port or 80
    api = os.environ.get("LAB_GUEST_API")
    timeout = options.max_time or options.connect_timeout
    connection: http.client.HTTPConnection
    if api and (url.hostname, port) == GUEST_API:
        connection = UnixConnection(api, timeout)
    else:
        connection = http.client.HTTPConnection(url.hostname, port, timeout=timeout)
    method = options.request or ("POST" if options.data is not None else "GET")
    headers = {name.strip(): value.strip() for name, _, value in (h.partition(":") for h in options.header)}
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        connection.request(method, target, options.data, headers)
        answer = connection.getresponse()
        body = answer.read()
    except TimeoutError:
        return failed(28, f"Operation timed out after {int((timeout or 0) * 1000)} milliseconds")
    except (OSError, http.client.HTTPException):
        return failed(7, f"Failed to connect to {url.hostname} port {port}: Connection refused")
    if options.fail and answer.status >= 400:
        return failed(22, f"The requested URL returned error: {answer.status}")
    try:
        if options.output and options.output != "/dev/null":
            with open(options.output, "wb") as file:
                file.write(body)
        elif not options.output:
            sys.stdout.buffer.write(body)
    except OSError:
        return failed(23, "Failure writing output to destination")
    sys.stdout.write(options.write_out.replace("%{http_code}", str(answer.status)).replace("\\n", "\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
