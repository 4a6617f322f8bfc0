"""Whether a failed run is tried again, and when: decided from plain values, without a clock or a database."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """`max_attempts` total runs (losses apart), back-off in seconds, jitter as a share of the delay."""

    max_attempts: int = 3
    initial_interval: float = 1.0
    coefficient: float = 2.0
    maximum_interval: float = 30.0
    jitter: float = 0.1


@dataclass(frozen=True)
class RetryAfter:
    """Try again `seconds` from now."""

    seconds: float


@dataclass(frozen=True)
class GiveUp:
    """No further try; `reason` in words for the operator."""

    reason: str


def delay(policy: RetryPolicy, *, runs: int, spread: float) -> float:
    """Seconds to wait after the `runs`-th run failed; `spread` in -1…1 places it within the jitter."""
    # The exponent is bounded before the power is taken: 2.0 ** 5000 is an OverflowError, not infinity.
    exponent = min(runs - 1, 1_000 if policy.coefficient <= 2 else 100)
    try:
        backoff = policy.initial_interval * policy.coefficient**exponent
    except OverflowError:
        backoff = policy.maximum_interval
    return max(0.0, min(backoff, policy.maximum_interval) * (1 + policy.jitter * spread))


def decide(
    policy: RetryPolicy,
    *,
    runs: int,
    transient: bool,
    spread: float,
    retry_after: float | None = None,
) -> RetryAfter | GiveUp:
    """What follows when a job has failed for the `runs`-th time (lost runs not counted).

    `retry_after` is what the other side asked for, in seconds: the longer of it and the back-off wins.
    """
    if not transient:
        return GiveUp("the error is permanent")
    if runs >= policy.max_attempts:
        return GiveUp(f"attempt {runs} of {policy.max_attempts} failed")
    return RetryAfter(max(delay(policy, runs=runs, spread=spread), retry_after or 0.0))


def names_of(error: BaseException) -> frozenset[str]:
    """Every name by which a program may list this exception: bare and dotted, of its class and its bases."""
    classes = [kind for kind in type(error).__mro__ if kind not in (object, BaseException, Exception)]
    names = {name for kind in classes for name in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")}
    return frozenset(names.union(*(names_by_use for own, names_by_use in OTHER_NAMES.items() if own in names)))


OTHER_NAMES = {
    "jobsite.programs.rules.failures.TransientError": (
        "jobsite.TransientError",
        "programs.actions.base.TransientError",
    ),
    "jobsite.programs.rules.failures.PermanentError": (
        "jobsite.PermanentError",
        "programs.actions.base.PermanentError",
    ),
    "jobsite.outgoing.errors.OutgoingError": ("jobsite.outgoing.OutgoingError",),
    "jobsite.outgoing.errors.OutgoingTimeout": ("jobsite.outgoing.OutgoingTimeout",),
    "jobsite.outgoing.errors.OutgoingRefused": ("jobsite.outgoing.OutgoingRefused",),
}
"""Other names by which programs may list our own errors: the public one, and those that stored programs have."""


def is_transient(error: BaseException, *, transient: Sequence[str] = (), permanent: Sequence[str] = ()) -> bool:
    """Whether a new try may help. The program's own lists come first, `permanent` before `transient`."""
    names = names_of(error)
    if names & set(permanent):
        return False
    if names & set(transient):
        return True
    return _is_transient_by_nature(error, names)


# Network and database trouble by the names of the classes, so that no library need be imported to ask.
TRANSIENT_NAMES = frozenset(
    {
        "ConnectionError",
        "TimeoutError",
        "jobsite.programs.rules.failures.TransientError",
        "urllib.error.URLError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "httpx.TransportError",
        "httpx2.TransportError",
        "jobsite.outgoing.OutgoingError",
        "redis.exceptions.ConnectionError",
        "redis.exceptions.TimeoutError",
        "kombu.exceptions.OperationalError",
        "smtplib.SMTPServerDisconnected",
        "smtplib.SMTPConnectError",
        "socket.gaierror",
    }
)
PERMANENT_NAMES = frozenset({"jobsite.programs.rules.failures.PermanentError", "jobsite.outgoing.OutgoingRefused"})
# Deadlock, serialization failure, lock not available, too many connections, server shutting down or starting;
# class 08 is a lost connection. Disk full (53100) is permanent: a new try fills it further.
TRANSIENT_SQLSTATES = frozenset({"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"})
TRANSIENT_ERRNO = frozenset({11})  # EAGAIN
TRANSIENT_HTTP_STATUSES = frozenset({408, 425, 429})


def _is_transient_by_nature(error: BaseException, names: frozenset[str]) -> bool:
    if names & PERMANENT_NAMES:
        return False
    state = _sqlstate(error)
    if state is not None:
        return state in TRANSIENT_SQLSTATES or state.startswith("08")
    if _is_database_error(names):
        return bool(names & {"OperationalError", "InterfaceError"})
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int) and 400 <= status < 600:
        return status in TRANSIENT_HTTP_STATUSES or status >= 500
    if isinstance(error, OSError) and error.errno in TRANSIENT_ERRNO:
        return True
    return bool(names & TRANSIENT_NAMES)


def _is_database_error(names: frozenset[str]) -> bool:
    return "psycopg.Error" in names or "django.db.utils.Error" in names


def _sqlstate(error: BaseException) -> str | None:
    cause = error if hasattr(error, "sqlstate") else error.__cause__
    state = getattr(cause, "sqlstate", None)
    return state if isinstance(state, str) else None
