"""Whether a failed run is retried, and when: as tables, without a clock or a database."""

import errno
import smtplib
import socket
import urllib.error
from email.message import Message
from types import SimpleNamespace

import psycopg
import pytest
import redis
from django.db import utils as django_errors
from hypothesis import given
from hypothesis import strategies as st

from jobsite.programs.context import PermanentError, TransientError
from jobsite.programs.rules.retries import GiveUp, RetryAfter, RetryPolicy, decide, delay, is_transient, names_of

POLICY = RetryPolicy()


@pytest.mark.parametrize(
    ("runs", "spread", "seconds"),
    [
        (1, 0, 1.0),
        (2, 0, 2.0),
        (3, 0, 4.0),
        (5, 0, 16.0),
        (6, 0, 30.0),
        (60, 0, 30.0),
        (5_000, 0, 30.0),
        (1, 1, 1.1),
        (1, -1, 0.9),
        (6, 0.5, 31.5),
    ],
)
def test_the_delay_doubles_up_to_half_a_minute_and_varies_by_a_tenth(runs, spread, seconds):
    assert delay(POLICY, runs=runs, spread=spread) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("policy", "runs", "seconds"),
    [
        (RetryPolicy(initial_interval=5, coefficient=1), 9, 5),
        (RetryPolicy(initial_interval=10, coefficient=0.5, maximum_interval=60), 3, 2.5),
        (RetryPolicy(initial_interval=0), 4, 0),
        (RetryPolicy(initial_interval=60, maximum_interval=30), 1, 30),
        (RetryPolicy(coefficient=1e10, maximum_interval=3_600), 1_000_000, 3_600),
    ],
)
def test_a_program_sets_its_own_delays(policy, runs, seconds):
    assert delay(policy, runs=runs, spread=0) == pytest.approx(seconds)


@given(
    st.builds(
        RetryPolicy,
        max_attempts=st.integers(1, 100),
        initial_interval=st.floats(0, 86_400),
        coefficient=st.floats(0.1, 1e6),
        maximum_interval=st.floats(0, 86_400),
        jitter=st.floats(0, 1),
    ),
    st.integers(1, 10**9),
    st.floats(-1, 1),
)
def test_no_policy_gives_a_delay_that_is_negative_or_above_its_maximum(policy, runs, spread):
    seconds = delay(policy, runs=runs, spread=spread)

    assert 0 <= seconds <= policy.maximum_interval * (1 + policy.jitter) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("runs", "transient", "retry_after", "expected"),
    [
        (1, True, None, RetryAfter(1.0)),
        (2, True, None, RetryAfter(2.0)),
        (3, True, None, GiveUp("attempt 3 of 3 failed")),
        (4, True, None, GiveUp("attempt 4 of 3 failed")),
        (1, False, None, GiveUp("the error is permanent")),
        (9, False, None, GiveUp("the error is permanent")),
        # The longer of what the other side asked for and the back-off wins.
        (1, True, 120.0, RetryAfter(120.0)),
        (2, True, 0.5, RetryAfter(2.0)),
        (1, True, 0.0, RetryAfter(1.0)),
        (1, True, -5.0, RetryAfter(1.0)),
        (3, True, 120.0, GiveUp("attempt 3 of 3 failed")),
        (1, False, 120.0, GiveUp("the error is permanent")),
    ],
)
def test_a_failure_is_retried_while_runs_are_left_and_a_retry_may_help(runs, transient, retry_after, expected):
    assert decide(POLICY, runs=runs, transient=transient, spread=0, retry_after=retry_after) == expected


def test_one_attempt_means_no_retry():
    decision = decide(RetryPolicy(max_attempts=1), runs=1, transient=True, spread=0)

    assert decision == GiveUp("attempt 1 of 1 failed")


def named(name: str, *bases: type[BaseException]) -> type[BaseException]:
    """An exception class such as a library that is not installed here would define."""
    module, _, bare = name.rpartition(".")
    return type(bare, bases or (Exception,), {"__module__": module})


def http_error(status: int) -> Exception:
    error = named("requests.exceptions.HTTPError")("the other side")
    error.response = SimpleNamespace(status_code=status)
    return error


def wrapped(state: str) -> Exception:
    """An error of psycopg as Django raises it."""
    cause = psycopg.errors.lookup(state)("said the database")
    kind = getattr(django_errors, type(cause).__mro__[1].__name__)
    error = kind("said the database")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        TransientError("the other side is busy"),
        ConnectionError(),
        ConnectionRefusedError(),
        ConnectionResetError(),
        BrokenPipeError(),
        TimeoutError(),
        socket.gaierror(),
        BlockingIOError(errno.EAGAIN, "try again"),
        OSError(errno.EAGAIN, "try again"),
        urllib.error.URLError("no route"),
        urllib.error.HTTPError("http://x", 503, "busy", Message(), None),
        urllib.error.HTTPError("http://x", 429, "slowly", Message(), None),
        redis.ConnectionError(),
        redis.TimeoutError(),
        smtplib.SMTPServerDisconnected(),
        smtplib.SMTPConnectError(421, b"busy"),
        named("requests.exceptions.ConnectTimeout", named("requests.exceptions.Timeout"))(),
        named("httpx.ReadTimeout", named("httpx.TransportError"))(),
        named("httpx2.ConnectError", named("httpx2.TransportError"))(),
        named("kombu.exceptions.OperationalError")(),
        psycopg.OperationalError("server closed the connection unexpectedly"),
        psycopg.InterfaceError("connection is closed"),
        django_errors.OperationalError("server closed the connection unexpectedly"),
        django_errors.InterfaceError("connection already closed"),
    ],
    ids=repr,
)
def test_errors_of_networks_and_databases_are_transient(error):
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("no"),
        ValueError("a logic error repeats"),
        KeyError("x"),
        ZeroDivisionError(),
        AssertionError(),
        FileNotFoundError(errno.ENOENT, "no such file"),
        OSError(errno.ENOSPC, "disk full"),
        PermissionError(errno.EACCES, "no"),
        MemoryError(),
        urllib.error.HTTPError("http://x", 404, "gone", Message(), None),
        psycopg.ProgrammingError("the query has 1 placeholder"),
        psycopg.DataError("NUL"),
        django_errors.IntegrityError("duplicate key"),
        django_errors.DataError("value too long"),
        django_errors.ProgrammingError("no such table"),
    ],
    ids=repr,
)
def test_everything_else_is_permanent(error):
    assert not is_transient(error)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("40001", True),  # serialization failure
        ("40P01", True),  # deadlock
        ("55P03", True),  # lock not available
        ("53300", True),  # too many connections
        ("57P01", True),  # shutting down
        ("57P03", True),  # starting up
        ("08006", True),  # connection failure
        ("08001", True),
        ("53100", False),  # disk full: a new try fills it further
        ("53200", False),  # out of memory
        ("57014", False),  # canceled: statement_timeout, a limit that somebody set
        ("23505", False),  # unique violation
        ("22P02", False),  # bad text
        ("42P01", False),  # no such table
    ],
)
def test_contention_in_the_database_is_transient_but_a_full_disk_is_not(state, expected):
    assert is_transient(psycopg.errors.lookup(state)("said the database")) is expected
    assert is_transient(wrapped(state)) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((status, True) for status in (408, 425, 429, 500, 502, 503, 504, 599)),
        *((status, False) for status in (400, 401, 403, 404, 409, 410, 422)),
    ],
)
def test_an_http_error_is_judged_by_its_status(status, expected):
    assert is_transient(http_error(status)) is expected


@pytest.mark.parametrize(
    ("transient", "permanent", "error", "expected"),
    [
        (["ValueError"], [], ValueError(), True),
        (["builtins.ValueError"], [], ValueError(), True),
        (["billing.Busy"], [], named("billing.Busy")(), True),
        (["Busy"], [], named("billing.Busy")(), True),
        (["shop.Busy"], [], named("billing.Busy")(), False),
        (["LookupError"], [], KeyError(), True),  # a base class stands for all that extend it
        ([], ["ConnectionError"], ConnectionResetError(), False),
        (
            [],
            ["programs.actions.base.TransientError"],
            TransientError(),
            False,
        ),  # as programs of an earlier version say
        ([], ["jobsite.TransientError"], TransientError(), False),
        (["PermanentError"], [], PermanentError(), True),
        (["OSError"], ["TimeoutError"], TimeoutError(), False),
        (["ValueError"], ["ValueError"], ValueError(), False),
        (["Exception"], [], ValueError(), False),  # too wide to be meant
    ],
)
def test_a_program_can_add_to_either_list_and_permanent_wins(transient, permanent, error, expected):
    assert is_transient(error, transient=transient, permanent=permanent) is expected


def test_an_exception_has_its_bare_and_dotted_names_and_those_of_its_bases():
    assert names_of(KeyError("x")) == {"KeyError", "builtins.KeyError", "LookupError", "builtins.LookupError"}
