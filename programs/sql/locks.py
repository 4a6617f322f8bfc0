"""A worker's lock on a RUNNING job: until when it holds, when it is stale, how it is taken away."""

UNTIL = "clock_timestamp() + %(lock)s * interval '1 second'"
"""When a lock that is taken or renewed now runs out."""
IS_EXPIRED = "j.lock_expires_at < clock_timestamp()"
IS_STALE = f"""({IS_EXPIRED}
      OR EXISTS (SELECT 1 FROM jobsite_worker o
                 WHERE o.incarnation = j.lock_owner AND o.status IN ('STOPPED', 'LOST')))"""
"""Whether the holder of job `j` is gone, so that an operator may clear its lock."""
UNLOCK = "lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL, stuck_at = NULL"
"""The columns that every statement clears that ends a run."""


def stuck_at(timeout: str) -> str:
    """When a run that begins now is stuck, even if its lock is renewed: ten seconds past its time limit."""
    return f"clock_timestamp() + ({timeout} + 10) * interval '1 second'"
