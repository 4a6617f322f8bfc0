"""Celery by itself: a message is all there is."""

from dataclasses import dataclass
from typing import ClassVar

from jobsite.bench.contenders.base import SHORT, SLEEP_SECONDS, SLEEPING, Client, Contender
from jobsite.bench.processes import Launch

APP = "jobsite.bench.bodies.celery_app"


def worker(app: str, pool: str, children: int, *options: str) -> list[str]:
    """The argv of a Celery worker; the options that spare it talk with others are the same for all."""
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


class CeleryClient(Client):
    """`delay`, as everybody does."""

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
