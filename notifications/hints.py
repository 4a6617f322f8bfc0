"""Tell the workers which deliveries wait: one message for each, which may be lost, doubled or late."""

from collections.abc import Sequence

from django.conf import settings

from jobsite import brokers
from jobsite.database import Cursor
from jobsite.logs import get_logger

log = get_logger(__name__)

TASK = "notifications.deliver"
QUEUE = "notifications"
LIMIT_SECONDS = 60.0
"""A sender that takes longer is ended; its delivery is tried again when its lock has run out."""
AGAIN_SECONDS = 20.0
BATCH = 500

# By the index delivery_due. What was told of since it became due is on its way, for a while.
DUE = """
WITH due AS MATERIALIZED (
    SELECT id FROM jobsite_delivery
    WHERE status = 'PENDING' AND due_at <= statement_timestamp()
          AND (hinted_at IS NULL OR hinted_at < due_at
               OR hinted_at < statement_timestamp() - %(again)s * interval '1 second')
    ORDER BY due_at LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE jobsite_delivery d SET hinted_at = clock_timestamp() FROM due WHERE d.id = due.id
RETURNING d.id
"""


def queue() -> str:
    """The queue of deliveries; an installation without one of that name sends them through its first."""
    return QUEUE if QUEUE in settings.JOBSITE_BROKER_URLS else next(iter(settings.JOBSITE_BROKER_URLS))


def give(deliveries: Sequence[int]) -> None:
    """Publish a message for each, after the commit that wrote them; a broker that is away leaves it to the sweep."""
    if not deliveries:
        return
    try:
        _publish(deliveries)
    except brokers.BrokerUnavailable as error:
        log.warning("hints_not_given", deliveries=len(deliveries), error=str(error))


def sweep(cursor: Cursor) -> int:
    """Publish a message for a batch of the deliveries that are due and that nobody was told of; how many."""
    cursor.execute(DUE, {"again": AGAIN_SECONDS, "batch": BATCH})
    due = sorted(row[0] for row in cursor.fetchall())
    if due:
        _publish(due)
    return len(due)


def _publish(deliveries: Sequence[int]) -> None:
    name = queue()
    brokers.publish(brokers.Message(TASK, name, (one,), time_limit=LIMIT_SECONDS) for one in deliveries)
