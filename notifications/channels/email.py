"""E-mail: one message to one address, by the server that Django's settings name."""

import re
import smtplib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import parseaddr
from typing import Any

import idna
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.validators import validate_email

from jobsite.errors import Invalid
from jobsite.notifications.channels import one_line
from jobsite.notifications.channels.base import DeliveryFailed, Outgoing

MAX_ADDRESS = 254  # RFC 5321 4.5.3.1.3: a path has 256 octets, two of them its brackets
# Django accepts a quoted local part, which may hide a second address or control characters, and an IP address as host.
_TRICKS = re.compile(r'[\s\x00-\x1f\x7f-\x9f"\\<>()\[\],;:]')


def send(message: Outgoing) -> str:
    """Hand it to the mail server, and return which server took it.

    Raises DeliveryFailed: final where the address is invalid, or the server answered 5xx (to the log-in, the sender,
    the recipient or the message); to be tried again where it answered 4xx, could not be reached or broke off.
    """
    try:
        address = check_address(message.address)
    except Invalid as error:
        raise DeliveryFailed(str(error), is_final=True) from error
    connection = get_connection()
    try:
        with _within(message.seconds, connection) as is_over:
            connection.open()
            _mail(message, address, connection).send()
    except OSError as error:  # the base of all errors of smtplib
        if is_over.is_set():
            raise DeliveryFailed(f"{_place(connection)} had not taken it after {message.seconds:g} s") from error
        raise _failed(error, connection, address) from error
    except ValueError as error:
        raise DeliveryFailed(f"this cannot be written as an e-mail: {one_line(str(error))}", is_final=True) from error
    finally:
        # A message that was accepted stays accepted, even where closing fails.
        with suppress(OSError):
            connection.close()
    return f"{_place(connection)} took it for {address}"


@contextmanager
def _within(seconds: float, connection: Any) -> Iterator[threading.Event]:
    """Hang up when the block takes longer: EMAIL_TIMEOUT limits each answer, and a slow server may give many."""
    is_over = threading.Event()

    def hang_up() -> None:
        is_over.set()
        if (server := getattr(connection, "connection", None)) is not None and server.sock is not None:
            with suppress(OSError):
                server.sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield is_over
    finally:
        timer.cancel()


def check_address(address: str) -> str:
    """The address with its domain in ASCII, as in DNS; raises Invalid unless it is one plain address."""
    address = address.strip(" ")
    shown = one_line(address, limit=80)
    if _TRICKS.search(address):
        raise Invalid(f"{shown!r} is not one plain e-mail address, such as name@example.org")
    local, _, domain = address.rpartition("@")
    try:
        # Not left to Django, by whose older rules `straße.de` would be another domain, `strasse.de`.
        address = f"{local}@{_ascii(domain)}"
        validate_email(address)
    except (idna.IDNAError, ValidationError) as error:
        raise Invalid(f"{shown!r} is not a valid e-mail address") from error
    if len(address) > MAX_ADDRESS:
        raise Invalid(f"an e-mail address has at most {MAX_ADDRESS} characters, not {len(address):,}")
    return address


def _mail(message: Outgoing, address: str, connection: Any) -> EmailMultiAlternatives:
    headers = {
        "Message-ID": f"<{message.identity}@{_own_domain()}>",
        "Auto-Submitted": "auto-generated",
        "X-Jobsite-Event": message.event,
        "Content-Language": message.language,
    }
    mail = EmailMultiAlternatives(
        # No encoded words in the text of others: a mail program would decode them.
        one_line(message.subject.replace("=?", "= ?")),
        message.text,
        to=[address],
        connection=connection,
        headers={name: one_line(value) for name, value in headers.items()},
    )
    if message.html:
        mail.attach_alternative(message.html, "text/html")
    return mail


def _own_domain() -> str:
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    return _ascii(domain) or "localhost"


def _ascii(domain: str) -> str:
    """The domain in ASCII, by UTS 46; an ASCII domain is only made lower case, since DNS has more names than IDNA."""
    return domain.lower() if domain.isascii() else idna.encode(domain, uts46=True).decode()


def _failed(error: OSError, connection: Any, address: str) -> DeliveryFailed:
    place = _place(connection)
    code, words = _answer(error)
    if code:
        greets = isinstance(
            error, smtplib.SMTPConnectError | smtplib.SMTPHeloError
        )  # about the server, not about the message
        return DeliveryFailed(f"{place} answered {code} for {address}: {words}", is_final=code >= 500 and not greets)
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return DeliveryFailed(f"{place} did not answer within {settings.EMAIL_TIMEOUT} s")
    if isinstance(error, smtplib.SMTPException):
        return DeliveryFailed(f"{place} did not take it for {address}: {one_line(str(error))}")
    return DeliveryFailed(f"{place} cannot be reached: {one_line(error.strerror or str(error))}")


def _answer(error: OSError) -> tuple[int, str]:
    """The server's code and words; 0 where its answer was not SMTP."""
    code: int = 0
    words: bytes | str = ""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, words = next(iter(error.recipients.values()))
    elif isinstance(error, smtplib.SMTPResponseException):
        code, words = error.smtp_code, error.smtp_error
    text = words.decode(errors="replace") if isinstance(words, bytes) else words
    return (code if code >= 400 else 0), one_line(text)


def _place(connection: Any) -> str:
    """The server's name and port, or the kind of a connection that has none."""
    if host := getattr(connection, "host", None):
        return f"{host}:{connection.port}"
    return f"the mail connection {type(connection).__module__.rpartition('.')[2]}"
