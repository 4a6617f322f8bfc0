"""Write down, with what has happened and in its transaction, who is to be told of it: deliveries that are PENDING.

The function jobsite_tell (migrations/0001_initial.py) writes them. It is called only where somebody may be told, since
a plan with all of it in costs each statement more to begin than a whole job takes to end.
"""

COLUMNS = (
    "tenant_id", "group_id", "event", "names", "recovery", "recovered", "key", "source", "job_number", "program_id",
    "schedule_id", "context", "user_id", "notify", "alerts", "in_a_row", "details", "only_rule", "hinted",
)  # fmt: skip
"""What a row that has happened says.

`names` are those that rules have for the event, `recovery` what is told by the rules for `recovered` that ask for it;
`key` tells one thing that happened from every other; `source` is what a throttle counts together; who submitted the job
is `user_id`, or stands in its captured `context`; `notify` says that he asked to be told, `alerts` that the operator of
the installation is. `only_rule` is the only one that tells of it, where not all do. `hinted` says that whoever writes
this tells the workers after the commit; else a sweep does, within seconds.
"""

_RULES = """SELECT FROM jobsite_rule r WHERE r.group_id = h.group_id AND r.deleted_at IS NULL AND r.is_active"""


def recorded(happened: str) -> str:
    """The part `deliveries` of a statement, which must be read: the ids of the deliveries for the rows of `happened`.

    Those have COLUMNS. What has been written for the same key before is not written again.
    """
    return f""", deliveries AS (
    SELECT one.id FROM {happened} h
    CROSS JOIN LATERAL jobsite_tell({", ".join(f"h.{column}" for column in COLUMNS)}) AS one (id)
    WHERE h.notify OR h.alerts OR EXISTS ({_RULES} AND r.event = ANY(h.names))
          OR (h.recovered IS NOT NULL AND EXISTS ({_RULES} AND r.on_recovery AND r.event = ANY(h.recovered)))
)"""
