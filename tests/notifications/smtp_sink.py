"""A mail server for tests, which keeps what it receives and gives the answers that a test sets."""

import asyncio
import email.policy
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

logging.getLogger("mail.log").setLevel(logging.WARNING)  # of aiosmtpd, which logs each command
TAKEN = "take it and hang up"
PASSWORD = b"correct horse"


@dataclass(frozen=True)
class Mail:
    """One message that was received, with its envelope."""

    sender: str
    recipients: list[str]
    content: bytes
    message: EmailMessage


class Sink:
    """The handler: `answers` by command (RCPT, DATA, …) are used until a test changes them; `mails` were received.

    The answer "hang up" closes the connection without an answer. One that begins with 421 closes it afterwards.
    """

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self.answers: dict[str, str] = {}
        self.seconds = 0.0  # before DATA is answered
        self.mood: Callable[[bytes], str] | None = None  # chooses the answer to DATA by the content
        self.logins: list[bytes] = []
        self.port = 0

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name, as those below
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        return self._said(server, "MAIL")

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = self._said(server, "RCPT")
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(self.seconds)
        content = bytes(envelope.content or b"")
        if self.mood is not None:
            self.answers["DATA"] = self.mood(content)
        answer = self._said(server, "DATA")
        if answer.startswith("2") or answer == TAKEN:
            message: Any = email.message_from_bytes(content, policy=email.policy.default)
            self.mails.append(Mail(str(envelope.mail_from), list(envelope.rcpt_tos), content, message))
        return answer

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        return self._said(server, "QUIT", "221 bye")

    def authenticate(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """Accept everybody who has the password, unless `answers` has another answer to AUTH."""
        self.logins.append(data.login)
        if "AUTH" in self.answers:
            return AuthResult(success=False, handled=False, message=self.answers["AUTH"])
        return AuthResult(success=data.password == PASSWORD, handled=False)

    def _said(self, server: SMTP, command: str, otherwise: str = "250 OK") -> str:
        answer = self.answers.get(command, otherwise)
        if answer in ("hang up", TAKEN) and server.transport is not None:
            server.transport.abort()
        elif answer.startswith("421") and server.transport is not None:
            server.loop.call_later(0.05, server.transport.close)
        return answer


class _Controller(Controller):
    def _trigger_server(self) -> None:
        assert self.server is not None
        self.port = self.server.sockets[0].getsockname()[1]  # the port that the system chose for 0
        super()._trigger_server()


@contextmanager
def sinking() -> Iterator[Sink]:
    """Run a server on loopback, in a thread, while the block runs."""
    sink = Sink()
    controller = _Controller(
        sink, hostname="127.0.0.1", port=0, auth_require_tls=False, authenticator=sink.authenticate, ready_timeout=10
    )
    controller.start()
    try:
        sink.port = controller.port
        yield sink
    finally:
        controller.stop()


@contextmanager
def greeting(words: bytes) -> Iterator[int]:
    """The port of a server that sends these words to its first client, and nothing more until the block ends."""
    clients = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            client, _ = server.accept()
            clients.append(client)
            client.sendall(words)

        threading.Thread(target=greet, daemon=True).start()
        yield server.getsockname()[1]
        for client in clients:
            client.close()
