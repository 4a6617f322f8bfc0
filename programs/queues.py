"""The rows of this installation's queues, and the other rows that jobs refer to."""

from django.conf import settings

from jobsite.database import Cursor
from jobsite.programs.models import DEFAULT_MANAGER
from jobsite.tenants.models import SYSTEM


def register(cursor: Cursor) -> None:
    """Make the rows of the configured queues, the default manager and the system tenant."""
    insert_names(cursor, "jobsite_queue", list(settings.JOBSITE_QUEUES))
    insert_names(cursor, "jobsite_workermanager", [DEFAULT_MANAGER])
    cursor.execute(
        "INSERT INTO jobsite_tenant (code, name) VALUES (%s, 'System') ON CONFLICT (code) DO NOTHING",
        [SYSTEM],
    )


def insert_names(cursor: Cursor, table: str, names: list[str]) -> None:
    """Add rows with those of these names that are missing; `table` must be a constant, since it becomes SQL."""
    # Only what is missing is inserted: ON CONFLICT alone would use up a key each time.
    cursor.execute(
        f"""
        INSERT INTO {table} (name)
        SELECT name FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
        WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE t.name = wanted.name) ORDER BY place
        ON CONFLICT (name) DO NOTHING
        """,
        [names],
    )
