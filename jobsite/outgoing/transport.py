"""Connections that go only to an address that was checked, and end when the time of the request is up."""

import re
import ssl
import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import httpcore2
import httpx2

from jobsite.outgoing import urls
from jobsite.outgoing.addresses import Address, Network, forbidden, resolved
from jobsite.outgoing.errors import OutgoingRefused

CONNECT_SECONDS = 10.0  # for one of several addresses
CHUNK = 16 * 1024
_ADDRESS = re.compile(r"(?:\w+\.)*(?:\d+|0[xX][0-9A-Fa-f]+)|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")  # in any spelling


class Transport(httpx2.HTTPTransport):
    """httpx's transport, on a pool whose connections pass the guard."""

    def __init__(self, deadline: float, allowed: Sequence[Network]) -> None:
        context = _tls()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore2.ConnectionPool(ssl_context=context, network_backend=_Backend(deadline, allowed))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request; OutgoingRefused for a URL that must not be asked for."""
        urls.check(request.url)
        return super().handle_request(request)


@cache
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context(trust_env=False)


class _Backend(httpcore2.SyncBackend):
    """Connects only to public addresses, to the one that was checked, within the time of the whole request."""

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
        addresses = list(dict.fromkeys(resolved(host, port, _left(self._deadline))))
        for address in addresses:
            if kind := forbidden(address, self._allowed):
                what = _described(host, address, kind)
                raise OutgoingRefused(f"{what}, where nothing is sent unless JOBSITE_ALLOWED_NETWORKS names it")
        trouble: Exception | None = None
        for place, address in enumerate(addresses):
            # An address that does not answer must leave time for the others.
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
    """What a host is. The address of a name is left out, because outsiders must not learn it."""
    spelling = host.strip("[]")
    if spelling == str(address):
        return f"{host} is {kind}"
    return f"{host} is {address}, {kind}" if _ADDRESS.fullmatch(spelling) else f"{host} leads to {kind}"


class _Stream(httpcore2.NetworkStream):
    """A connection that ends when the time of the whole request is up."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # Piece by piece: the stream below applies its time limit to each piece.
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
