"""psycopg connections of jobsite's own, which Django does not know and Celery's fixup does not close."""

from collections.abc import Sequence
from typing import Any, Protocol

import psycopg
from django.db import connections
from django.db.utils import DEFAULT_DB_ALIAS

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
