"""An HTTP server for tests. It records its requests and answers as the test says."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Request(BaseHTTPRequestHandler):
    """One request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    server: "Receiver"
    body: bytes = b""

    def do_GET(self) -> None:
        if self.path != "/swallow":
            self.body = self.rfile.read(int(self.headers["content-length"] or 0))
        self.server.seen.append(self)
        self.server.answer(self)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = do_GET  # noqa: N815 - http.server's names

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def drip(self) -> None:
        """Send a byte of the body now and then, for ever."""
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        self._write_for_ever(b"x", pause=0.05)

    def drip_headers(self) -> None:
        """Send a header now and then, for ever."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._write_for_ever(b"X: y\r\n", pause=0.05)

    def swallow_slowly(self) -> None:
        """Read the request's body slowly."""
        self.close_connection = True
        while self.rfile.read(65_536):
            time.sleep(0.2)

    def pour(self, status: int = 200, **headers: str) -> None:
        """Send a body larger than the client reads."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(10**9))
        self.end_headers()
        self._write_for_ever(b"x" * 65_536, pause=0.0)

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self.close_connection = True

    def _write_for_ever(self, what: bytes, *, pause: float) -> None:
        self.close_connection = True
        try:
            while True:
                self.wfile.write(what)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:
            return


class Receiver(ThreadingHTTPServer):
    """The server. `seen` are its requests, in order."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[Request], None]) -> None:
        super().__init__(("0.0.0.0", 0), Request)
        self.seen: list[Request] = []
        self.answer = answer

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def handle_error(self, *args: Any) -> None:
        """Print nothing when a client closes its connection."""


@contextmanager
def receiving(answer: Callable[[Request], None]) -> Iterator[Receiver]:
    """A server that answers while the block runs."""
    with Receiver(answer) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True, kwargs={"poll_interval": 0.05}).start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
