"""The environment: what each variable means, and the refusals of wrong values."""

from pathlib import Path

import pytest

from jobsite import env
from jobsite.env import ConfigurationError, load

PRODUCTION = {
    "DATABASE_URL": "postgresql://jobsite@db/jobsite",
    "DJANGO_SECRET_KEY": "x" * 50,
    "JOBSITE_SECRET_KEYS": "newest,older",
    "DJANGO_ALLOWED_HOSTS": "jobs.example.org, www.example.org",
}


def test_nothing_configured_is_the_embedded_installation() -> None:
    read = load({})

    assert read.is_embedded
    assert (read.database_url, read.broker_url, read.debug) == (None, None, False)
    assert read.home == Path(".jobsite").absolute()
    assert read.queues == ("default", "content", "analytics", "segmentation", "indexing", "notifications")
    assert (read.lock_seconds, read.renew_seconds, read.sweep_seconds) == (40, 10, 5)
    assert read.actions == ("jobsite.samples",)


def test_a_database_means_production() -> None:
    read = load(PRODUCTION)

    assert not read.is_embedded
    assert read.secret_keys == ("newest", "older")
    assert read.allowed_hosts == ("jobs.example.org", "www.example.org")


@pytest.mark.parametrize(
    "url",
    [
        "postgres://jobsite:secret@db:5432/jobsite?sslmode=require",
        "postgresql:///jobsite?host=/run/postgresql",
        "postgresql://jobsite@[::1]:5432/jobsite",
        "postgresql://jobsite@one:5432,two:5432/jobsite?target_session_attrs=read-write",
    ],
)
def test_every_form_of_a_postgresql_url_is_accepted(url: str) -> None:
    assert load(PRODUCTION | {"DATABASE_URL": url}).database_url == url


@pytest.mark.parametrize("missing", ["DJANGO_SECRET_KEY", "JOBSITE_SECRET_KEYS", "DJANGO_ALLOWED_HOSTS"])
def test_production_requires(missing: str) -> None:
    environ = {name: value for name, value in PRODUCTION.items() if name != missing}

    with pytest.raises(ConfigurationError, match=f"^{missing} is not set, and production"):
        load(environ)


def test_each_queue_may_have_a_broker_of_its_own() -> None:
    read = load(
        {
            "JOBSITE_QUEUES": "mail, big-data",
            "JOBSITE_BROKER_URL": "redis://one:6379/0",
            "JOBSITE_BROKER_URL_BIG_DATA": "rediss://:secret@two/1",
        }
    )

    assert read.queues == ("mail", "big-data")
    assert read.queue_broker_urls == {"big-data": "rediss://:secret@two/1"}
    assert env.broker_variable("big-data") == "JOBSITE_BROKER_URL_BIG_DATA"


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("DATABASE_URL", "mysql://localhost/x", "must be a PostgreSQL URL"),
        ("JOBSITE_BROKER_URL", "amqp://localhost", "must be a Redis URL"),
        ("JOBSITE_BROKER_URL", "localhost:6379", "must be a Redis URL"),
        ("JOBSITE_BROKER_URL", "redis://", "names no host"),
        ("JOBSITE_BROKER_URL", "redis+socket://", "names no socket path"),
        ("JOBSITE_BROKER_URL", "redis://localhost:many/0", "is not a valid URL"),
        ("JOBSITE_BROKER_URL", "redis://[::1/0", "is not a valid URL"),
        ("DATABASE_URL", "postgresql://[::1/x", "must be a PostgreSQL URL"),
        ("EMAIL_URL", "smtp://[::1", "must be smtp://"),
        ("EMAIL_URL", "smtp://mail.example.org:many", ""),
        ("JOBSITE_BROKER_URL", "pgmq://localhost/x", "does not support"),
        ("JOBSITE_BROKER_URL_CONTENT", "pgmq://localhost/x", "does not support"),
        ("JOBSITE_BROKER_URL_NOWHERE", "redis://localhost", "belongs to no queue"),
        ("JOBSITE_BROKER_FALLBACK_URL", "redis://localhost", "is not supported"),
        ("JOBSITE_URL", "https://jobs.example.org", "is not supported"),
        ("JOBSITE_QUEUES", "Default", "lower-case"),
        ("JOBSITE_QUEUES", "a,b,a", "only once"),
        ("JOBSITE_QUEUES", " , ", "at least one queue"),
        ("JOBSITE_LOCK_SECONDS", "39", "must be at least four renewals"),
        ("JOBSITE_LOCK_SECONDS", "forty", "must be a number of seconds"),
        ("JOBSITE_RENEW_SECONDS", "nan", "must be a number of seconds"),
        ("JOBSITE_RENEW_SECONDS", "-1", "must be a number of seconds"),
        ("JOBSITE_SWEEP_SECONDS", "0", "must be a number of seconds"),
        ("DJANGO_DEBUG", "perhaps", "must be true or false"),
        ("DJANGO_SECRET_KEY", "short", "needs at least 50"),
        ("EMAIL_URL", "pigeon://coop", "must be smtp://"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence_that_names_the_variable(variable: str, value: str, part: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load({variable: value})

    assert str(refused.value).startswith(variable)
    assert part in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JOBSITE_BROKER_URL", "amqp://user:hunter2@host"),
        ("JOBSITE_BROKER_URL", "redis://user:hunter2@host:many/0"),
        ("JOBSITE_BROKER_URL", "redis://:hunter2/part-two@host:6379/0"),  # a slash that is not escaped
        ("DATABASE_URL", "mysql://user:hunter2@host/x"),
        ("EMAIL_URL", "pigeon://user:hunter2@coop"),
        ("DJANGO_SECRET_KEY", "hunter2"),
    ],
)
def test_a_refusal_never_shows_a_password(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load({variable: value})

    assert "hunter2" not in str(refused.value)
