"""The rules of URLs: which are allowed, and which redirects are followed."""

import re

import httpx2

from jobsite.outgoing.errors import OutgoingRefused

MAX_URL = 8 * 1024
WEB_PORTS = (80, 443)
FIRST_FREE_PORT = 1024
_HOST = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")


def check_url(url: str) -> httpx2.URL:
    """The URL, parsed; raises OutgoingRefused unless it is valid, of http or https, with a host, without a password."""
    if len(url) > MAX_URL:
        raise OutgoingRefused(f"a URL has at most {MAX_URL:,} characters, not {len(url):,}")
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise OutgoingRefused(f"{url!r} is not a URL: {error}") from error
    check(parsed)
    return parsed


def check(url: httpx2.URL) -> None:
    """Raise OutgoingRefused for a scheme, host or port that nothing is sent to, and for a URL with a password."""
    shown = str(url.copy_with(username=None, password=None)) if url.userinfo else str(url)
    if url.scheme not in ("http", "https"):
        raise OutgoingRefused(
            f"{shown}: only http:// and https:// are allowed, not {url.scheme or 'a URL without a scheme'}"
        )
    if not _HOST.fullmatch(url.raw_host):
        raise OutgoingRefused(f"{shown} has no valid host")
    if url.userinfo:
        raise OutgoingRefused(f"{shown} carries a user name or password; send an Authorization header instead")
    if url.port is not None and url.port not in WEB_PORTS and url.port < FIRST_FREE_PORT:
        raise OutgoingRefused(f"{shown}: port {url.port} belongs to another service; use 80, 443 or 1024 and above")


def redirect_of(response: httpx2.Response, method: str) -> httpx2.URL | None:
    """Where a redirect leads, if it is to be followed; None for any other answer."""
    location = response.headers.get("location")
    if location is None or response.status_code not in (301, 302, 303, 307, 308):
        return None
    try:
        target = response.url.join(location)
    except (httpx2.InvalidURL, ValueError) as error:
        raise OutgoingRefused(f"{response.url} redirects to something that is not a URL") from error
    if method not in ("GET", "HEAD") and (
        response.status_code not in (307, 308) or origin(target) != origin(response.url)
    ):
        return None
    if response.url.scheme == "https" and target.scheme == "http":
        raise OutgoingRefused(f"{response.url} redirects from https to http")
    check(target)
    return target


def origin(url: httpx2.URL) -> tuple[str, bytes, int]:
    """What two URLs of one site have in common: scheme, host and port."""
    return url.scheme, url.raw_host, url.port or {"http": 80, "https": 443}[url.scheme]
