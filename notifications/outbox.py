"""Write who is notified of what has happened, in the transaction in which it happens: deliveries that are PENDING.

The database's function jobsite_write_deliveries writes them (sql/jobsite_write_deliveries.sql says what each of its
arguments means). It is called only where somebody may be notified: a statement that contained all of it would take
longer to begin than a whole job takes to end.
"""

_RULES = """SELECT FROM jobsite_rule r WHERE r.group_id = h.group_id AND r.deleted_at IS NULL AND r.is_active"""


def recorded(happened: str) -> str:
    """The part `deliveries` of a statement: the ids of the deliveries for the rows of `happened`.

    The statement must read this part. A row of `happened` has a column for each argument below. A delivery that was
    written before for the same key is not written again.
    """
    return f""", deliveries AS (
    SELECT one.id FROM {happened} h
    CROSS JOIN LATERAL jobsite_write_deliveries(
        tenant => h.tenant_id, to_group => h.group_id,
        event => h.event, names => h.names, recovery => h.recovery, recovered => h.recovered,
        key => h.key, source => h.source,
        job => h.job_number, program => h.program_id, schedule => h.schedule_id,
        context => h.context, submitter => h.user_id, notify => h.notify, alerts => h.alerts,
        in_a_row => h.in_a_row, details => h.details, only_rule => h.only_rule, hinted => h.hinted
    ) AS one (id)
    WHERE h.notify OR h.alerts OR EXISTS ({_RULES} AND r.event = ANY(h.names))
          OR (h.recovered IS NOT NULL AND EXISTS ({_RULES} AND r.on_recovery AND r.event = ANY(h.recovered)))
)"""
