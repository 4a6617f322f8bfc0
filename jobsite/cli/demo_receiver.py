"""The server that the demo's requests go to. It listens on loopback and accepts webhooks with a valid signature."""

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError


class Receiver(ThreadingHTTPServer):
    """Listens on a free port and has the secret of the webhooks that it expects."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])


class _Request(BaseHTTPRequestHandler):
    server: Receiver

    def do_GET(self) -> None:
        self._answer(200, b'{"alive": true}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        try:
            Webhook(self.server.secret).verify(body, dict(self.headers))
        except WebhookVerificationError:
            self._answer(401, b'{"error": "the signature is not valid"}')
        else:
            self._answer(202, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver while the block runs."""
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True, kwargs={"poll_interval": 0.1}).start()
        try:
            yield receiver
        finally:
            receiver.shutdown()
