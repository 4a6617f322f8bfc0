"""Django's tasks with the database backend."""

from dataclasses import dataclass
from typing import ClassVar

from jobsite.bench.contenders.base import Client, Contender
from jobsite.bench.contenders.celery import DJANGO
from jobsite.bench.processes import Launch


@dataclass(frozen=True)
class DjangoTasks(Contender):
    """Two `db_worker` processes. An idle one looks for work once a second (the default)."""

    needs: ClassVar[tuple[str, ...]] = ("django_tasks_db",)

    def workers(self) -> list[Launch]:
        """One process for each child."""
        return [Launch(["-m", "django", "db_worker", "-v", "0"], DJANGO)] * self.children

    def connect(self) -> Client:
        """Migrate the database."""
        return DjangoTasksClient()


class DjangoTasksClient(Client):
    """Submits with `enqueue`."""

    def __init__(self) -> None:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0, interactive=False)
        from jobsite.bench.bodies.django_task import mark

        self._mark = mark

    def submit(self, mark: int, kind: str) -> None:
        """See Client."""
        self._mark.enqueue(mark)

    def clear(self) -> None:
        """Empty the table."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE django_tasks_database_dbtaskresult")

    def finished(self) -> int | None:
        """Results that say SUCCESSFUL."""
        from django_tasks_db.models import DBTaskResult

        return int(DBTaskResult.objects.filter(status="SUCCESSFUL").count())
