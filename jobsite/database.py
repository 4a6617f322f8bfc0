"""psycopg beside Django's ORM: connections that Django does not know, and prepared statements on its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, cast

import psycopg
from django.db import connection, connections
from django.db.utils import DEFAULT_DB_ALIAS
from psycopg.pq import TransactionStatus

PREPARE_THRESHOLD = 2  # a statement is planned for good when it comes for the third time
Connection = psycopg.Connection[tuple[Any, ...]]


class Cursor(Protocol):
    """What a protocol function needs of a cursor; psycopg's and Django's both have it."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, query: Any, params: Any = ..., /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Sequence[Any]: ...


@contextmanager
def prepared_cursor() -> Iterator[Cursor]:
    """A cursor on Django's connection, in its transaction, whose statements the server plans once.

    Django's own cursors write the values into the text, and a hot statement costs more to plan than to run. Values
    come back as psycopg reads them (jsonb as Python values); errors are Django's.
    """
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    raw: psycopg.Connection[Any] = connection.connection
    raw.prepare_threshold = PREPARE_THRESHOLD
    with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
        yield cursor


def connect(*, application_name: str) -> Connection:
    """A new autocommit connection to the database of DATABASES["default"], prepared statements on.

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


@contextmanager
def snapshot(cursor: Cursor, *, statement_seconds: float, lock_seconds: float) -> Iterator[datetime]:
    """Let the cursor read only, all of it as of one moment, which is given by the database's clock.

    A transaction that is under way is used as it is (its later statements may see later moments) and left as it was.
    A statement, or the wait for a lock, is stopped with an error after so many seconds.
    """
    raw = cast(Connection, cast(Any, cursor).connection)  # Django's cursor passes psycopg's on
    is_first = raw.info.transaction_status == TransactionStatus.IDLE
    # Rolled back, which nothing minds that only read: so also what was SET for it ends with it.
    with raw.transaction(force_rollback=True):
        if is_first:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL transaction_read_only = on")
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), clock_timestamp()",
            [f"{statement_seconds * 1000:.0f}", f"{lock_seconds * 1000:.0f}"],
        )
        yield cursor.fetchone()[2]
