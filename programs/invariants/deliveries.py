"""I11: what a delivery tells has come about.

Rules change, so only a test that kept a list knows whether somebody was not told who should have been.
"""

from jobsite.programs.invariants.looks import Look, Rule

DELIVERIES = Look(
    """
    SELECT j.number, d.event, d.tenant_id, j.tenant_id AS job_tenant_id, j.status
    FROM jobsite_delivery d JOIN jobsite_job j ON j.number = d.job_number
    """,
    (
        Rule(
            "I10",
            "A delivery is of the tenant of its job",
            "job_tenant_id <> tenant_id",
            "a delivery of tenant {tenant_id} tells of job {number} of tenant {job_tenant_id}",
        ),
        Rule(
            "I11",
            "A delivery tells of the end of a job only once it has come about",
            "event IN ('COMPLETED', 'FAILED', 'CANCELED') AND status <> event",
            "job {number} is told to be {event} and is {status}",
        ),
    ),
)
UNIQUE = Look(
    """
    SELECT NULL::bigint AS number, dedupe_key, count(*) AS deliveries FROM jobsite_delivery
    GROUP BY dedupe_key HAVING count(*) > 1
    """,
    (
        Rule(
            "I11",
            "Each recipient gets one delivery of one thing by one rule",
            "true",
            "{deliveries} deliveries have the key {dedupe_key}",
        ),
    ),
)
UNSENT = Look(
    """
    SELECT job_number AS number, id, event, attempts FROM jobsite_delivery
    WHERE status = 'PENDING' AND due_at <= %(now)s::timestamptz
    """,
    (
        Rule(
            "I11",
            "At rest every delivery that is due is sent",
            "true",
            "delivery {id} of {event} waits to be sent, after {attempts} tries",
        ),
    ),
)
