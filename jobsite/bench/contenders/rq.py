"""RQ: jobs and their results in Redis."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit

from jobsite.bench import ledger
from jobsite.bench.contenders.base import Client, Contender
from jobsite.bench.processes import Launch

QUEUE = "bench"
CHUNK = 1_000
OPEN_URL = (
    "import os, sys; from rq.cli import main; from jobsite.bench.contenders.rq import url;"
    " sys.argv[1:] = ['worker', '--url', url(), *sys.argv[1:]]; main()"
)


@dataclass(frozen=True)
class Rq(Contender):
    """Two SimpleWorkers, which run jobs without forking."""

    needs: ClassVar[tuple[str, ...]] = ("rq",)
    has_bulk: ClassVar[bool] = True

    def workers(self) -> list[Launch]:
        """One process for each child."""
        options = ["-w", "rq.worker.SimpleWorker", "-q", "--disable-job-desc-logging", QUEUE]
        return [Launch(["-c", OPEN_URL, *options])] * self.children

    def connect(self) -> Client:
        """Connect to Redis."""
        return RqClient()


def url() -> str:
    """The broker URL of the environment in the form that redis-py wants."""
    return f"unix://{urlsplit(os.environ['JOBSITE_BROKER_URL']).path}?db=0"


class RqClient(Client):
    """Submits with `enqueue` and `enqueue_many`."""

    def __init__(self) -> None:
        from redis import Redis
        from rq import Queue

        self._redis = Redis.from_url(url())
        self._queue = Queue(QUEUE, connection=self._redis)

    def submit(self, mark: int, kind: str) -> None:
        """See Client."""
        self._queue.enqueue(ledger.write, mark)

    def submit_many(self, marks: Sequence[int], kind: str) -> None:
        """Submit a thousand per pipeline."""
        for first in range(0, len(marks), CHUNK):
            chunk = marks[first : first + CHUNK]
            self._queue.enqueue_many([self._queue.prepare_data(ledger.write, args=(mark,)) for mark in chunk])

    def clear(self) -> None:
        """Remove the jobs, their results and the lists of both. The workers stay."""
        for pattern in ("rq:job:*", "rq:results:*", "rq:finished:*", "rq:wip:*", f"rq:queue:{QUEUE}*"):
            names = list(self._redis.scan_iter(pattern, count=CHUNK))
            for first in range(0, len(names), CHUNK):
                self._redis.delete(*names[first : first + CHUNK])

    def finished(self) -> int | None:
        """The number of jobs in the registry of finished jobs."""
        return int(self._redis.zcard(self._queue.finished_job_registry.key))
