"""psycopg next to Django's ORM: connections outside of Django, and prepared statements on Django's own."""

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import cache, partial
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import psycopg
from django.db import connection, connections
from django.db.utils import DEFAULT_DB_ALIAS
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzLoader

PREPARE_THRESHOLD = 2  # a statement is prepared when it is executed for the third time
FIRST_REPLAN_SECONDS = 0.1
REPLAN_SECONDS = 10.0
# By default the server may decide to plan a statement again at each execution, for ever, after it was costly once:
# 5 ms for a dispatch that takes 0.3 ms. On Django's connections only our own statements are prepared.
KEEP_PLANS = "SET plan_cache_mode = force_generic_plan"
Connection = psycopg.Connection[tuple[Any, ...]]
AnyCursor = TypeVar("AnyCursor", bound=psycopg.Cursor[Any])
_NAMED = re.compile(r"%\((\w+)\)s")


class Plans:
    """When the plans of a connection must be made again: they depend on the sizes that tables had.

    At first this is soon, because an empty table, for which the plan is a full scan, may fill quickly. Later it is
    every ten seconds.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + FIRST_REPLAN_SECONDS
        self._pause = FIRST_REPLAN_SECONDS
        self.are_kept = False

    def are_old(self) -> bool:
        """Whether it is time to make them again. A True starts the next pause."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._pause
        self._pause = min(self._pause * 2, REPLAN_SECONDS)
        return True


_plans: WeakKeyDictionary[Connection, Plans] = WeakKeyDictionary()


class Cursor(Protocol):
    """The methods of a cursor that protocol functions use. psycopg's and Django's cursors both have them."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, query: Any, params: Any = ..., /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Sequence[Any]: ...
    def copy(self, statement: Any, /) -> AbstractContextManager[psycopg.Copy]: ...


@contextmanager
def prepared_cursor() -> Iterator[Cursor]:
    """A cursor on Django's connection, in its transaction, with prepared statements.

    Django's own cursors write the values into the text, so the server plans each execution; for a hot statement this
    costs more than to run it. Values come back as psycopg reads them (jsonb as Python values). Errors are Django's.
    """
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    raw: Connection = connection.connection
    with connection.wrap_database_errors, _plain_cursor(raw) as cursor:
        if (plans := _plans.get(raw)) is None:
            plans = _plans[raw] = Plans()
            raw.prepare_threshold = PREPARE_THRESHOLD
        if not plans.are_kept and raw.autocommit:
            cursor.execute(KEEP_PLANS)  # never inside a transaction: its rollback would undo the setting
            plans.are_kept = True
        if plans.are_old():
            cursor.execute("DISCARD PLANS")
        yield cursor


def _plain_cursor(raw: Connection) -> psycopg.Cursor[tuple[Any, ...]]:
    return _with_fast_moments(psycopg.Cursor(raw))


def _with_fast_moments(cursor: AnyCursor) -> AnyCursor:
    # Django's own loader of moments is written in Python and takes longer for a row than everything else.
    cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
    return cursor


def execute(cursor: Cursor, statement: str, values: Mapping[str, object]) -> Cursor:
    """Execute on the connection of `cursor`, and return the cursor with the rows.

    The places of `%(name)s` in the statement are remembered. psycopg does this for statements of up to 4,096
    characters only, and searches longer ones each time.
    """
    text, names = _numbered(statement)
    numbered = _with_fast_moments(psycopg.RawCursor(cast(Connection, cast(Any, cursor).connection)))
    return numbered.execute(text, [values[name] for name in names])


@cache
def _numbered(statement: str) -> tuple[bytes, tuple[str, ...]]:
    """The statement with $1, $2 and so on, and the names in this order."""
    names = tuple(dict.fromkeys(_NAMED.findall(statement)))
    text = _NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
    return text.encode(), names


@contextmanager
def pipelined(cursor: Cursor) -> Iterator[Callable[[], Cursor]]:
    """Yield a function that makes a cursor for one statement and does not wait for its answer.

    The answers are there after the block. Nothing else may use the connection of `cursor` inside it.
    """
    raw = cast(Connection, cast(Any, cursor).connection)
    with raw.pipeline():
        yield partial(_plain_cursor, raw)


def waits_at_most(duration: str) -> str:
    """A condition that is always true and sets lock_timeout for the rest of the transaction.

    From then on, a statement that waits longer than `duration` for a row fails with LockNotAvailable. `duration` is
    written as in PostgreSQL: `300ms`, `10s`.
    """
    return f"set_config('lock_timeout', '{duration}', true) = '{duration}'"


def connect(*, application_name: str) -> Connection:
    """A new autocommit connection to the database of DATABASES["default"], with prepared statements.

    Raises psycopg.OperationalError when the database cannot be reached within its connect_timeout.
    """
    settings = connections[DEFAULT_DB_ALIAS].settings_dict
    options = dict(settings["OPTIONS"]) | {"application_name": application_name}
    return psycopg.connect(
        dbname=settings["NAME"],
        user=settings["USER"] or None,
        password=settings["PASSWORD"] or None,
        host=settings["HOST"] or None,
        port=settings["PORT"] or None,
        autocommit=True,
        prepare_threshold=PREPARE_THRESHOLD,
        **options,
    )


class OwnConnection:
    """A connection that is opened at its first use, and again after it was closed or dropped.

    A forked process opens its own.
    """

    def __init__(self, open_one: Callable[[], Connection]) -> None:
        self._open = open_one
        self._connection: Connection | None = None
        self._pid = 0
        self._plans = Plans()

    def get(self) -> Connection:
        """The connection, open as far as is known. Old plans are discarded."""
        known = self._connection
        if known is None or known.closed or self._pid != os.getpid():
            known = self._connection = self._open()
            self._pid, self._plans = os.getpid(), Plans()
        if self._plans.are_old():
            known.execute("DISCARD PLANS")
        return known

    def drop(self) -> None:
        """Close it, whatever state it is in."""
        known, self._connection = self._connection, None
        if known is not None:
            known.close()


class ConnectionOfEachThread(threading.local, OwnConnection):
    """An OwnConnection for each thread that uses it."""


@contextmanager
def snapshot(cursor: Cursor, *, statement_seconds: float, lock_seconds: float) -> Iterator[datetime]:
    """Let the cursor only read, all as of one moment. Yields this moment by the database's clock.

    A transaction that has begun already is used as it is (its later statements may see later moments) and is left as
    it was. A statement fails after `statement_seconds`, or after it has waited `lock_seconds` for a lock.
    """
    raw = cast(Connection, cast(Any, cursor).connection)  # Django's cursor passes psycopg's on
    is_first = raw.info.transaction_status == TransactionStatus.IDLE
    # Rolled back, so that the settings made here end with it. Nothing is lost, because the block only reads.
    with raw.transaction(force_rollback=True):
        if is_first:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL transaction_read_only = on")
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), clock_timestamp()",
            [f"{statement_seconds * 1000:.0f}", f"{lock_seconds * 1000:.0f}"],
        )
        yield cursor.fetchone()[2]
