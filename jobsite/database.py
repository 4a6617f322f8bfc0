"""psycopg connections of jobsite's own, which Django does not know and Celery's fixup does not close."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol, cast

import psycopg
from django.db import connections
from django.db.utils import DEFAULT_DB_ALIAS
from psycopg.pq import TransactionStatus

Connection = psycopg.Connection[tuple[Any, ...]]


class Cursor(Protocol):
    """What a protocol function needs of a cursor; psycopg's and Django's both have it."""

    @property
    def rowcount(self) -> int: ...
    def execute(self, query: Any, params: Any = ..., /) -> Any: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Sequence[Any]: ...


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
        prepare_threshold=2,
        **options,
    )


@contextmanager
def snapshot(cursor: Cursor, *, statement_seconds: float, lock_seconds: float) -> Iterator[datetime]:
    """Let the cursor read only, all of it as of one moment, which is given by the database's clock.

    A transaction that is under way is used as it is (its later statements may see later moments) and left as it was.
    A statement, or the wait for a lock, is stopped with an error after so many seconds.
    """
    connection = cast(Connection, cast(Any, cursor).connection)  # Django's cursor passes psycopg's on
    is_first = connection.info.transaction_status == TransactionStatus.IDLE
    # Rolled back, which nothing minds that only read: so also what was SET for it ends with it.
    with connection.transaction(force_rollback=True):
        if is_first:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL transaction_read_only = on")
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true), clock_timestamp()",
            [f"{statement_seconds * 1000:.0f}", f"{lock_seconds * 1000:.0f}"],
        )
        yield cursor.fetchone()[2]
