"""To CANCELED at once where nobody works on the job; a request where somebody does."""

from dataclasses import dataclass

from jobsite.database import Cursor
from jobsite.failpoints import failpoint
from programs.lifecycle import Status

# One statement, so that a claim in between decides which half applies.
CANCEL = """
UPDATE jobsite_job SET
    status = CASE WHEN status = 'RUNNING' THEN status ELSE 'CANCELED' END,
    finished_at = CASE WHEN status = 'RUNNING' THEN NULL ELSE clock_timestamp() END,
    blocked = NULL, hold_at = NULL, hold_by = '', hold_reason = '', hold_until = NULL,
    cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
    cancel_requested_by = CASE WHEN cancel_requested_at IS NULL THEN %(by)s ELSE cancel_requested_by END,
    cancel_reason = CASE WHEN cancel_requested_at IS NULL THEN %(reason)s ELSE cancel_reason END
WHERE number = %(number)s AND tenant_id = %(tenant)s AND status IN ('PENDING', 'QUEUED', 'WAITING', 'RUNNING')
RETURNING status
"""


@dataclass(frozen=True)
class Canceled:
    """The status after the request: CANCELED, or RUNNING until the action has stopped."""

    status: Status


@failpoint("cancel")
def cancel(cursor: Cursor, *, number: int, tenant_id: int, by: str, reason: str) -> Canceled | None:
    """Cancel a job, or ask its worker to stop; None when the job is terminal or not of this tenant."""
    cursor.execute(CANCEL, {"number": number, "tenant": tenant_id, "by": by, "reason": reason})
    row = cursor.fetchone()
    return Canceled(Status(row[0])) if row else None
