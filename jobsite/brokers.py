"""Know the broker of each queue and publish to it. No other module speaks to a broker."""

import json
import os
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import UUID, uuid4

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from jobsite.celery import app
from jobsite.failpoints import failpoint
from jobsite.logs import get_logger

log = get_logger(__name__)

EPOCH_KEY = "jobsite:epoch"
MAX_ARGUMENTS_SHOWN = 200


class BrokerUnavailable(Exception):
    """The broker of a queue cannot be reached now. The job rows wait in the database."""


@dataclass(frozen=True)
class Message:
    """One message to a queue. `time_limit`: after so many seconds the worker kills the child that runs it."""

    task: str
    queue: str
    args: tuple[object, ...]
    time_limit: float | None = None


def url_of(queue: str) -> str:
    """The broker URL of a queue. Raises KeyError for a queue that is not in JOBSITE_QUEUES."""
    return settings.JOBSITE_BROKER_URLS[queue]


def masked_url_of(queue: str) -> str:
    """The broker URL of a queue with its password masked, fit to be shown."""
    return masked(url_of(queue))


def masked(url: str) -> str:
    """A URL with its password replaced by dots."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    netloc = parts.netloc.replace(f":{parts.password}@", ":••••@")
    return urlunsplit(parts._replace(netloc=netloc))


def queues_by_url() -> dict[str, list[str]]:
    """The brokers of this installation, each with its queues in the order of JOBSITE_QUEUES."""
    found: dict[str, list[str]] = {}
    for queue, url in settings.JOBSITE_BROKER_URLS.items():
        found.setdefault(url, []).append(queue)
    return found


def engine_of(queue: str) -> str:
    """The kind of broker that carries a queue's messages, as it stands in job rows."""
    return "redis" if urlsplit(url_of(queue)).scheme.startswith("redis") else urlsplit(url_of(queue)).scheme


def publish(messages: Iterable[Message]) -> None:
    """Send the messages, those of one broker in one round trip.

    Raises BrokerUnavailable when a broker failed, after the others were tried. What was sent stays sent.
    """
    by_url: dict[str, list[Message]] = {}
    failures: list[str] = []
    for message in messages:
        if message.queue in settings.JOBSITE_BROKER_URLS:
            by_url.setdefault(url_of(message.queue), []).append(message)
        else:
            failures.append(f"queue {message.queue} is not among JOBSITE_QUEUES")
    failures += [failure for url, batch in by_url.items() if (failure := _publish_to(url, batch))]
    if failures:
        raise BrokerUnavailable("; ".join(failures))


@failpoint("publish", fails_with=BrokerUnavailable)
def _publish_to(url: str, batch: Sequence[Message]) -> str | None:
    try:
        pipe = _client(url).pipeline(transaction=False)
        for message in batch:
            pipe.lpush(key_prefix() + message.queue, _envelope(message))
        pipe.execute()
    except redis.RedisError as error:
        log.warning("publish_failed", broker=masked(url), messages=len(batch), error=str(error))
        return f"{masked(url)}: {error}"
    return None


def _envelope(message: Message) -> bytes:
    """The message as Celery and kombu's Redis transport write it into a queue's list.

    Headers and body come from Celery. What kombu adds to them is written here: its producer makes a new Redis client
    for each message, which costs four times as much as all the rest of a publication.
    """
    task_id = str(uuid4())
    arguments = repr(message.args)
    made = app.amqp.as_task_v2(
        task_id,
        message.task,
        args=message.args,
        time_limit=message.time_limit,
        ignore_result=True,
        argsrepr=arguments if len(arguments) <= MAX_ARGUMENTS_SHOWN else arguments[:MAX_ARGUMENTS_SHOWN] + "…",
        kwargsrepr="{}",
    )
    return json.dumps(
        {
            "body": b64encode(json.dumps(made.body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": made.headers,
            "properties": {
                **made.properties,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": message.queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    ).encode()


def key_prefix() -> str:
    """The prefix of every key of this installation in its brokers."""
    return str(settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"])


@dataclass(frozen=True)
class BrokerState:
    """What a broker holds for its queues. `epoch` changes when the broker has lost its data."""

    epoch: UUID
    waiting: dict[str, int]


def state(url: str, queues: Sequence[str]) -> BrokerState:
    """Read a broker's epoch (made when missing) and the number of messages that wait in each queue.

    Raises BrokerUnavailable when it cannot be reached.
    """
    prefix = key_prefix()
    try:
        pipe = _client(url).pipeline(transaction=False)
        pipe.set(prefix + EPOCH_KEY, str(uuid4()), nx=True)
        pipe.get(prefix + EPOCH_KEY)
        for queue in queues:
            pipe.llen(prefix + queue)
        _, epoch, *lengths = pipe.execute()
    except redis.RedisError as error:
        raise BrokerUnavailable(f"{masked(url)}: {error}") from error
    return BrokerState(UUID(epoch.decode()), dict(zip(queues, lengths, strict=True)))


def eviction_policy(url: str) -> str | None:
    """Redis's maxmemory-policy; None where the server does not say. Raises BrokerUnavailable."""
    try:
        policy: str | None = _client(url).config_get("maxmemory-policy").get("maxmemory-policy")
        return policy
    except redis.ResponseError:
        return None  # managed servers often forbid CONFIG
    except redis.RedisError as error:
        raise BrokerUnavailable(f"{masked(url)}: {error}") from error


@cache
def _client(url: str) -> redis.Redis:
    if url.startswith("redis+socket://"):
        parts = urlsplit(url)
        url = f"unix://{parts.path}?db={parse_qs(parts.query).get('virtual_host', ['0'])[0]}"
    # A submission must not wait for a broker that is down, nor for one that accepts connections and does not answer:
    # one quick second try, then the sweeps take over.
    return redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=3, retry=Retry(NoBackoff(), 1))


def _forget_connections() -> None:
    _client.cache_clear()


os.register_at_fork(after_in_child=_forget_connections)
