"""What must hold between rows: families (I8), one tenant along references (I10), once means once (I14), rest (I1)."""

from jobsite.programs.invariants.looks import ENDED, GOING, LATEST, Look, Rule

OPEN_CHILDREN = Look(
    f"""
    SELECT c.number, ARRAY[p.number, c.number] AS numbers, c.status, c.cancel_requested_at,
           p.number AS parent, p.status AS parent_status, p.finished_at AS parent_finished_at
    FROM jobsite_job c JOIN jobsite_job p ON p.number = c.parent_id
    WHERE c.parent_id IS NOT NULL AND c.status IN {GOING}
    """,
    (
        Rule(
            "I8",
            "A COMPLETED parent has no open child",
            "parent_status = 'COMPLETED'",
            "job {parent} is COMPLETED, its child {number} is {status}",
        ),
        Rule(
            # One that runs is given its time to stop; past its time limit it is stuck.
            "I8",
            "The open children of a CANCELED parent are canceled within two sweeps",
            f"parent_status = 'CANCELED' AND parent_finished_at < {LATEST}"
            " AND (status <> 'RUNNING' OR cancel_requested_at IS NULL)",
            "job {parent} was CANCELED at {parent_finished_at}, its child {number} is {status}",
        ),
    ),
)

WAITING = Look(
    f"""
    SELECT p.number, greatest(p.created_at, p.claimed_at, max(c.finished_at), max(a.ended_at)) AS since
    FROM jobsite_job p
    LEFT JOIN jobsite_job c ON c.parent_id = p.number
    LEFT JOIN jobsite_jobattempt a ON a.job_id = p.number AND a.fence = p.fence
    WHERE p.status = 'WAITING' GROUP BY p.number HAVING count(*) FILTER (WHERE c.status IN {GOING}) = 0
    """,
    (
        Rule(
            "I8",
            "A WAITING parent has an open child, or goes on within two sweeps",
            f"since < {LATEST}",
            "job {number} is WAITING though no child of it is open since {since}",
        ),
    ),
)

RELATIVES = Look(
    """
    SELECT j.number, j.tenant_id,
           j.parent_id, p.tenant_id AS parent_tenant_id, j.parent_fence, p.fence AS parents_fence,
           j.retry_of_id, r.tenant_id AS retried_tenant_id, r.status AS retried_status
    FROM jobsite_job j
    LEFT JOIN jobsite_job p ON p.number = j.parent_id
    LEFT JOIN jobsite_job r ON r.number = j.retry_of_id
    WHERE j.parent_id IS NOT NULL OR j.retry_of_id IS NOT NULL
    """,
    (
        Rule(
            "I10",
            "A parent is of the tenant of its child",
            "parent_id IS NOT NULL AND parent_tenant_id IS DISTINCT FROM tenant_id",
            "job {number} of tenant {tenant_id} is a child of job {parent_id}, whose tenant is {parent_tenant_id}",
        ),
        Rule(
            "I8",
            "A child was spawned by a run that there was",
            "parent_fence > parents_fence",
            "job {number} was spawned under fence {parent_fence} of job {parent_id}, whose fence is {parents_fence}",
        ),
        Rule(
            "I10",
            "A retry is of the tenant of the job that it retries",
            "retry_of_id IS NOT NULL AND retried_tenant_id IS DISTINCT FROM tenant_id",
            "job {number} of tenant {tenant_id} is a retry of job {retry_of_id}, whose tenant is {retried_tenant_id}",
        ),
        Rule(
            "I14",
            "Only a job that has ended is retried",
            f"retried_status NOT IN {ENDED}",
            "job {number} is a retry of job {retry_of_id}, which is {retried_status}",
        ),
    ),
)

ACTIONS = Look(
    """
    SELECT NULL::bigint AS number, a.position, a.tenant_id, a.program_id, p.tenant_id AS program_tenant_id
    FROM jobsite_action a LEFT JOIN jobsite_program p ON p.id = a.program_id
    """,
    (
        Rule(
            "I10",
            "An action is of a program of its own tenant",
            "program_tenant_id IS DISTINCT FROM tenant_id",
            "action {position} of tenant {tenant_id} is of program {program_id}, whose tenant is {program_tenant_id}",
        ),
    ),
)

OWNERS = Look(
    """
    SELECT NULL::bigint AS number, owned.kind, owned.id,
           concat_ws(', ', CASE WHEN t.id IS NULL THEN 'tenant ' || owned.tenant_id END,
                           CASE WHEN q.id IS NULL THEN 'queue ' || owned.queue_id END) AS missing
    FROM (SELECT 'program' AS kind, id, tenant_id, queue_id FROM jobsite_program
          UNION ALL SELECT 'lane', id, tenant_id, queue_id FROM jobsite_lane) owned
    LEFT JOIN jobsite_tenant t ON t.id = owned.tenant_id
    LEFT JOIN jobsite_queue q ON q.id = owned.queue_id
    """,
    (
        Rule(
            "I10",
            "The tenant and queue of a program or lane exist",
            "missing <> ''",
            "{kind} {id} names {missing}, which does not exist",
        ),
    ),
)

LOG_ENTRIES = Look(
    """
    SELECT l.job_number AS number, count(*) AS lines, l.tenant_id, j.tenant_id AS job_tenant_id
    FROM jobsite_joblogentry l JOIN jobsite_job j ON j.number = l.job_number
    WHERE j.tenant_id <> l.tenant_id GROUP BY l.job_number, l.tenant_id, j.tenant_id
    """,
    (
        Rule(
            "I10",
            "A log entry is of the tenant of its job",
            "true",
            "log entries of job {number}, whose tenant is {job_tenant_id}, that are of tenant {tenant_id}: {lines}",
        ),
    ),
)

STRAY_ENTRIES = Look(
    """
    SELECT NULL::bigint AS number, count(*) AS lines, min(at) AS first, max(at) AS last
    FROM jobsite_joblogentry_default HAVING count(*) > 0
    """,
    (
        Rule(
            "I10",
            "Every log entry is in the partition of its month",
            "true",
            "log entries in the default partition, from {first} to {last}: {lines}",
        ),
    ),
)


def _once(sentence: str, columns: str, condition: str, said: str) -> Look:
    """No two jobs that meet the condition share these columns."""
    return Look(
        f"""
        SELECT min(number) AS number, (array_agg(number ORDER BY number))[1:20] AS numbers, {columns}
        FROM jobsite_job WHERE {condition} GROUP BY {columns} HAVING count(*) > 1
        """,
        (Rule("I14", sentence, "true", said),),
    )


UNIQUE = (
    _once(
        "One idempotency key makes one job of a tenant",
        "tenant_id, idempotency_key",
        "idempotency_key IS NOT NULL",
        "jobs {numbers} of tenant {tenant_id} have the idempotency key {idempotency_key}",
    ),
    _once(
        "One child key makes one child of a parent",
        "parent_id, child_key",
        "parent_id IS NOT NULL",
        "jobs {numbers} are the child {child_key} of job {parent_id}",
    ),
    _once(
        "No two open jobs of a program have one REJECT key",
        "program_id, overlap_key",
        f"overlap_policy = 'REJECT' AND status IN {GOING}",
        "jobs {numbers} are open with the REJECT key {overlap_key}",
    ),
    _once(
        "No two active jobs of a program have one QUEUE key",
        "program_id, overlap_key",
        "overlap_policy = 'QUEUE' AND (status IN ('QUEUED', 'RUNNING', 'WAITING')"
        " OR status = 'PENDING' AND attempts > 0)",
        "jobs {numbers} are active with the QUEUE key {overlap_key}",
    ),
    _once(
        "A job has at most one open retry",
        "retry_of_id",
        f"retry_of_id IS NOT NULL AND status IN {GOING}",
        "jobs {numbers} are open retries of job {retry_of_id}",
    ),
)

REST = Look(
    f"""
        SELECT number, status, coalesce(' and blocked ' || blocked, '') AS blocked FROM jobsite_job j
        WHERE status IN {GOING}
              AND NOT (status = 'PENDING' AND (hold_at IS NOT NULL OR due_at > %(now)s::timestamptz))
              AND NOT (status = 'WAITING' AND EXISTS (SELECT 1 FROM jobsite_job c
                                                      WHERE c.parent_id = j.number AND c.status IN {GOING}))
        """,
    (
        Rule(
            "I1",
            "At rest every job has ended, is held, lies in the future or waits for such a child",
            "true",
            "job {number} is {status}{blocked}",
        ),
    ),
)
