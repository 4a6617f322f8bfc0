"""Procrastinate: tasks in PostgreSQL, with NOTIFY to wake its workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jobsite.bench.contenders.base import Client, Contender
from jobsite.bench.processes import Launch

APP = "jobsite.bench.bodies.procrastinate_app.app"
CONCURRENCY = 10
CHUNK = 1_000


@dataclass(frozen=True)
class Procrastinate(Contender):
    """One worker that runs ten tasks at a time. Finished jobs are kept (the default)."""

    needs: ClassVar[tuple[str, ...]] = ("procrastinate",)
    has_bulk: ClassVar[bool] = True

    def workers(self) -> list[Launch]:
        """One process."""
        return [Launch(["-m", "procrastinate", f"--app={APP}", "worker", "-c", str(CONCURRENCY)])]

    def connect(self) -> Client:
        """Apply the schema if it is missing."""
        return ProcrastinateClient()


class ProcrastinateClient(Client):
    """Submits with `defer` and `batch_defer`."""

    def __init__(self) -> None:
        from jobsite.bench.bodies.procrastinate_app import app, mark

        self._mark = mark
        app.open()
        self._database = app.connector.get_sync_connector()
        if not self._database.execute_query_one("SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS is_there")[
            "is_there"
        ]:
            app.schema_manager.apply_schema()

    def submit(self, mark: int, kind: str) -> None:
        """See Client."""
        self._mark.defer(number=mark)

    def submit_many(self, marks: Sequence[int], kind: str) -> None:
        """Submit a thousand per statement."""
        for first in range(0, len(marks), CHUNK):
            given: list[Any] = [{"number": mark} for mark in marks[first : first + CHUNK]]
            self._mark.batch_defer(*given)

    def clear(self) -> None:
        """Empty the tables."""
        self._database.execute_query("TRUNCATE procrastinate_jobs CASCADE")

    def finished(self) -> int | None:
        """Jobs that have succeeded."""
        query = "SELECT count(*) AS finished FROM procrastinate_jobs WHERE status = 'succeeded'"
        return int(self._database.execute_query_one(query)["finished"])
