"""The client: send one request, follow its redirects, and read the answer within a limit of time and size."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import httpx2
from django.conf import settings

from jobsite.outgoing.errors import OutgoingError, OutgoingRefused, OutgoingTimeout
from jobsite.outgoing.transport import CHUNK, Transport
from jobsite.outgoing.urls import check_url, origin, redirect_of

MAX_REDIRECTS = 3
MAX_BYTES = 64 * 1024
OWN_HEADERS = {"user-agent": f"jobsite/{version('jobsite')}", "accept": "*/*", "accept-encoding": "identity"}
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")


@dataclass(frozen=True)
class Answer:
    """The answer of the last URL: the body as it was sent, cut (`is_cut`) where it is longer than asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool
    url: str
    seconds: float


def send(
    method: str,
    url: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    max_bytes: int = MAX_BYTES,
    max_redirects: int = MAX_REDIRECTS,
) -> Answer:
    """Send a request and read its answer within so many seconds, redirects included.

    At most `max_bytes` of the last body are read; it is not decompressed, and other bodies are not read. GET and HEAD
    follow any redirect. Other methods follow only 307 and 308, which keep the method, within their origin. A redirect
    that is not followed is the answer. Another origin gets none of the headers.

    Raises OutgoingRefused where the request must not be sent or is invalid (address, scheme, port, headers, from https
    to http, too many redirects), OutgoingTimeout when the time is up, OutgoingError where no answer came.
    """
    target = check_url(url)
    began = time.monotonic()
    sent = _checked(headers or {})
    with _errors(url, seconds, began + seconds), _client(began + seconds) as client:
        for _ in range(max_redirects + 1):
            request = client.build_request(method, target, headers=OWN_HEADERS | sent, content=body or None)
            response = client.send(request, stream=True)
            try:
                onward = redirect_of(response, method) if max_redirects else None
                if onward is None:
                    content, is_cut = _read(response, max_bytes)
                    taken = time.monotonic() - began
                    return Answer(response.status_code, dict(response.headers), content, is_cut, str(target), taken)
            finally:
                response.close()
            if origin(onward) != origin(target):
                sent = {}
            target = onward
    raise OutgoingRefused(f"{url}: more than {max_redirects} redirects")


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers by names in lower case; of two with one name the last. An error does not repeat the value."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise OutgoingRefused(f"{name!r} is not a valid header name")
        if not _HEADER_VALUE.fullmatch(value):
            raise OutgoingRefused(f"header {name}: its value has characters that are not allowed, or spaces at an end")
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def _errors(url: str, seconds: float, deadline: float) -> Iterator[None]:
    """Turn a library's errors into our own; what a library says about headers is not repeated."""
    try:
        yield
    except OutgoingError:
        raise
    except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, ValueError) as error:
        raise OutgoingRefused(f"{url}: the request cannot be sent as it is ({type(error).__name__})") from error
    except httpx2.TimeoutException as error:
        if time.monotonic() < deadline:  # the other side's system gave up before us
            raise OutgoingError(f"{url}: {str(error) or 'timed out'}") from error
        raise OutgoingTimeout(f"{url}: no answer within {seconds:g} s") from error
    except httpx2.HTTPError as error:
        raise OutgoingError(f"{url}: {str(error) or type(error).__name__}") from error


def _client(deadline: float) -> httpx2.Client:
    transport = Transport(deadline, settings.JOBSITE_ALLOWED_NETWORKS)
    # The transport alone limits the time: its deadline is for the whole request.
    return httpx2.Client(transport=transport, timeout=None, follow_redirects=False, trust_env=False)


def _read(response: httpx2.Response, max_bytes: int) -> tuple[bytes, bool]:
    content = bytearray()
    for chunk in response.iter_raw(CHUNK):
        content += chunk
        if len(content) > max_bytes:
            return bytes(content[:max_bytes]), True
    return bytes(content), False
