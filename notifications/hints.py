"""Hints to the workers that deliveries wait: one message for each, which may be lost, doubled or late."""

import time
from collections.abc import Sequence

from django.conf import settings

from jobsite import brokers
from jobsite.database import Cursor
from jobsite.logs import get_logger

log = get_logger(__name__)

TASK = "jobsite.deliver"
EARLIER_TASK = "notifications.deliver"  # messages sent before the packages moved into `jobsite`
QUEUE = "notifications"
LIMIT_SHARE = 0.9
"""The share of the lock after which a sender is ended, so that no other ever sends beside it."""
AGAIN_SECONDS = 20.0
PAUSE_SECONDS = 30.0
BATCH = 500

_silent_until = 0.0

# By the index delivery_due. A delivery that has had a hint since it became due gets the next one after a while, each
# time after twice as long, so that messages that nobody takes do not fill the broker.
DUE = """
WITH due AS MATERIALIZED (
    SELECT id FROM jobsite_delivery
    WHERE status = 'PENDING' AND due_at <= statement_timestamp()
          AND (hinted_at IS NULL OR hinted_at < due_at
               OR statement_timestamp() - due_at > 2 * (hinted_at - due_at) + %(again)s * interval '1 second')
    ORDER BY due_at LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_delivery d SET hinted_at = clock_timestamp() FROM due WHERE d.id = due.id
RETURNING d.id
"""


def queue() -> str:
    """The queue of deliveries; an installation without one of that name sends them through its first."""
    return QUEUE if QUEUE in settings.JOBSITE_BROKER_URLS else next(iter(settings.JOBSITE_BROKER_URLS))


def give(deliveries: Sequence[int]) -> None:
    """Publish a message for each, after the commit that wrote them; without a broker, the sweep does it later.

    The caller has jobs to run: a broker that does not answer costs it one wait, and then none for half a minute.
    """
    global _silent_until
    if not deliveries or time.monotonic() < _silent_until:
        return
    try:
        _publish(deliveries)
    except brokers.BrokerUnavailable as error:
        _silent_until = time.monotonic() + PAUSE_SECONDS
        log.warning("hints_not_given", deliveries=len(deliveries), error=str(error))


def sweep(cursor: Cursor) -> int:
    """Publish a message for a batch of the deliveries that are due and had no recent hint; returns how many."""
    cursor.execute(DUE, {"again": AGAIN_SECONDS, "batch": BATCH})
    due = sorted(row[0] for row in cursor.fetchall())
    if due:
        _publish(due)
    return len(due)


def _publish(deliveries: Sequence[int]) -> None:
    name, limit = queue(), settings.JOBSITE_LOCK_SECONDS * LIMIT_SHARE
    brokers.publish(brokers.Message(TASK, name, (one,), time_limit=limit) for one in deliveries)
