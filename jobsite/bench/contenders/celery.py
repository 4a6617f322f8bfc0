"""Celery alone, which keeps nothing but messages, and Celery with its results in PostgreSQL."""

from dataclasses import dataclass
from typing import ClassVar

from jobsite.bench.contenders.base import SHORT, SLEEP_SECONDS, SLEEPING, Client, Contender
from jobsite.bench.processes import Launch
from jobsite.bench.variables import RESULTS_VARIABLE, REUSE_VARIABLE

APP = "jobsite.bench.bodies.celery_app"
DJANGO = {"DJANGO_SETTINGS_MODULE": "jobsite.bench.bodies.django_settings"}


def worker(app: str, pool: str, children: int, *options: str) -> list[str]:
    """The argv of a Celery worker. The same options keep every worker from talking with others."""
    quiet = ("--without-mingle", "--without-gossip", "-l", "WARNING")
    return ["-m", "celery", "-A", app, "worker", "-P", pool, "-c", str(children), *quiet, *options]


@dataclass(frozen=True)
class BareCelery(Contender):
    """Celery with task_ignore_result on Redis: nothing is recorded."""

    pool: str = "prefork"

    kinds: ClassVar[tuple[str, ...]] = (SHORT, SLEEPING)

    def workers(self) -> list[Launch]:
        """One worker."""
        return [Launch(worker(APP, self.pool, self.children))]

    def connect(self) -> Client:
        """The application knows its broker from the environment."""
        return CeleryClient()


@dataclass(frozen=True)
class CeleryResults(Contender):
    """Celery with django-celery-results: each task has a row, with its start and its arguments.

    `reuse` is CELERY_DB_REUSE_MAX: without it, Celery's Django fixup closes the connection around every task.
    """

    reuse: int | None = None

    def workers(self) -> list[Launch]:
        """One worker."""
        reuse = {REUSE_VARIABLE: str(self.reuse)} if self.reuse else {}
        environment = {**DJANGO, RESULTS_VARIABLE: "django-db", **reuse}
        return [Launch(worker(APP, "prefork", self.children), environment)]

    def connect(self) -> Client:
        """Migrate the database."""
        return CeleryResultsClient()


class CeleryClient(Client):
    """Submits with `delay`, the usual way."""

    def __init__(self) -> None:
        from jobsite.bench.bodies.celery_app import app, mark

        self._app, self._mark = app, mark

    def submit(self, mark: int, kind: str) -> None:
        """See Client."""
        arguments = (mark, SLEEP_SECONDS) if kind == SLEEPING else (mark,)
        self._mark.delay(*arguments)

    def clear(self) -> None:
        """Empty the queue."""
        self._app.control.purge()


class CeleryResultsClient(CeleryClient):
    """The same, with the rows of the results."""

    def __init__(self) -> None:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0, interactive=False)
        super().__init__()

    def clear(self) -> None:
        """Empty the queue and the table."""
        from django.db import connection

        super().clear()
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE django_celery_results_taskresult")

    def finished(self) -> int | None:
        """Results that say SUCCESS."""
        from django_celery_results.models import TaskResult

        return int(TaskResult.objects.filter(status="SUCCESS").count())
