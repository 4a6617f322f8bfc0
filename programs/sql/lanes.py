"""The lane of a queue and tenant: the order of its jobs, and how a lane is woken."""


def rank(due: str, priority: str) -> str:
    """A job's place in its lane: a step of priority is worth a minute of waiting."""
    return f"{due} - {priority} * interval '60 seconds'"


def woken(lanes: str) -> str:
    """The statement that wakes these lanes, so that dispatch looks at them: a query of (queue_id, tenant_id, true)."""
    return f"""
INSERT INTO jobsite_lane (queue_id, tenant_id, is_waiting)
{lanes.strip()}
ON CONFLICT (queue_id, tenant_id) DO UPDATE SET is_waiting = true, wakes = jobsite_lane.wakes + 1
"""
