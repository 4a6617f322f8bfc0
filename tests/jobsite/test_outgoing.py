"""The guard of outgoing requests: forbidden addresses in every spelling, and the limits of allowed requests."""

import gzip
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import httpx2
import pytest

from jobsite import outgoing
from jobsite.outgoing.urls import redirect_of
from tests.receiver import Receiver, Request, receiving

REAL = socket.getaddrinfo
LOOPBACK = (ip_network("127.0.0.0/8"),)

# URLs, and the refusal of each. The fixture `a_resolver_that_lies` resolves the names of NAMES.
TRICKS = [
    ("http://127.0.0.1/", "127.0.0.1 is a loopback address"),
    ("http://127.1/", "127.1 is 127.0.0.1, a loopback address"),
    ("http://127.8.9.10:8000/x?y=1", "127.8.9.10 is a loopback address"),
    ("http://2130706433/", "2130706433 is 127.0.0.1, a loopback address"),
    ("http://017700000001/", "017700000001 is 127.0.0.1, a loopback address"),
    ("http://0177.0.0.1/", "Invalid IPv4 address"),
    ("http://0x7f000001/", "0x7f000001 is 127.0.0.1, a loopback address"),
    ("http://0x7f.0.0.1/", "0x7f.0.0.1 is 127.0.0.1, a loopback address"),
    ("http://0/", "0 is 0.0.0.0, an address of this host"),
    ("http://0.0.0.0/", "0.0.0.0 is an address of this host"),
    ("http://[::1]/", "::1 is a loopback address"),
    ("http://[::]/", ":: is an address of this host"),
    ("http://[0:0:0:0:0:0:0:1]/", "0:0:0:0:0:0:0:1 is ::1, a loopback address"),
    ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1 is 127.0.0.1, a loopback address"),
    ("http://[::ffff:7f00:1]/", "a loopback address"),
    ("http://[::ffff:169.254.169.254]/", "a cloud's metadata address"),
    ("http://[::127.0.0.1]/", "an IPv4 address written as IPv6"),
    ("http://[64:ff9b::7f00:1]/", "64:ff9b::7f00:1 is an IPv4 address behind NAT64"),
    ("http://[64:ff9b::a9fe:a9fe]/", "an IPv4 address behind NAT64"),
    ("http://[64:ff9b:1::1]/", "an IPv4 address behind NAT64"),
    ("http://[2002:7f00:1::]/", "an IPv4 address behind 6to4"),
    ("http://[2001:0:7f00:1::]/", "an IPv4 address behind Teredo"),
    ("http://10.0.0.1/", "10.0.0.1 is a private address"),
    ("http://10.255.255.255/", "a private address"),
    ("http://172.16.0.1/", "a private address"),
    ("http://172.31.255.254/", "a private address"),
    ("http://192.168.1.1/", "a private address"),
    ("http://3232235777/", "3232235777 is 192.168.1.1, a private address"),
    ("http://[fc00::1]/", "a private address"),
    ("http://[fd12:3456::1]/", "a private address"),
    ("http://[fec0::1]/", "a private address"),
    ("http://100.64.0.1/", "a carrier's shared address"),
    ("http://169.254.0.1/", "a link-local address"),
    ("http://[fe80::1]/", "a link-local address"),
    ("http://169.254.169.254/latest/meta-data/", "169.254.169.254 is a cloud's metadata address"),
    ("http://2852039166/", "2852039166 is 169.254.169.254, a cloud's metadata address"),
    ("http://168.63.129.16/", "a cloud's metadata address"),
    ("http://100.100.100.200/", "a cloud's metadata address"),
    ("http://[fd00:ec2::254]/", "a cloud's metadata address"),
    ("http://192.0.0.192/", "a protocol's own address"),
    ("http://224.0.0.1/", "a multicast address"),
    ("http://239.255.255.250:1900/", "a multicast address"),
    ("http://[ff02::1]/", "a multicast address"),
    ("http://255.255.255.255/", "the broadcast address"),
    ("http://240.0.0.1/", "a reserved address"),
    ("http://198.18.0.1/", "an address for benchmarks"),
    ("http://192.0.2.1/", "an address for documentation"),
    ("http://[2001:db8::1]/", "an address for documentation"),
    ("http://[4000::1]/", "an address that is not public"),
    ("http://localhost/", "localhost leads to a loopback address"),
    ("http://LOCALHOST/", "a loopback address"),
    ("http://metadata.example/", "metadata.example leads to a cloud's metadata address"),
    ("http://half.example/", "half.example leads to a private address"),
    ("http://１２７.０.０.１/", "Invalid IDNA hostname"),
    ("https://127.0.0.1/", "127.0.0.1 is a loopback address"),
    ("http://example.org:25/", "port 25 belongs to another service; use 80, 443 or 1024 and above"),
    ("http://example.org/" + "x" * 8_200, "a URL has at most 8,192 characters, not 8,219"),
    ("ftp://example.org/", "only http:// and https:// are allowed, not ftp"),
    ("file:///etc/passwd", "only http:// and https:// are allowed, not file"),
    ("gopher://127.0.0.1:6379/_FLUSHALL", "only http:// and https:// are allowed, not gopher"),
    ("//example.org/", "only http:// and https:// are allowed, not a URL without a scheme"),
    ("http:///nowhere", "has no valid host"),
    ("http://user:hunter2@example.org/", "carries a user name or password"),
    ("http://example.org@127.0.0.1/", "carries a user name or password"),
    ("http://exa mple.org/", "has no valid host"),
    ("http://[::1/", "is not a URL: Invalid port"),
]
NAMES = {"metadata.example": ["169.254.169.254"], "half.example": ["93.184.215.14", "10.0.0.7"]}


@pytest.fixture(autouse=True)
def a_resolver_that_lies(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Resolve known names as the test says, and everything else as the system does."""
    known, real = dict(NAMES), socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return known


@pytest.mark.parametrize(("url", "said"), TRICKS, ids=[url for url, _ in TRICKS])
def test_forbidden_urls_are_refused_before_a_connection(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: Any, **options: Any) -> Any:
        raise AssertionError(f"a connection was begun: {args}")

    monkeypatch.setattr(socket, "create_connection", connect)

    with pytest.raises(outgoing.OutgoingRefused) as refusal:
        outgoing.send("GET", url, seconds=5)

    assert said in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed(address: str) -> None:
    assert outgoing.forbidden(ip_address(address), ()) is None


@pytest.mark.parametrize(
    ("address", "network", "is_open"),
    [
        ("10.1.2.3", "10.1.0.0/16", True),
        ("10.2.2.3", "10.1.0.0/16", False),
        ("::ffff:10.1.2.3", "10.1.0.0/16", True),
        ("fd00::1", "fd00::/8", True),
        ("fe80::1%eth0", "fe80::/10", True),
        ("169.254.169.254", "169.254.169.254/32", True),
    ],
)
def test_an_allowed_network_is_open(address: str, network: str, is_open: bool) -> None:
    assert (outgoing.forbidden(ip_address(address), [ip_network(network)]) is None) is is_open


# ---- real requests to a real server ------------------------------------------------------------------------


BOMB = gzip.compress(b"0" * 10**8)
ROUTES: dict[str, Callable[[Request], None]] = {
    "/ok": lambda request: request.reply(200, b"fine", Content_Type="text/plain"),
    "/gzip": lambda request: request.reply(200, gzip.compress(b"0" * 10**6), Content_Encoding="gzip"),
    "/to-metadata": lambda request: request.reply(302, Location="http://169.254.169.254/latest/"),
    "/to-file": lambda request: request.reply(302, Location="file:///etc/passwd"),
    "/to-name": lambda request: request.reply(302, Location="http://metadata.example/"),
    "/to-ok": lambda request: request.reply(302, Location="/ok"),
    "/to-other": lambda request: request.reply(307, Location=f"http://127.0.0.2:{request.server.port}/ok"),
    "/keep": lambda request: request.reply(307, Location="/ok"),
    "/gzip-to-ok": lambda request: request.reply(302, BOMB, Location="/ok", Content_Encoding="gzip"),
    "/pour-to-ok": lambda request: request.pour(302, Location="/ok"),
    "/swallow": Request.swallow_slowly,
    "/loop": lambda request: request.reply(302, Location="/loop"),
    "/drip": Request.drip,
    "/drip-headers": Request.drip_headers,
    "/pour": Request.pour,
    "/hang-up": Request.hang_up,
}


@pytest.fixture
def server(settings: Any) -> Iterator[Receiver]:
    """A server on loopback, which is allowed."""
    settings.JOBSITE_ALLOWED_NETWORKS = LOOPBACK
    with receiving(lambda request: ROUTES[request.path](request)) as started:
        yield started


def test_an_answer_has_its_status_headers_and_body(server: Receiver) -> None:
    answer = outgoing.send("POST", server.url("/ok"), seconds=5, headers={"X-One": "1"}, body=b"hello")

    assert (answer.status, answer.body, answer.is_cut) == (200, b"fine", False)
    assert answer.headers["content-type"] == "text/plain"
    [seen] = server.seen
    assert (seen.command, seen.headers["x-one"], seen.headers["content-length"]) == ("POST", "1", "5")
    assert seen.headers["user-agent"].startswith("jobsite/")


def test_the_name_is_sent_and_the_checked_address_is_connected_to(
    server: Receiver, a_resolver_that_lies: dict[str, list[str]]
) -> None:
    a_resolver_that_lies["inside.example"] = ["127.0.0.3"]

    assert outgoing.send("GET", server.url("/ok", "inside.example"), seconds=5).status == 200

    assert server.seen[0].headers["host"] == f"inside.example:{server.port}"


def test_a_name_is_resolved_once_per_request(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    meanings = iter([["127.0.0.1"], ["10.0.0.1"]])

    def resolve(host: str, port: int, *args: Any, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in next(meanings)]

    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *args, **options: (
            resolve(host, *args, **options) if host == "turning.example" else REAL(host, *args, **options)
        ),
    )

    assert outgoing.send("GET", server.url("/ok", "turning.example"), seconds=5).status == 200
    with pytest.raises(outgoing.OutgoingRefused, match=r"turning\.example leads to a private address"):
        outgoing.send("GET", server.url("/ok", "turning.example"), seconds=5)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/to-metadata", "169.254.169.254 is a cloud's metadata address"),
        ("/to-name", "metadata.example leads to a cloud's metadata address"),
        ("/to-file", "only http:// and https:// are allowed, not file"),
        ("/loop", "more than 3 redirects"),
    ],
)
def test_a_redirect_is_checked_like_any_request(server: Receiver, path: str, said: str) -> None:
    with pytest.raises(outgoing.OutgoingRefused, match=said):
        outgoing.send("GET", server.url(path), seconds=5)


def test_a_redirect_is_followed_and_another_origin_gets_no_header(server: Receiver) -> None:
    headers = {"Authorization": "Bearer hunter2", "X-Api-Key": "hunter2"}

    same = outgoing.send("GET", server.url("/to-ok"), seconds=5, headers=headers)
    other = outgoing.send("GET", server.url("/to-other"), seconds=5, headers=headers)

    assert (same.status, same.url) == (200, server.url("/ok"))
    assert (other.status, other.url) == (200, server.url("/ok", "127.0.0.2"))
    assert [one.headers["x-api-key"] for one in server.seen] == ["hunter2"] * 3 + [None]
    assert "hunter2" not in str(server.seen[-1].headers)


@pytest.mark.parametrize(("path", "status", "seen"), [("/to-ok", 302, 1), ("/to-other", 307, 1), ("/keep", 200, 2)])
def test_a_post_follows_no_redirect_that_would_change_its_method_or_receiver(
    server: Receiver, path: str, status: int, seen: int
) -> None:
    answer = outgoing.send("POST", server.url(path), seconds=5, headers={"X-One": "1"}, body=b"hello")

    assert (answer.status, len(server.seen)) == (status, seen)
    assert [(one.command, one.body, one.headers["x-one"]) for one in server.seen] == [("POST", b"hello", "1")] * seen


@pytest.mark.parametrize("path", ["/pour-to-ok", "/gzip-to-ok"])
def test_the_body_of_a_redirect_is_not_read(server: Receiver, path: str) -> None:
    tracemalloc.start()
    try:
        assert outgoing.send("GET", server.url(path), seconds=5).body == b"fine"
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_redirect_from_https_to_http_is_refused() -> None:
    request = httpx2.Request("GET", "https://example.org/")
    redirects = [
        httpx2.Response(302, headers={"location": to}, request=request) for to in ("/x", "http://example.org/")
    ]

    assert str(redirect_of(redirects[0], "GET")) == "https://example.org/x"
    with pytest.raises(outgoing.OutgoingRefused, match="redirects from https to http"):
        redirect_of(redirects[1], "GET")


def test_redirects_are_not_followed_where_none_are_allowed(server: Receiver) -> None:
    assert outgoing.send("GET", server.url("/to-metadata"), seconds=5, max_redirects=0).status == 302


@pytest.mark.parametrize("path", ["/drip", "/drip-headers"])
def test_the_time_limit_is_for_the_whole_request(server: Receiver, path: str) -> None:
    began = time.monotonic()

    with pytest.raises(outgoing.OutgoingTimeout, match=r"no answer within 0\.5 s"):
        outgoing.send("GET", server.url(path), seconds=0.5)

    assert 0.4 < time.monotonic() - began < 10


def test_the_time_limit_holds_for_a_slow_reader_too(server: Receiver) -> None:
    began = time.monotonic()

    with pytest.raises(outgoing.OutgoingTimeout):
        outgoing.send("POST", server.url("/swallow"), seconds=1, body=b"x" * 50_000_000)

    assert time.monotonic() - began < 10


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    server: Receiver, a_resolver_that_lies: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_resolver_that_lies["two.example"] = ["127.0.0.9", "127.0.0.1"]
    connect = socket.create_connection

    def slowly(address: Any, timeout: float, **options: Any) -> Any:
        if address[0] == "127.0.0.9":
            raise TimeoutError("the kernel gave up")
        return connect(address, timeout, **options)

    monkeypatch.setattr(socket, "create_connection", slowly)

    assert outgoing.send("GET", server.url("/ok", "two.example"), seconds=10).status == 200
    a_resolver_that_lies["two.example"] = ["127.0.0.9"]
    with pytest.raises(outgoing.OutgoingError) as error:
        outgoing.send("GET", server.url("/ok", "two.example"), seconds=10)
    assert type(error.value) is outgoing.OutgoingError


def test_the_time_limit_holds_for_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    awake = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: [awake.wait(30)][:0])

    with pytest.raises(outgoing.OutgoingTimeout):
        outgoing.send("GET", "http://slow.example/", seconds=0.3)

    awake.set()


def test_the_size_of_an_answer_is_limited(server: Receiver) -> None:
    answer = outgoing.send("GET", server.url("/pour"), seconds=10, max_bytes=100_000)

    assert (len(answer.body), answer.is_cut) == (100_000, True)


def test_answers_are_not_decompressed(server: Receiver) -> None:
    answer = outgoing.send("GET", server.url("/gzip"), seconds=5)

    assert gzip.decompress(answer.body) == b"0" * 10**6
    assert server.seen[0].headers["accept-encoding"] == "identity"


def test_proxies_of_the_environment_are_not_used(server: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert outgoing.send("GET", server.url("/ok"), seconds=5).status == 200


@pytest.mark.parametrize(
    ("path", "kind"), [("/hang-up", outgoing.OutgoingError), ("/ok\r\nX: y", outgoing.OutgoingRefused)]
)
def test_each_failure_has_its_exception(server: Receiver, path: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as error:
        outgoing.send("GET", server.url(path), seconds=5)

    assert type(error.value) is kind


@pytest.mark.parametrize(
    "headers", [{"X-One": "hunter2\r\nX-Two: b"}, {"X One": "1"}, {"X-One": "hunter2\ud800"}, {"X-One": "hunter2\n"}]
)
def test_invalid_headers_are_refused_without_their_values(server: Receiver, headers: dict[str, str]) -> None:
    with pytest.raises(outgoing.OutgoingRefused) as refusal:
        outgoing.send("GET", server.url("/ok"), seconds=5, headers=headers)

    assert "X" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    assert not server.seen


def test_a_closed_port_and_an_unknown_name_are_transient_errors(settings: Any) -> None:
    settings.JOBSITE_ALLOWED_NETWORKS = LOOPBACK
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]

    for target in (f"http://127.0.0.1:{closed}/", "http://nobody.invalid/"):
        with pytest.raises(outgoing.OutgoingError) as error:
            outgoing.send("GET", target, seconds=5)
        assert type(error.value) is outgoing.OutgoingError
        assert target in str(error.value)


def test_an_untrusted_certificate_is_an_error(server: Receiver, tmp_path: Any, settings: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)

    with pytest.raises(outgoing.OutgoingError, match=r"(?i)certificate.verify.failed"):
        outgoing.send("GET", f"https://127.0.0.1:{server.port}/ok", seconds=5)


def self_signed(folder: Any) -> tuple[str, str]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return str(folder / "certificate"), str(folder / "key")
