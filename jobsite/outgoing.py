"""Everything that goes out by HTTP, and the guard that says where to.

Users write the URLs. What they name is resolved here, every address that comes out is judged, and the connection goes
to one of those, not to what the name may mean a moment later; so at every redirect. Nothing is read from the
environment, so that no proxy asks in our place.
"""

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import httpcore2
import httpx2
from django.conf import settings

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_REDIRECTS = 3
MAX_BYTES = 64 * 1024
MAX_URL = 8 * 1024
CHUNK = 16 * 1024
CONNECT_SECONDS = 10.0  # for one of several addresses
WEB_PORTS = (80, 443)
FIRST_FREE_PORT = 1024
OWN_HEADERS = {"user-agent": f"jobsite/{version('jobsite')}", "accept": "*/*", "accept-encoding": "identity"}

# The special registries of IANA, and what clouds put at public addresses. What is not listed of IPv4 is public; of IPv6
# only what is listed at the end.
_FORBIDDEN: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("169.254.169.254/32", "a cloud's metadata address"),
        ("168.63.129.16/32", "a cloud's metadata address"),
        ("100.100.100.200/32", "a cloud's metadata address"),
        ("fd00:ec2::254/128", "a cloud's metadata address"),
        ("0.0.0.0/8", "an address of this host"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a carrier's shared address"),
        ("127.0.0.0/8", "a loopback address"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a protocol's own address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "an address of 6to4 relays"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for benchmarks"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
        ("::/128", "an address of this host"),
        ("::1/128", "a loopback address"),
        ("::/96", "an IPv4 address written as IPv6"),
        ("64:ff9b::/96", "an IPv4 address behind NAT64"),
        ("64:ff9b:1::/48", "an IPv4 address behind NAT64"),
        ("100::/64", "an address that goes nowhere"),
        ("2001::/32", "an IPv4 address behind Teredo"),
        ("2001:db8::/32", "an address for documentation"),
        ("2001::/23", "a protocol's own address"),
        ("2002::/16", "an IPv4 address behind 6to4"),
        ("3fff::/20", "an address for documentation"),
        ("5f00::/16", "an address of segment routing"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
    )
)
_HOST = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")
_ADDRESS = re.compile(r"(?:\w+\.)*(?:\d+|0[xX][0-9A-Fa-f]+)|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")  # in whatever spelling
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)?")
_PUBLIC_IPV6 = ip_network("2000::/3")


class OutgoingError(Exception):
    """A request came to no answer; it may be tried again."""

    says_all = True


class OutgoingTimeout(OutgoingError):
    """No whole answer came in time."""


class OutgoingRefused(OutgoingError):
    """A request that must not be made, or makes no sense; no new try helps. The message says what and why."""


@dataclass(frozen=True)
class Answer:
    """What came back: the body as it was sent, at most as long as asked for (else `is_cut`), from the last URL."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool
    url: str
    seconds: float


def forbidden(address: Address, allowed: Iterable[Network]) -> str | None:
    """Why nothing goes to this address, in words; None where it may. `allowed` opens what is closed by itself."""
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or IPv6Address(int(address))  # without a scope, which is the link's
    if any(address in network for network in allowed):
        return None
    for network, kind in _FORBIDDEN:
        if address in network:
            return kind
    if isinstance(address, IPv6Address) and address not in _PUBLIC_IPV6:
        return "no public address"
    return None


def check_url(url: str) -> httpx2.URL:
    """The URL; raises OutgoingRefused for one that is none, is not of http or https, has no host, or has a password."""
    if len(url) > MAX_URL:
        raise OutgoingRefused(f"a URL has at most {MAX_URL:,} characters, not {len(url):,}")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise OutgoingRefused(f"{url!r} is no URL: {error}") from error
    _check(parsed)
    return parsed


def _check(url: httpx2.URL) -> None:
    shown = str(url.copy_with(username=None, password=None)) if url.userinfo else str(url)
    if url.scheme not in ("http", "https"):
        raise OutgoingRefused(f"{shown}: only http:// and https:// go out, not {url.scheme or 'without a scheme'}")
    if not _HOST.fullmatch(url.raw_host):
        raise OutgoingRefused(f"{shown} names no host that there may be")
    if url.userinfo:
        raise OutgoingRefused(f"{shown} carries a user name or password; send an Authorization header instead")
    if url.port is not None and url.port not in WEB_PORTS and url.port < FIRST_FREE_PORT:
        raise OutgoingRefused(f"{shown}: port {url.port} belongs to another service; use 80, 443 or 1024 and above")


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
    """Send a request and read its answer within so many seconds, redirects and all.

    Of a body `max_bytes` are read, and nothing of one that is not the last; it is not unpacked. A GET or HEAD follows
    any redirect, another method those that keep it (307, 308) within its origin; what is not followed is the answer.
    Another origin gets none of the headers.

    Raises OutgoingRefused where it must not be made or makes no sense (address, scheme, port, headers, from https to
    http, too many redirects), OutgoingTimeout when the time is up, OutgoingError where no answer came.
    """
    target = check_url(url)
    began = time.monotonic()
    sent = _checked(headers or {})
    with _errors(url, seconds, began + seconds), _client(began + seconds) as client:
        for _ in range(max_redirects + 1):
            request = client.build_request(method, target, headers=OWN_HEADERS | sent, content=body or None)
            response = client.send(request, stream=True)
            try:
                onward = _onward(response, method) if max_redirects else None
                if onward is None:
                    content, is_cut = _read(response, max_bytes)
                    taken = time.monotonic() - began
                    return Answer(response.status_code, dict(response.headers), content, is_cut, str(target), taken)
            finally:
                response.close()
            if _origin(onward) != _origin(target):
                sent = {}
            target = onward
    raise OutgoingRefused(f"{url}: more than {max_redirects} redirects")


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers by names in lower case, of two of one name the last. What is wrong is said without the value."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise OutgoingRefused(f"{name!r} is no name of a header")
        if not _HEADER_VALUE.fullmatch(value):
            raise OutgoingRefused(f"header {name}: its value has characters, or spaces at an end, that none may have")
    return {name.lower(): value for name, value in headers.items()}


def _onward(response: httpx2.Response, method: str) -> httpx2.URL | None:
    """Where a redirect leads that is to be followed; None for any other answer."""
    location = response.headers.get("location")
    if location is None or response.status_code not in (301, 302, 303, 307, 308):
        return None
    try:
        onward = response.url.join(location)
    except (httpx2.InvalidURL, ValueError) as error:
        raise OutgoingRefused(f"{response.url} redirects to what is no URL") from error
    if method not in ("GET", "HEAD") and (
        response.status_code not in (307, 308) or _origin(onward) != _origin(response.url)
    ):
        return None
    if response.url.scheme == "https" and onward.scheme == "http":
        raise OutgoingRefused(f"{response.url} redirects from https to http")
    _check(onward)
    return onward


def _origin(url: httpx2.URL) -> tuple[str, bytes, int]:
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}[url.scheme]


@contextmanager
def _errors(url: str, seconds: float, deadline: float) -> Iterator[None]:
    """What goes wrong as one of our own errors; what a library says of headers is not repeated."""
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
    transport = _Transport(deadline, settings.JOBSITE_ALLOWED_NETWORKS)
    # No time limits but the transport's: what remains is for the whole.
    return httpx2.Client(transport=transport, timeout=None, follow_redirects=False, trust_env=False)


def _read(response: httpx2.Response, max_bytes: int) -> tuple[bytes, bool]:
    content = bytearray()
    for chunk in response.iter_raw(CHUNK):
        content += chunk
        if len(content) > max_bytes:
            return bytes(content[:max_bytes]), True
    return bytes(content), False


class _Transport(httpx2.HTTPTransport):
    """httpx's own, on a pool whose connections are the guard's."""

    def __init__(self, deadline: float, allowed: Sequence[Network]) -> None:
        context = _tls()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore2.ConnectionPool(ssl_context=context, network_backend=_Backend(deadline, allowed))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        _check(request.url)
        return super().handle_request(request)


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)


class _Backend(httpcore2.SyncBackend):
    """Connects to public addresses only, to the one that was judged; and within the time of the whole request."""

    def __init__(self, deadline: float, allowed: Sequence[Network]) -> None:
        self._deadline, self._allowed = deadline, allowed

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = list(dict.fromkeys(_resolved(host, port, _left(self._deadline))))
        for address in addresses:
            if kind := forbidden(address, self._allowed):
                what = _described(host, address, kind)
                raise OutgoingRefused(f"{what}, where nothing is sent unless JOBSITE_ALLOWED_NETWORKS names it")
        trouble: Exception | None = None
        for place, address in enumerate(addresses):
            # One that does not answer leaves time for the others.
            share = min(_left(self._deadline) / (len(addresses) - place), CONNECT_SECONDS)
            try:
                stream = super().connect_tcp(str(address), port, share, local_address, socket_options)
                return _Stream(stream, self._deadline)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                trouble = error
        raise trouble or httpcore2.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        raise OutgoingRefused(f"{path} is a socket of this machine")


def _described(host: str, address: Address, kind: str) -> str:
    """What a host is; not the address of a name, which is nobody's business outside."""
    spelling = host.strip("[]")
    if spelling == str(address):
        return f"{host} is {kind}"
    return f"{host} is {address}, {kind}" if _ADDRESS.fullmatch(spelling) else f"{host} leads to {kind}"


class _Stream(httpcore2.NetworkStream):
    """A connection that is over when the time of the whole request is."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Piece by piece: the stream below allows its time for each of its own.
        view = memoryview(buffer)
        for place in range(0, len(view), CHUNK):
            self._stream.write(bytes(view[place : place + CHUNK]), _left(self._deadline, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline)), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, over: type[httpcore2.TimeoutException] = httpcore2.ConnectTimeout) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise over("the time is up")
    return left


def _resolved(host: str, port: int, seconds: float) -> Iterator[Address]:
    """The addresses of a host, in the resolver's order; in a thread, since a resolver knows no time limit."""
    found: list[Any] = []

    def resolve() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=resolve, daemon=True, name="jobsite-resolver")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise httpcore2.ConnectTimeout(f"{host} is not resolved in time")
    for one in found:
        if isinstance(one, Exception):
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {getattr(one, 'strerror', None) or one}") from one
        address = ip_address(one[4][0])
        yield getattr(address, "ipv4_mapped", None) or address
