"""What must hold of the runs of a job: attempts, counters and fences (I2, I4, I5, I6), locks (I3, I4), limits (I12)."""

from jobsite.programs.invariants.looks import LATEST, Look, Rule
from jobsite.programs.rules.lifecycle import AttemptResult, listed

TAKEN = listed((AttemptResult.LOST, AttemptResult.TIMEOUT, AttemptResult.CLEARED))

HISTORIES = Look(
    """
    SELECT j.number, j.status, j.attempts, j.losses, j.returns, j.fence, j.parked_fence, j.finished_at, a.parked,
           coalesce(a.runs, 0) AS runs, coalesce(a.highest, 0) AS highest, coalesce(a.counted, 0) AS counted,
           coalesce(a.lost, 0) AS lost, coalesce(a.returned, 0) AS returned, coalesce(a.successes, 0) AS successes,
           coalesce(a.settled, 0) AS settled, greatest(a.last_claimed, j.claimed_at) AS last_claimed, a.last_ended
    FROM jobsite_job j LEFT JOIN (
        SELECT job_id, count(*) AS runs, max(fence) AS highest,
               count(*) FILTER (WHERE result <> 'RETURNED') AS counted,
               count(*) FILTER (WHERE result IN ('LOST', 'CLEARED')) AS lost,
               count(*) FILTER (WHERE result = 'RETURNED') AS returned,
               count(*) FILTER (WHERE result = 'SUCCESS') AS successes,
               max(fence) FILTER (WHERE result IN ('SUCCESS', 'PARKED')) AS settled,
               max(fence) FILTER (WHERE result = 'PARKED') AS parked,
               max(claimed_at) AS last_claimed, max(ended_at) AS last_ended
        FROM jobsite_jobattempt GROUP BY job_id
    ) a ON a.job_id = j.number
    """,
    (
        Rule(
            "I2",
            "A COMPLETED job has exactly one SUCCESS attempt",
            "status = 'COMPLETED' AND successes <> 1",
            "job {number} is COMPLETED, its SUCCESS attempts: {successes}",
        ),
        Rule(
            "I2",
            "The last attempt of a COMPLETED job is its SUCCESS",
            "status = 'COMPLETED' AND successes = 1 AND settled <> highest",
            "job {number} is COMPLETED, its SUCCESS has fence {settled} and its last attempt fence {highest}",
        ),
        Rule(
            # A parent's first run succeeds before its children have ended, which may fail or cancel it.
            "I2",
            "Only a COMPLETED job, or one that waits or waited for children, has a SUCCESS attempt, and one only",
            """status <> 'COMPLETED' AND successes > 0 AND (
                successes > 1 OR status NOT IN ('WAITING', 'FAILED', 'CANCELED')
                OR status <> 'WAITING'
                   AND NOT EXISTS (SELECT 1 FROM jobsite_job c WHERE c.parent_id = looked.number))""",
            "job {number} is {status}, its SUCCESS attempts: {successes}",
        ),
        Rule(
            "I2",
            "The last attempt of a WAITING job is SUCCESS or PARKED",
            "status = 'WAITING' AND (settled = 0 OR settled <> highest)",
            "job {number} is WAITING, its last attempt of fence {highest} is neither SUCCESS nor PARKED",
        ),
        Rule(
            "I2",
            "A job whose callback is due, or was called, is known by the fence of its last PARKED attempt",
            "parked_fence IS DISTINCT FROM parked",
            "job {number} is parked under fence {parked_fence}, its last PARKED attempt has fence {parked}",
        ),
        Rule(
            "I4",
            "A job's fence is the highest among its attempts and its running one",
            "fence <> highest + (status = 'RUNNING')::integer",
            "job {number} is {status} at fence {fence}, its attempts reach {highest}",
        ),
        Rule(
            "I4",
            "A job has one attempt for each fence up to the highest",
            "runs <> highest",
            "job {number} has attempts up to fence {highest}, but only {runs}",
        ),
        Rule(
            "I4",
            "A job counts its attempts but for the returned ones, and its losses",
            "(attempts, losses) <> (counted, lost)",
            "job {number} counts attempts {attempts} and losses {losses}, its rows say {counted} and {lost}",
        ),
        Rule(
            "I4",
            "A job counts no more returns than it has",
            "returns > returned",
            "job {number} counts returns {returns}, its rows say {returned}",
        ),
        Rule(
            "I6",
            "Nothing moves after the end: no claim, no end of an attempt",
            # Both moments of one finish are the clock's, one after the other.
            "last_claimed > finished_at OR last_ended > finished_at + interval '1 second'",
            "job {number} ended at {finished_at}, was last claimed at {last_claimed} and last given up at {last_ended}",
        ),
    ),
)

ATTEMPTS = Look(
    """
    SELECT a.job_id AS number, a.fence, a.tenant_id, a.result, a.claimed_at, a.ended_at, j.tenant_id AS job_tenant_id
    FROM jobsite_jobattempt a LEFT JOIN jobsite_job j ON j.number = a.job_id
    """,
    (
        Rule(
            "I4",
            "An attempt has one of the results that there are",
            f"result NOT IN {listed(AttemptResult)}",
            "attempt {fence} of job {number} has result {result}",
        ),
        Rule(
            "I5",
            "An attempt ends after it began",
            "ended_at < claimed_at",
            "attempt {fence} of job {number} was claimed at {claimed_at} and ended at {ended_at}",
        ),
        Rule(
            "I10",
            "An attempt is of a job of its own tenant",
            "job_tenant_id IS DISTINCT FROM tenant_id",
            "attempt {fence} of tenant {tenant_id} is of job {number}, whose tenant is {job_tenant_id}",
        ),
    ),
)

STEPS = Look(
    """
    SELECT s.job_id AS number, s.action, s.name, s.fence, s.tenant_id,
           j.fence AS job_fence, j.tenant_id AS job_tenant_id
    FROM jobsite_jobstep s LEFT JOIN jobsite_job j ON j.number = s.job_id
    """,
    (
        Rule(
            "I4",
            "A step is of a run that there was",
            "fence > job_fence",
            "step {action} {name} of job {number} ran under fence {fence}, the job's is {job_fence}",
        ),
        Rule(
            "I10",
            "A step is of a job of its own tenant",
            "job_tenant_id IS DISTINCT FROM tenant_id",
            "step {action} {name} of tenant {tenant_id} is of job {number}, whose tenant is {job_tenant_id}",
        ),
    ),
)

# Only what follows another run is read: most jobs have one.
SUCCESSIONS = Look(
    f"""
    SELECT later.number, later.fence, later.claimed_at, earlier.result AS earlier, earlier.ended_at AS earlier_ended,
           CASE WHEN earlier.result IN {TAKEN} THEN earlier.claimed_at ELSE earlier.ended_at END AS free
    FROM (SELECT job_id AS number, fence, claimed_at FROM jobsite_jobattempt WHERE fence > 1
          UNION ALL
          SELECT number, fence, claimed_at FROM jobsite_job WHERE status = 'RUNNING' AND fence > 1) later
    JOIN jobsite_jobattempt earlier ON earlier.job_id = later.number AND earlier.fence = later.fence - 1
    """,
    (
        Rule(
            "I5",
            "A run begins after the run before it has ended, unless that one was LOST, TIMEOUT or CLEARED",
            "claimed_at < free",
            "job {number} was claimed under fence {fence} at {claimed_at},"
            " the run before it ended {earlier} at {earlier_ended}",
        ),
    ),
)

LOCKS = Look(
    """
    SELECT j.number, j.fence, j.lock_expires_at, j.stuck_at, a.fence AS ended_fence,
           extract(epoch FROM %(now)s::timestamptz - j.lock_expires_at)::bigint AS overdue,
           extract(epoch FROM %(now)s::timestamptz - j.stuck_at)::bigint AS overstayed
    FROM jobsite_job j LEFT JOIN jobsite_jobattempt a ON a.job_id = j.number AND a.token = j.lock_token
    WHERE j.status = 'RUNNING'
    """,
    (
        Rule(
            "I3",
            "A lock that ran out is taken back within two sweeps",
            f"lock_expires_at < {LATEST}",
            "job {number} is RUNNING though its lock ran out {overdue} s ago",
        ),
        Rule(
            "I3",
            "A run past its time limit is ended within two sweeps",
            f"stuck_at < {LATEST}",
            "job {number} is RUNNING though it should have been ended as stuck {overstayed} s ago",
        ),
        Rule(
            "I4",
            "A token holds a job for one run",
            "ended_fence IS NOT NULL",
            "job {number} is held under fence {fence} by the token that ended attempt {ended_fence}",
        ),
    ),
)

TOKENS = Look(
    """
    SELECT min(number) AS number, (array_agg(number ORDER BY number))[1:20] AS numbers
    FROM jobsite_job WHERE status = 'RUNNING' AND lock_token IS NOT NULL GROUP BY lock_token HAVING count(*) > 1
    """,
    (Rule("I4", "No two jobs are held by one token", "true", "jobs {numbers} are held by one token"),),
)

MANAGERS = Look(
    """
    SELECT min(j.number) AS number, (array_agg(j.number ORDER BY j.number))[1:20] AS numbers, m.name, m.max_running,
           count(*) AS running
    FROM jobsite_workermanager m
    JOIN jobsite_worker w ON w.manager_id = m.id
    JOIN jobsite_job j ON j.lock_owner = w.incarnation AND j.status = 'RUNNING'
    WHERE m.max_running IS NOT NULL GROUP BY m.id HAVING count(*) > m.max_running
    """,
    (
        Rule(
            "I12",
            "The workers of a manager run no more jobs than its limit",
            "true",
            "running jobs of manager {name}: {running}, its limit is {max_running}",
        ),
    ),
)

QUOTAS = Look(
    """
    SELECT min(j.number) AS number, (array_agg(j.number ORDER BY j.number))[1:20] AS numbers, t.code, t.running_quota,
           count(*) AS running
    FROM jobsite_tenant t JOIN jobsite_job j ON j.tenant_id = t.id AND j.status = 'RUNNING'
    WHERE t.running_quota IS NOT NULL GROUP BY t.id HAVING count(*) > t.running_quota
    """,
    (
        Rule(
            "I12",
            "A tenant runs no more jobs than its quota",
            "true",
            "running jobs of tenant {code}: {running}, its quota is {running_quota}",
        ),
    ),
)
