"""Brokers (jobsite/brokers.py): the broker of a queue, publishing, and the state of a broker.

Not named test_brokers.py, because tests/flows has one, and pytest distinguishes test modules by their names.
"""

import base64
import json
import time
from uuid import UUID

import pytest
import redis
from django.conf import settings as django_settings

from jobsite import brokers
from jobsite.brokers import BrokerUnavailable, Message

DEAD = "redis://:hunter2@127.0.0.1:1/0"
PREFIX = django_settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]


@pytest.fixture
def client(servers):
    """A client of the real Redis, without any keys of jobsite."""
    with redis.Redis(unix_socket_path=str(servers.redis_socket)) as client:
        forget(client)
        yield client
        forget(client)


def forget(client):
    for key in client.scan_iter(PREFIX + "*"):
        client.delete(key)


def waiting(client, queue):
    """The messages in a queue's list, decoded, oldest first."""
    raw = [json.loads(one) for one in reversed(client.lrange(PREFIX + queue, 0, -1))]
    return [one | {"body": json.loads(base64.b64decode(one["body"]))} for one in raw]


@pytest.fixture
def urls(settings):
    """Give some queues another broker: `urls(content=DEAD)`."""

    def change(**others):
        settings.JOBSITE_BROKER_URLS = settings.JOBSITE_BROKER_URLS | others
        return settings.JOBSITE_BROKER_URLS

    return change


# ---- the broker of a queue -------------------------------------------------------------------------------


def test_every_configured_queue_has_a_broker(settings):
    assert [brokers.url_of(queue) for queue in settings.JOBSITE_QUEUES] == [settings.CELERY_BROKER_URL] * len(
        settings.JOBSITE_QUEUES
    )


def test_a_queue_that_is_not_configured_has_no_broker():
    with pytest.raises(KeyError):
        brokers.url_of("nowhere")


def test_brokers_are_listed_with_their_queues(urls, settings):
    urls(content=DEAD, analytics=DEAD)

    rest = [queue for queue in settings.JOBSITE_QUEUES if queue not in ("content", "analytics")]
    assert brokers.queues_by_url() == {settings.CELERY_BROKER_URL: rest, DEAD: ["content", "analytics"]}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:hunter2@localhost:6379/0", "redis://:••••@localhost:6379/0"),
        ("rediss://user:hunter2@host/1?x=y", "rediss://user:••••@host/1?x=y"),
        ("redis://user@host/0", "redis://user@host/0"),
        ("redis://u:p%40ss@host/0", "redis://u:••••@host/0"),
        ("redis://u:@host/0", "redis://u:••••@host/0"),
        ("redis+socket:///tmp/redis.sock?virtual_host=1", "redis+socket:///tmp/redis.sock?virtual_host=1"),
    ],
)
def test_a_url_is_shown_without_its_password(urls, url, shown):
    urls(content=url)

    assert brokers.masked(url) == shown
    assert brokers.masked_url_of("content") == shown


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h/0", "redis+socket:///tmp/r.sock"])
def test_the_engine_is_redis_for_every_url_of_redis(urls, url):
    urls(content=url)

    assert brokers.engine_of("content") == "redis"


# ---- publishing ------------------------------------------------------------------------------------------


def test_a_message_goes_into_the_list_of_its_queue(client):
    brokers.publish([Message("jobsite.run_jobs", "content", ([7],), 12.0)])

    [message] = waiting(client, "content")
    assert message["body"][:2] == [[[7]], {}]
    assert (message["headers"]["task"], message["headers"]["timelimit"]) == ("jobsite.run_jobs", [12.0, None])
    assert UUID(message["headers"]["id"])
    assert message["headers"]["ignore_result"] is True
    assert waiting(client, "default") == []


def test_messages_keep_their_order_and_have_ids_of_their_own(client):
    brokers.publish(Message("t", "default", ([number],)) for number in range(50))

    messages = waiting(client, "default")
    assert [message["body"][0] for message in messages] == [[[number]] for number in range(50)]
    assert len({message["headers"]["id"] for message in messages}) == 50


def test_without_messages_nothing_is_sent(client):
    brokers.publish([])

    assert client.keys(PREFIX + "*") == []


def test_a_broker_that_is_down_is_an_error_soon_and_without_its_password(urls):
    urls(content=DEAD)
    began = time.monotonic()

    with pytest.raises(BrokerUnavailable) as unavailable:
        brokers.publish([Message("t", "content", ())])

    assert time.monotonic() - began < 4
    assert str(unavailable.value).startswith("redis://:••••@127.0.0.1:1/0: ")
    assert "hunter2" not in str(unavailable.value)


def test_the_other_brokers_still_get_their_messages(client, urls):
    urls(content=DEAD)
    messages = [Message("t", queue, ()) for queue in ("default", "content", "analytics")]

    with pytest.raises(BrokerUnavailable):
        brokers.publish(messages)

    assert [len(waiting(client, queue)) for queue in ("default", "analytics")] == [1, 1]


def test_after_an_outage_publishing_goes_on(client, urls, settings):
    good = settings.CELERY_BROKER_URL
    urls(default=DEAD)
    with pytest.raises(BrokerUnavailable):
        brokers.publish([Message("t", "default", ())])

    urls(default=good)
    brokers.publish([Message("t", "default", ())])

    assert len(waiting(client, "default")) == 1


def test_connections_that_the_broker_closed_are_replaced(client):
    brokers.publish([Message("t", "default", ())])
    client.client_kill_filter(_type="normal", skipme=True)

    brokers.publish([Message("t", "default", ())])

    assert len(waiting(client, "default")) == 2


# ---- the state of a broker -------------------------------------------------------------------------------


def test_the_state_has_the_number_of_waiting_messages(client, settings):
    brokers.publish(Message("t", queue, ()) for queue in ("default", "default", "content"))

    state = brokers.state(settings.CELERY_BROKER_URL, ["default", "content", "analytics"])

    assert state.waiting == {"default": 2, "content": 1, "analytics": 0}


def test_a_broker_keeps_its_epoch_until_it_loses_its_data(client, settings):
    url = settings.CELERY_BROKER_URL
    first = brokers.state(url, []).epoch

    assert brokers.state(url, ["default"]).epoch == first

    forget(client)
    assert brokers.state(url, []).epoch != first


def test_the_state_of_a_broker_that_is_down_is_an_error():
    with pytest.raises(BrokerUnavailable) as unavailable:
        brokers.state(DEAD, ["default"])

    assert str(unavailable.value).startswith("redis://:••••@127.0.0.1:1/0: ")


def test_the_eviction_policy_of_a_redis_is_known(client, settings):
    assert brokers.eviction_policy(settings.CELERY_BROKER_URL) == "noeviction"
    with pytest.raises(BrokerUnavailable):
        brokers.eviction_policy(DEAD)
