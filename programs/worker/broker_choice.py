"""Which broker a worker connects to: the one of its queues."""

from collections.abc import Sequence
from typing import Any

from celery import signals
from django.conf import settings

from jobsite import brokers
from jobsite.env import ConfigurationError


@signals.celeryd_init.connect(weak=False)
def choose_broker(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Connect the worker to the broker of its queues; without -Q, to all queues that share the default one."""
    names = names_of(options.get("queues")) or _names_without_q(conf)
    try:
        conf.broker_url = conf.broker_read_url = conf.broker_write_url = broker_of(names)
    except ConfigurationError as error:
        raise SystemExit(f"jobsite: {error}") from error
    options["queues"] = names


def broker_of(names: Sequence[str]) -> str:
    """The one broker of all these queues; ConfigurationError says which are on different ones."""
    urls: dict[str, list[str]] = {}
    for name in names:
        # A queue that is not jobsite's is a user's own, on the default broker.
        urls.setdefault(settings.JOBSITE_BROKER_URLS.get(name, settings.CELERY_BROKER_URL), []).append(name)
    if len(urls) > 1:
        groups = " and ".join(f"{', '.join(group)} ({brokers.masked(url)})" for url, group in urls.items())
        raise ConfigurationError(f"these queues live on different brokers, start a worker for each: {groups}")
    return next(iter(urls))


def names_of(given: str | Sequence[str] | None) -> list[str]:
    """The queues that -Q names, or Celery's list of them."""
    if not given:
        return []
    return [name.strip() for name in (given.split(",") if isinstance(given, str) else given) if name.strip()]


def _names_without_q(conf: Any) -> list[str]:
    return brokers.queues_by_url().get(conf.broker_url) or list(settings.JOBSITE_QUEUES)
