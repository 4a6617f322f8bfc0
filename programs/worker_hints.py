"""A worker keeps no copy of a job's message in Redis: the message is a hint, and losing it costs latency alone.

kombu writes each message that a worker takes into a hash of unacknowledged ones and deletes it again at the
acknowledgement, which Celery sends before the task begins: two of the three round trips that a message costs the
main process of a worker, and 40 % of its time. What they would save from a crash, the sweep of lost messages finds
anyway. Messages of users' own tasks are kept as ever.
"""

from typing import Any

from celery import bootsteps

from jobsite.celery import app
from programs.dispatch import TASK


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
            if message.headers.get("task") == TASK:
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


app.steps["consumer"].add(HintsAreNotKept)
