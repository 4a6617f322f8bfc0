"""The environment, read once into typed values. A wrong value is refused in one sentence that names the variable."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

QUEUE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
DEFAULT_QUEUES = "default,content,analytics,segmentation,indexing,notifications"
BROKER_SCHEMES = ("redis", "rediss", "redis+socket")
MINIMUM_SECRET_KEY_LENGTH = 50


class ConfigurationError(ImproperlyConfigured):
    """A variable of the environment is missing or wrong. The message says which one, and what is expected."""


@dataclass(frozen=True)
class Environment:
    """The configuration from the environment. None for database_url or broker_url means the embedded server."""

    home: Path
    database_url: str | None
    broker_url: str | None
    queue_broker_urls: dict[str, str]
    queues: tuple[str, ...]
    lock_seconds: float
    renew_seconds: float
    sweep_seconds: float
    actions: tuple[str, ...]
    allowed_networks: tuple[IPv4Network | IPv6Network, ...]
    debug: bool
    secret_key: str | None
    secret_keys: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    csrf_trusted_origins: tuple[str, ...]
    email_url: str | None
    tenant: str | None
    max_database_bytes: int | None
    alert_email: str | None
    email_from: str | None

    @property
    def is_embedded(self) -> bool:
        """Whether PostgreSQL is embedded, which also means that this is not production."""
        return self.database_url is None


def load(environ: Mapping[str, str]) -> Environment:
    """Read and check every variable of jobsite. Raises ConfigurationError at the first that is wrong."""
    _refuse_what_is_not_built(environ)
    queues = _queues(environ)
    database_url = _database_url(environ)
    production = database_url is not None
    lock, renew = (
        _seconds(environ, "JOBSITE_LOCK_SECONDS", 40),
        _seconds(environ, "JOBSITE_RENEW_SECONDS", 10),
    )
    if lock < 4 * renew:
        raise ConfigurationError(
            f"JOBSITE_LOCK_SECONDS is {lock:g} but must be at least four renewals, "
            f"{4 * renew:g} with JOBSITE_RENEW_SECONDS={renew:g}"
        )
    return Environment(
        home=Path(environ.get("JOBSITE_HOME") or ".jobsite").absolute(),
        database_url=database_url,
        broker_url=_broker_url(environ, "JOBSITE_BROKER_URL"),
        queue_broker_urls=_queue_broker_urls(environ, queues),
        queues=queues,
        lock_seconds=lock,
        renew_seconds=renew,
        sweep_seconds=_seconds(environ, "JOBSITE_SWEEP_SECONDS", 5),
        actions=_list(environ, "JOBSITE_ACTIONS", "jobsite.samples"),
        allowed_networks=_networks(environ, "JOBSITE_ALLOWED_NETWORKS"),
        debug=_flag(environ, "DJANGO_DEBUG"),
        secret_key=_secret_key(environ, demanded=production),
        secret_keys=_demanded_list(environ, "JOBSITE_SECRET_KEYS", demanded=production),
        allowed_hosts=_demanded_list(environ, "DJANGO_ALLOWED_HOSTS", demanded=production),
        csrf_trusted_origins=_list(environ, "DJANGO_CSRF_TRUSTED_ORIGINS", ""),
        email_url=_email_url(environ),
        tenant=environ.get("JOBSITE_TENANT") or None,
        max_database_bytes=_bytes(environ, "JOBSITE_MAX_DATABASE_BYTES"),
        alert_email=_address(environ, "SYSTEM_JOBS_ALERT_EMAIL"),
        email_from=_address(environ, "JOBSITE_EMAIL_FROM"),
    )


def _bytes(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ConfigurationError(f"{name} is {text!r} but must be a whole number of bytes, such as 50000000000")
    return int(text)


def broker_variable(queue: str) -> str:
    """The variable that gives one queue a broker of its own: content -> JOBSITE_BROKER_URL_CONTENT."""
    return "JOBSITE_BROKER_URL_" + queue.upper().replace("-", "_")


def _refuse_what_is_not_built(environ: Mapping[str, str]) -> None:
    for name in ("JOBSITE_BROKER_FALLBACK_URL", "JOBSITE_URL"):
        if environ.get(name):
            raise ConfigurationError(f"{name} is not supported by this version of jobsite; unset it")


def _queues(environ: Mapping[str, str]) -> tuple[str, ...]:
    names = _list(environ, "JOBSITE_QUEUES", DEFAULT_QUEUES)
    for name in names:
        if not QUEUE_NAME.fullmatch(name):
            raise ConfigurationError(
                f"JOBSITE_QUEUES names {name!r}, but a queue's name is lower-case letters, digits, - and _"
            )
    if not names or len(set(names)) != len(names):
        raise ConfigurationError("JOBSITE_QUEUES must name at least one queue, and each only once")
    return names


def _queue_broker_urls(environ: Mapping[str, str], queues: tuple[str, ...]) -> dict[str, str]:
    by_variable = {broker_variable(queue): queue for queue in queues}
    urls = {}
    for variable in environ:
        if not variable.startswith("JOBSITE_BROKER_URL_"):
            continue
        if variable not in by_variable:
            raise ConfigurationError(
                f"{variable} belongs to no queue; the queues are {', '.join(queues)} (JOBSITE_QUEUES)"
            )
        if url := _broker_url(environ, variable):
            urls[by_variable[variable]] = url
    return urls


def _broker_url(environ: Mapping[str, str], name: str) -> str | None:
    url = environ.get(name)
    if not url:
        return None
    scheme = url.partition(":")[0] if "://" in url else ""
    if scheme == "pgmq":
        raise ConfigurationError(f"{name} names a pgmq:// broker, which this version of jobsite does not support")
    if scheme not in BROKER_SCHEMES:
        raise ConfigurationError(
            f"{name} must be a Redis URL such as redis://localhost:6379/0 ({', '.join(BROKER_SCHEMES)}), "
            f"not {scheme or 'one without a scheme'}"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        # The message does not repeat the URL: the wrong part may be a password with a slash in it.
        raise ConfigurationError(
            f"{name} is not a valid URL; percent-encode special characters in its password, and check host and port"
        ) from None
    if not (parts.path if scheme == "redis+socket" else parts.hostname):
        raise ConfigurationError(f"{name} names no {'socket path' if scheme == 'redis+socket' else 'host'}")
    return url


def _database_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get("DATABASE_URL")
    if not url:
        return None
    if not _is_url_of(url, ("postgresql", "postgres")):
        raise ConfigurationError("DATABASE_URL must be a PostgreSQL URL such as postgresql://user:password@host/name")
    return url


def _email_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get("EMAIL_URL")
    if url and not (_is_url_of(url, ("smtp", "smtps", "smtp+tls", "console")) and _has_valid_port(url)):
        raise ConfigurationError("EMAIL_URL must be smtp://, smtp+tls://, smtps:// or console://")
    return url or None


def _address(environ: Mapping[str, str], name: str) -> str | None:
    """One e-mail address, by its form; only the mail server knows whether it exists."""
    address = environ.get(name, "").strip()
    if address and not re.fullmatch(r"[^@\s,<>\x00-\x1f]+@[^@\s,<>\x00-\x1f]+", address):
        raise ConfigurationError(f"{name} must be one e-mail address such as operator@example.org, not {address!r}")
    return address or None


def _is_url_of(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        return urlsplit(url).scheme in schemes
    except ValueError:
        return False


def _has_valid_port(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def _secret_key(environ: Mapping[str, str], *, demanded: bool) -> str | None:
    key = environ.get("DJANGO_SECRET_KEY") or None
    if key is None and demanded:
        raise ConfigurationError("DJANGO_SECRET_KEY is not set, and production (DATABASE_URL is set) requires it")
    if key is not None and len(key) < MINIMUM_SECRET_KEY_LENGTH:
        raise ConfigurationError(
            f"DJANGO_SECRET_KEY has {len(key)} characters but needs at least {MINIMUM_SECRET_KEY_LENGTH}"
        )
    return key


def _demanded_list(environ: Mapping[str, str], name: str, *, demanded: bool) -> tuple[str, ...]:
    values = _list(environ, name, "")
    if demanded and not values:
        raise ConfigurationError(f"{name} is not set, and production (DATABASE_URL is set) requires it")
    return values


def _list(environ: Mapping[str, str], name: str, default: str) -> tuple[str, ...]:
    text = environ.get(name) or default
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _networks(environ: Mapping[str, str], name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = []
    for text in _list(environ, name, ""):
        try:
            networks.append(ip_network(text))
        except ValueError as error:
            raise ConfigurationError(f"{name} names {text!r}, expected networks such as 10.1.0.0/16: {error}") from None
    return tuple(networks)


def _flag(environ: Mapping[str, str], name: str) -> bool:
    text = (environ.get(name) or "false").lower()
    if text not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ConfigurationError(f"{name} must be true or false, not {text!r}")
    return text in ("1", "true", "yes", "on")


def _seconds(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name)
    if not text:
        return float(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 86_400:
        raise ConfigurationError(f"{name} must be a number of seconds between 0.05 and 86400, not {text!r}")
    return value
