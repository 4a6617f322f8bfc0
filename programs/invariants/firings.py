"""I9: schedules and their nominal times.

Only a test that kept a list knows whether none is missing by the policy.
"""

from jobsite.programs.invariants.looks import LATEST, Look, Rule

SCHEDULES = Look(
    """
    SELECT NULL::bigint AS number, s.code, s.tenant_id, s.next_at, s.due_at, s.paused_at, s.retry_at,
           (SELECT max(f.nominal_at) FROM jobsite_firing f WHERE f.schedule_id = s.id AND NOT f.is_backfill) AS newest
    FROM jobsite_schedule s WHERE s.next_at IS NOT NULL
    """,
    (
        Rule(
            "I9",
            "A schedule that is due fires within two sweeps, unless it is paused or has just failed to",
            f"due_at < {LATEST} AND paused_at IS NULL AND retry_at IS NULL",
            "schedule {code} of tenant {tenant_id} is due since {due_at}",
        ),
        Rule(
            "I9",
            "The next time of a schedule comes after those that have been decided",
            "next_at <= newest",
            "schedule {code} of tenant {tenant_id} is next at {next_at}, and done with {newest}",
        ),
    ),
)

FIRINGS = Look(
    """
    SELECT j.number, s.code, f.nominal_at, f.tenant_id, f.is_backfill,
           j.tenant_id AS job_tenant_id, j.scheduled_at, j.trigger
    FROM jobsite_firing f
    JOIN jobsite_schedule s ON s.id = f.schedule_id
    JOIN jobsite_job j ON j.number = f.job_number
    """,
    (
        Rule(
            "I9",
            "The job of a nominal time is scheduled at it",
            "scheduled_at <> nominal_at",
            "job {number} of schedule {code} is scheduled at {scheduled_at}, its nominal time is {nominal_at}",
        ),
        Rule(
            "I9",
            "What a schedule makes by itself is AUTOMATIC, and what is run again MANUAL",
            "(trigger = 'AUTOMATIC') = is_backfill",
            "job {number} of schedule {code} is {trigger}",
        ),
        Rule(
            "I10",
            "The job of a nominal time is of the schedule's tenant",
            "job_tenant_id <> tenant_id",
            "job {number} of tenant {job_tenant_id} is of schedule {code}, whose tenant is {tenant_id}",
        ),
    ),
)
