"""What jobsite changes in the consumer of a Celery worker: it does not store job messages, and free threads wake it.

**Messages.** A job's message is a hint, and losing it costs latency alone. kombu writes each message that a worker
takes into a hash of unacknowledged ones in Redis and deletes it again at the acknowledgement, which Celery sends before
the task begins: two of the three round trips that a message costs the main process, and 40 % of its time. The sweep of
lost messages finds what a crash loses, so job messages do not need that copy. Messages of users' own tasks keep it.

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
    """Keeps job messages out of the channel's record of unacknowledged messages, each time the consumer connects."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, c: Any) -> None:
        """Wrap the channel's record; transports without one (PostgreSQL's) are left alone."""
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
    """Wakes the consumer's event loop each time a thread of the pool becomes free."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **_: Any) -> None:
        self._writer: int | None = None
        super().__init__(c)

    def start(self, c: Any) -> None:
        """Watch a pipe, into which each task of the pool writes a byte when it ends."""
        if c.hub is None or not hasattr(c.pool, "executor"):
            return
        reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        c.hub.add_reader(reader, _drain, reader)
        if "on_apply" not in vars(c.pool):
            apply = c.pool.on_apply

            def on_apply(*args: Any, **kwargs: Any) -> Any:
                applied = apply(*args, **kwargs)
                applied.f.add_done_callback(self._wake)
                return applied

            c.pool.on_apply = on_apply

    def _wake(self, _: Any) -> None:
        try:
            if self._writer is not None:
                os.write(self._writer, b".")
        except BlockingIOError:
            pass  # the pipe is full, so the loop wakes up anyway


def _drain(reader: int) -> None:
    os.read(reader, 4096)


app.steps["consumer"].add(HintsAreNotKept)
app.steps["consumer"].add(FreeThreadsWake)
