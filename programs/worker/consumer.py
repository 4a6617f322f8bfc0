"""What jobsite changes in the consumer of a Celery worker: it keeps no job messages, and hears of free threads.

**Messages.** A job's message is a hint, and losing it costs latency alone. kombu writes each message that a worker
takes into a hash of unacknowledged ones in Redis and deletes it again at the acknowledgement, which Celery sends before
the task begins: two of the three round trips that a message costs the main process, and 40 % of its time. What they
would save from a crash, the sweep of lost messages finds anyway. Messages of users' own tasks are kept as ever.

**Threads.** With `worker_disable_prefetch` the consumer takes a message only while a child is free. A process of the
prefork pool that becomes free wakes it through a pipe; a thread does not, and it would look again only at its next
timer, a second later.
"""

import os
from typing import Any

from celery import bootsteps

from jobsite.celery import app
from jobsite.programs.dispatch import EARLIER_TASK, TASK


class HintsAreNotKept(bootsteps.StartStopStep):
    """Takes job messages out of the bookkeeping of a consumer's channel, each time that it has connected."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        """Wrap the channel's bookkeeping; transports without one (PostgreSQL's) are left alone."""
        if c.connection.transport.driver_type != "redis":
            return
        qos = c.task_consumer.channel.qos
        keep, acknowledge, reject = qos.append, qos.ack, qos.reject
        hints: set[str] = set()

        def append(message: Any, delivery_tag: str) -> None:
            if message.headers.get("task") in (TASK, EARLIER_TASK):
                hints.add(delivery_tag)
            else:
                keep(message, delivery_tag)

        def ack(delivery_tag: str) -> None:
            if delivery_tag in hints:
                hints.discard(delivery_tag)
            else:
                acknowledge(delivery_tag)

        def reject_(delivery_tag: str, requeue: bool = False) -> None:
            if delivery_tag in hints:
                hints.discard(delivery_tag)
            else:
                reject(delivery_tag, requeue=requeue)

        qos.append, qos.ack, qos.reject = append, ack, reject_


class FreeThreadsWake(bootsteps.StartStopStep):
    """Wakes the consumer's event loop each time that a thread of the pool has become free."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **_: Any) -> None:
        self._wake: int | None = None
        super().__init__(c)

    def start(self, c: Any) -> None:
        """Watch a pipe, into which each task of the pool writes a byte when it is through."""
        if c.hub is None or not hasattr(c.pool, "executor"):
            return
        heard, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        c.hub.add_reader(heard, _drain, heard)
        if "on_apply" not in vars(c.pool):
            apply = c.pool.on_apply

            def on_apply(*args: Any, **kwargs: Any) -> Any:
                applied = apply(*args, **kwargs)
                applied.f.add_done_callback(self._tell)
                return applied

            c.pool.on_apply = on_apply

    def _tell(self, _: Any) -> None:
        try:
            if self._wake is not None:
                os.write(self._wake, b".")
        except BlockingIOError:
            pass  # it is full of calls to wake up already


def _drain(heard: int) -> None:
    os.read(heard, 4096)


app.steps["consumer"].add(HintsAreNotKept)
app.steps["consumer"].add(FreeThreadsWake)
