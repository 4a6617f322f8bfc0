"""The rows that every installation needs, created after migrating and, where missing, when a worker starts."""

from typing import Any

from django.apps import AppConfig
from django.db import connection

from jobsite.database import Cursor
from jobsite.programs import queues
from jobsite.programs.upkeep.sweeps import all_sweeps


def register(cursor: Cursor) -> None:
    """Make the rows of the configured queues, the sweeps, the default manager and the system tenant."""
    queues.register(cursor)
    queues.insert_names(cursor, "jobsite_sweep", [sweep.name for sweep in all_sweeps()])


def register_after_migrate(sender: AppConfig, **_: Any) -> None:
    """Receiver of post_migrate."""
    with connection.cursor() as cursor:
        register(cursor)
