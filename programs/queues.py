"""The queues of this installation as rows, with what must exist beside them."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db import connection

from jobsite.database import Cursor
from jobsite.programs.models.worker import DEFAULT_MANAGER
from jobsite.tenants.models import SYSTEM


def register(cursor: Cursor) -> None:
    """Make the rows of the configured queues, the sweeps, the default manager and the system tenant."""
    from jobsite.programs.sweeps import all_sweeps

    _insert_names(cursor, "jobsite_queue", list(settings.JOBSITE_QUEUES))
    _insert_names(cursor, "jobsite_sweep", [sweep.name for sweep in all_sweeps()])
    _insert_names(cursor, "jobsite_workermanager", [DEFAULT_MANAGER])
    cursor.execute(
        "INSERT INTO jobsite_tenant (code, name) VALUES (%s, 'System') ON CONFLICT (code) DO NOTHING",
        [SYSTEM],
    )


def _insert_names(cursor: Cursor, table: str, names: list[str]) -> None:
    # Only what is missing is inserted: ON CONFLICT alone would use up a key each time.
    cursor.execute(
        f"""
        INSERT INTO {table} (name)
        SELECT name FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
        WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE t.name = wanted.name) ORDER BY place
        ON CONFLICT (name) DO NOTHING
        """,  # noqa: S608 - the table is one of three constants above
        [names],
    )


def register_after_migrate(sender: AppConfig, **_: Any) -> None:
    """Receiver of post_migrate."""
    with connection.cursor() as cursor:
        register(cursor)
