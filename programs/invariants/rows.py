"""What must hold of each job's own row: its status and its fields agree (I3), what it names is there (I10)."""

from jobsite.programs.invariants.looks import ENDED, LATEST, Look, Rule
from jobsite.programs.rules.lifecycle import Blocked, FailureKind, Status, Trigger, listed

JOBS = Look(
    """
    SELECT j.number, j.tenant_id, j.program_id, j.status, j.outcome, j.failure_kind, j.trigger, j.priority, j.blocked,
           j.due_at, j.rank, j.hold_at, j.hold_until, j.queued_at, j.finished_at, j.cancel_requested_at,
           j.parent_id, j.child_key, j.parent_fence, j.retry_of_id, j.overlap_policy, j.overlap_key,
           p.tenant_id AS program_tenant_id, t.id AS tenant_there, q.id AS queue_there, c.key AS context_there,
           num_nonnulls(j.lock_token, j.lock_owner, j.lock_expires_at) AS locks,
           extract(epoch FROM j.due_at - %(now)s::timestamptz)::bigint AS early,
           concat_ws(', ', CASE WHEN j.lock_token IS NULL THEN 'lock_token' END,
                           CASE WHEN j.lock_owner IS NULL THEN 'lock_owner' END,
                           CASE WHEN j.lock_expires_at IS NULL THEN 'lock_expires_at' END,
                           CASE WHEN j.claimed_at IS NULL THEN 'claimed_at' END) AS lacking,
           concat_ws(', ', CASE WHEN j.lock_token IS NOT NULL THEN 'lock_token' END,
                           CASE WHEN j.lock_owner IS NOT NULL THEN 'lock_owner' END,
                           CASE WHEN j.lock_expires_at IS NOT NULL THEN 'lock_expires_at' END) AS kept,
           concat_ws(', ', CASE WHEN t.id IS NULL THEN 'tenant ' || j.tenant_id END,
                           CASE WHEN q.id IS NULL THEN 'queue ' || j.queue_id END,
                           CASE WHEN c.key IS NULL THEN 'context ' || j.context_id END) AS missing
    FROM jobsite_job j
    LEFT JOIN jobsite_program p ON p.id = j.program_id
    LEFT JOIN jobsite_tenant t ON t.id = j.tenant_id
    LEFT JOIN jobsite_queue q ON q.id = j.queue_id
    LEFT JOIN jobsite_capturedcontext c ON c.key = j.context_id
    """,
    (
        Rule(
            "I3",
            "A job has one of the statuses that there are",
            f"status NOT IN {listed(Status)}",
            "job {number} has status {status}",
        ),
        Rule(
            "I3",
            "A RUNNING job has a lock: token, owner, expiry and the moment of the claim",
            "status = 'RUNNING' AND lacking <> ''",
            "job {number} is RUNNING without {lacking}",
        ),
        Rule(
            "I3",
            "Only a RUNNING job has a lock",
            "status <> 'RUNNING' AND locks > 0",
            "job {number} is {status} with {kept}",
        ),
        Rule(
            "I3",
            "A job that has ended has the moment of its end, an open one has none",
            f"(status IN {ENDED}) <> (finished_at IS NOT NULL)",
            "job {number} is {status} and its finished_at is {finished_at}",
        ),
        Rule(
            "I3",
            "A QUEUED job has the moment of its dispatch",
            "status = 'QUEUED' AND queued_at IS NULL",
            "job {number} is QUEUED without queued_at, so nobody would miss its message",
        ),
        Rule(
            "I3",
            "FAILED goes with ERROR and a kind of failure, COMPLETED and WAITING with NORMAL or WARNING, the rest with"
            " NORMAL",
            f"""CASE status
                WHEN 'FAILED' THEN outcome <> 'ERROR' OR failure_kind IS NULL
                                   OR failure_kind NOT IN {listed(FailureKind)}
                WHEN 'COMPLETED' THEN outcome NOT IN ('NORMAL', 'WARNING') OR failure_kind IS NOT NULL
                WHEN 'WAITING' THEN outcome NOT IN ('NORMAL', 'WARNING') OR failure_kind IS NOT NULL
                ELSE outcome <> 'NORMAL' OR failure_kind IS NOT NULL END""",
            "job {number} is {status} with outcome {outcome}, its kind of failure is {failure_kind}",
        ),
        Rule(
            "I3",
            "A job that was asked to stop does not wait to run again",
            "status IN ('PENDING', 'QUEUED') AND cancel_requested_at IS NOT NULL",
            "job {number} is {status} though it was asked to stop at {cancel_requested_at}",
        ),
        Rule(
            "I3",
            "Only a PENDING job is blocked, for one of the reasons that there are",
            f"blocked IS NOT NULL AND (status <> 'PENDING' OR blocked NOT IN {listed(Blocked)})",
            "job {number} is {status} and blocked {blocked}",
        ),
        Rule(
            "I3",
            "A job is HELD if and only if it has the moment of its hold, and only then the hold's end",
            "(hold_at IS NOT NULL) <> (blocked IS NOT DISTINCT FROM 'HELD')"
            " OR hold_at IS NULL AND hold_until IS NOT NULL",
            "the blocked of job {number} is {blocked}, its hold_at is {hold_at} and its hold_until {hold_until}",
        ),
        Rule(
            "I3",
            "Only a job whose overlap policy is QUEUE is blocked OVERLAP",
            "blocked = 'OVERLAP' AND overlap_policy <> 'QUEUE'",
            "job {number} is blocked OVERLAP with policy {overlap_policy}",
        ),
        Rule(
            "I3",
            "A job is in its lane only when it is due",
            "status = 'PENDING' AND blocked IS NULL"
            " AND due_at > %(now)s::timestamptz + %(patience)s * interval '1 second'",
            "job {number} waits in its lane {early} s before it is due",
        ),
        Rule(
            "I3",
            "A rank is the moment at which the job is due, less a minute for each step of priority",
            "rank IS DISTINCT FROM due_at - priority * interval '60 seconds'",
            "job {number} has rank {rank}, is due at {due_at} and has priority {priority}",
        ),
        Rule(
            "I3",
            "A priority lies from -100 to 100",
            "priority NOT BETWEEN -100 AND 100",
            "job {number} has priority {priority}",
        ),
        Rule(
            "I3",
            "A job has one of the triggers that there are",
            f"trigger NOT IN {listed(Trigger)}",
            "job {number} has trigger {trigger}",
        ),
        Rule(
            "I3",
            "A job has an overlap key if and only if its policy is REJECT or QUEUE",
            "overlap_policy NOT IN ('ALLOW', 'REJECT', 'QUEUE') OR (overlap_policy = 'ALLOW') <> (overlap_key IS NULL)",
            "job {number} has overlap policy {overlap_policy}, its key is {overlap_key}",
        ),
        Rule(
            "I8",
            "A child has a key, the fence of the run that spawned it and the trigger CHILD; another job has neither",
            "(parent_id IS NULL) <> (child_key IS NULL) OR (parent_id IS NULL) <> (parent_fence IS NULL)"
            " OR parent_id IS NOT NULL AND trigger <> 'CHILD'",
            "job {number} has parent {parent_id}, child key {child_key}, parent's fence {parent_fence} and trigger"
            " {trigger}",
        ),
        Rule(
            "I8",
            "A child is younger than its parent",
            "parent_id >= number",
            "job {number} has job {parent_id} for a parent",
        ),
        Rule(
            "I14",
            "A retry is younger than the job that it retries",
            "retry_of_id >= number",
            "job {number} is a retry of job {retry_of_id}",
        ),
        Rule(
            "I10",
            "A job is of a program of its own tenant",
            "program_tenant_id IS DISTINCT FROM tenant_id",
            "job {number} of tenant {tenant_id} is of program {program_id}, whose tenant is {program_tenant_id}",
        ),
        Rule(
            "I10",
            "The tenant, queue and context of a job exist",
            "tenant_there IS NULL OR queue_there IS NULL OR context_there IS NULL",
            "job {number} names {missing}, which does not exist",
        ),
    ),
)

# Each by its own partial index, which a million future or held rows do not lengthen.
DUE = Look(
    f"""
    SELECT number, extract(epoch FROM %(now)s::timestamptz - due_at)::bigint AS late FROM jobsite_job
    WHERE status = 'PENDING' AND blocked = 'SCHEDULED' AND due_at < {LATEST}
    """,
    (
        Rule(
            "I3",
            "A job that became due is SCHEDULED no more within two sweeps",
            "true",
            "job {number} is blocked SCHEDULED, due since {late} s",
        ),
    ),
)

ENDED_HOLDS = Look(
    f"""
    SELECT number, extract(epoch FROM %(now)s::timestamptz - hold_until)::bigint AS late FROM jobsite_job
    WHERE status = 'PENDING' AND blocked = 'HELD' AND hold_until < {LATEST}
    """,
    (
        Rule(
            "I3",
            "A hold that has reached its end is released within two sweeps",
            "true",
            "job {number} is HELD, its hold has ended {late} s ago",
        ),
    ),
)

PAUSED = Look(
    f"""
    SELECT j.number, p.code, p.status AS program_status
    FROM jobsite_job j JOIN jobsite_program p ON p.id = j.program_id
    WHERE j.status = 'PENDING' AND j.blocked = 'PAUSED' AND p.status <> 'PAUSED'
          AND greatest(p.updated_at, j.created_at) < {LATEST}
    """,
    (
        Rule(
            "I3",
            "A job is PAUSED no more within two sweeps after its program goes on",
            "true",
            "job {number} is blocked PAUSED, its program {code} is {program_status}",
        ),
    ),
)
