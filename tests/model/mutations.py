"""Guards of the protocol taken away one by one, each with what must notice it.

A mutation replaces fragments of a statement (or of a function's source), or damages the database's own rules. One
whose fragment is no longer found fails, so that this list stays true.
"""

import re
from collections.abc import Callable

from jobsite.database import Cursor
from tests.model.mutation import TESTS, Mutation, m, replaced
from tests.model.refusals import REFUSALS
from tests.sql.functions import GUARD

LOCKED = "the statement has locked the row, as its own first part saw it"
ONLY_RUNNING_HAS_A_LOCK = "the database: no lock without RUNNING (job_locked_only_while_running)"
STEPS = "tests/programs/context/test_steps.py"
CHILDREN = "tests/programs/context/test_children.py"
PARENTS = "tests/programs/test_job_families.py"
FIRING = "tests/programs/schedules/test_firing.py"
HOUSEKEEPING = "tests/programs/upkeep/test_housekeeping.py"
RESOLVE = TESTS.format("resolve")
_NO_CHILD_IS_SEEN = (
    "AND NOT EXISTS (SELECT FROM jobsite_job c",
    "AND NOT EXISTS (SELECT FROM jobsite_job c WHERE false AND 1 = ALL (SELECT 1 FROM jobsite_job c",
    "'QUEUED', 'RUNNING', 'WAITING'))",
    "'QUEUED', 'RUNNING', 'WAITING')))",
)
_UNLOCK = "lock_token = NULL, lock_owner = NULL, lock_expires_at = NULL"
_ALL_LOST = "reap:EXPIRED,CHILD,TOKENS,OWNERS,CLEARED"

STATEMENTS = (
    # finish
    m("finish without the token", "finish:FINISH", "AND j.lock_token = g.token", ""),
    m(
        "finish of a group: the token not asked when it locks",
        "finish:FINISH",
        "AND j.lock_token = g.token AND j.status = %(running)s\n     ORDER BY",
        "\n     ORDER BY",
        held_by="the UPDATE repeats the token",
    ),
    m("finish in any status", "finish:FINISH", "AND j.status = %(running)s", "", held_by=ONLY_RUNNING_HAS_A_LOCK),
    m(
        "finish retries what was asked to stop",
        "finish:FINISH",
        "AND j.cancel_requested_at IS NOT NULL",
        "AND false",
        "AND j.cancel_requested_at IS NULL",
        "",
    ),
    m("finish counts every run", "finish:FINISH", "attempts + g.counted", "attempts + 1"),
    m("finish counts no return", "finish:FINISH", "returns + g.returned", "returns"),
    m("finish keeps the lock", "finish:FINISH", _UNLOCK, "lock_owner = j.lock_owner"),
    m("finish leaves a later retry in the lane", "finish:FINISH", "AND g.delay > 0", "AND g.delay < 0"),
    m("finish does not move due_at", "finish:FINISH", "AND g.delay IS NOT NULL", "AND false"),
    m(
        "a job that had not started loses its place",
        "finish:FINISH",
        "ELSE j.due_at END",
        "ELSE statement_timestamp() END",
    ),
    m(
        "finish leaves no attempt",
        "finish:FINISH",
        "m.traceback\n    FROM moved m",
        "m.traceback\n    FROM moved m WHERE false",
    ),
    m(
        "a success does not reset the failures in a row",
        "finish:FINISH",
        "c.has_success AND p.consecutive_failures > 0",
        "false",
    ),
    m(
        "failures of a group count past its success",
        "finish:FINISH",
        "WHEN c.has_success THEN c.after",
        "WHEN c.has_success THEN c.before + c.after",
        tests=TESTS.format("finish"),
    ),
    m(
        "failures before a success of a group do not terminate",
        "finish:FINISH",
        "OR (c.before > 0 AND p.consecutive_failures + c.before >= p.max_consecutive_failures)",
        "OR (NOT c.has_success AND p.consecutive_failures + c.before >= p.max_consecutive_failures)",
        tests=TESTS.format("finish"),
    ),
    m(
        "failures in a row never terminate",
        "finish:FINISH",
        "THEN 'TERMINATED' ELSE p.status",
        "THEN p.status ELSE p.status",
    ),
    m("losses in a row never terminate", _ALL_LOST, "THEN 'TERMINATED' ELSE p.status", "THEN p.status ELSE p.status"),
    m(
        "start under a former token",
        "start:START",
        "AND lock_token = %s",
        "AND %s::uuid IS NOT NULL",
        tests=TESTS.format("start"),
    ),
    m("stored_attempts of any token", "finish:stored_attempts", " AND a.token = h.token", ""),
    # claim
    m(
        "claim in any status",
        "claim:CLAIM",
        "WHERE j.status = %(queued)s AND",
        "WHERE",
        "AND j.status = %(queued)s\n    RETURNING",
        "RETURNING",
    ),
    m(
        "claim chooses in any status",
        "claim:CLAIM",
        "WHERE j.status = %(queued)s AND",
        "WHERE",
        tests=TESTS.format("claim"),
    ),
    m("claim: the status not repeated", "claim:CLAIM", "AND j.status = %(queued)s\n    RET", "RET", held_by=LOCKED),
    m("claim of any queue", "claim:CLAIM", "AND q.name = ANY(%(queues)s)", ""),
    m(
        "claim before it is due",
        "claim:CLAIM",
        "j.due_at <= clock_timestamp() AS",
        "true AS",
        tests=TESTS.format("claim"),
    ),
    m("claim of a paused program", "claim:CLAIM", "p.status <> 'PAUSED' AND", ""),
    m("claim of a suspended tenant", "claim:CLAIM", "t.status = 'ACTIVE' AND", ""),
    m("claim in a paused queue", "claim:CLAIM", "q.paused_at IS NULL AND", ""),
    m("claim in a paused lane", "claim:CLAIM", "AND l.paused_at IS NULL", ""),
    m(
        "claim of a terminated program's schedule",
        "claim:CLAIM",
        "OR j.trigger <> 'AUTOMATIC'",
        "OR true",
        tests=TESTS.format("claim"),
    ),
    m("claim beyond the manager's limit", "claim:CLAIM", "LIMIT (SELECT slots FROM room)", ""),
    m("claim without the manager's lock", "claim:CLAIM", "(%(exact)s OR", "(true OR", tests=TESTS.format("claim")),
    m("the manager's row is read, not locked", "claim:LOCK_MANAGER", " FOR UPDATE", "", tests=TESTS.format("claim")),
    m("claim does not raise the fence", "claim:CLAIM", "j.fence + runs::integer", "j.fence"),
    m("claim makes its own token", "claim:CLAIM", "THEN decided.token END", "THEN gen_random_uuid() END"),
    m("claim does not say by which message", "claim:CLAIM", "THEN %(message)s::uuid ELSE", "THEN j.external_id ELSE"),
    m("claim keeps what it refused", "claim:CLAIM", "ELSE 'PENDING' END", "ELSE 'QUEUED' END"),
    m("claim sets no moment to be stuck at", "claim:CLAIM", "(decided.timeout_seconds + 10)", "(100000)"),
    m("all of a group start at once", "claim:CLAIM", "WHEN %(alone)s THEN", "WHEN true THEN"),
    m("claim of one in any status", "claim:CLAIM_ONE", "AND j.status = %(queued)s", ""),
    m("claim of one of any queue", "claim:CLAIM_ONE", "AND q.name = ANY(%(queues)s)", "", tests=TESTS.format("claim")),
    m(
        "claim of one before it is due",
        "claim:CLAIM_ONE",
        "AND j.due_at <=",
        "AND now() <=",
        tests=TESTS.format("claim"),
    ),
    m("claim of one of a paused program", "claim:CLAIM_ONE", "AND p.status <> 'PAUSED'", ""),
    m("claim of one of a suspended tenant", "claim:CLAIM_ONE", "AND t.status = 'ACTIVE'", ""),
    m("claim of one in a paused queue", "claim:CLAIM_ONE", "AND q.paused_at IS NULL", ""),
    m("claim of one in a paused lane", "claim:CLAIM_ONE", "AND l.paused_at IS NOT NULL", "AND false"),
    m(
        "claim of one of a terminated program's schedule",
        "claim:CLAIM_ONE",
        "OR j.trigger <> 'AUTOMATIC'",
        "OR true",
        tests=TESTS.format("claim"),
    ),
    m("claim of one beyond the manager's limit", "claim:CLAIM_ONE", "AND m.max_running IS NULL", ""),
    m("claim of one does not raise the fence", "claim:CLAIM_ONE", "fence = j.fence + 1", "fence = j.fence"),
    m("read_back of what another holds", "claim:READ_BACK", "AND j.lock_token = c.token", ""),
    # steps
    m(
        "a step begins without the token",
        "jobsite.programs.context.steps:BEGIN",
        "AND lock_token = %(token)s",
        "",
        tests=STEPS,
    ),
    m(
        "a step ends without the token",
        "jobsite.programs.context.steps:END",
        "AND lock_token = %(token)s",
        "",
        tests=STEPS,
    ),
    m(
        "each beginning of a step is a try",
        "jobsite.programs.context.steps:BEGIN",
        "(s.fence < excluded.fence)",
        "true",
        tests=STEPS,
    ),
    m(
        "a step that failed is one that ended",
        "jobsite.programs.context.steps:KNOWN",
        "status = 'COMPLETED'",
        "true",
        tests=STEPS,
    ),
    # dispatch
    m("dispatch of what is blocked", "dispatch:DISPATCH", "AND blocked IS NULL", "", "AND j.blocked IS NULL", ""),
    m(
        "dispatch in any status",
        "dispatch:DISPATCH",
        "AND status = 'PENDING' AND blocked",
        "AND blocked",
        "AND j.status = %(pending)s AND j.blocked",
        "AND j.blocked",
    ),
    m(
        "dispatch beyond the window",
        "dispatch:DISPATCH",
        "slots - messages AS certain",
        "slots AS certain",
        "greatest(slots - messages,",
        "greatest(slots,",
    ),
    m("dispatch of long runs as if they were short", "dispatch:DISPATCH", "o.total_seconds <= bound.seconds", "true"),
    m("a job that was lost travels in a group", "dispatch:DISPATCH", "AND NOT j.alone AND j.losses = 0", ""),
    m(
        "a group keeps many children busy",
        "dispatch:DISPATCH",
        "count(DISTINCT external_id)",
        "count(*)",
        tests=TESTS.format("dispatch"),
    ),
    m("dispatch in a paused queue", "dispatch:DISPATCH", "AND paused_at IS NULL AND pg_try", "AND pg_try"),
    m("dispatch in a paused lane", "dispatch:DISPATCH", "AND l.paused_at IS NULL", ""),
    m("dispatch of a suspended tenant", "dispatch:DISPATCH", "AND status = 'ACTIVE' OFFSET", "OFFSET"),
    m(
        "dispatch without order",
        "dispatch:DISPATCH",
        "ORDER BY rank, number LIMIT",
        "ORDER BY number LIMIT",
        "(ORDER BY j.rank, j.number)",
        "(ORDER BY j.number)",
    ),
    m(
        "dispatch closes a lane that has jobs",
        "dispatch:DISPATCH",
        "WHERE NOT EXISTS (SELECT FROM candidates c WHERE c.lane_id = lanes.id)\n          LIMIT",
        "LIMIT",
        held_by="jobsite_lane_is_empty looks once more",
    ),
    m(
        "dispatch closes no lane",
        "dispatch:DISPATCH",
        "SET is_waiting = false",
        "SET is_waiting = true",
        tests=TESTS.format("dispatch"),
    ),
    m(
        "dispatch closes a lane that was woken meanwhile",
        "dispatch:DISPATCH",
        "WHEN l.wakes = empty.wakes THEN",
        "WHEN true THEN",
        tests=TESTS.format("dispatch"),
        held_by="of a lane's row that changed meanwhile jobsite_lane_is_empty is asked again",
    ),
    m(
        "dispatch closes a lane that a submission saw awake",
        "dispatch:DISPATCH",
        "THEN jobsite_lane_is_empty(empty.queue_id, empty.tenant_id)",
        "THEN true",
        tests=TESTS.format("dispatch"),
    ),
    m(
        "a submission sees a lane awake that is being closed",
        "submit:INSERT_ONE",
        "THEN jobsite_lane_stays_awake(j.queue_id, j.tenant_id) ELSE",
        "THEN (SELECT is_waiting FROM jobsite_lane l WHERE (queue_id, tenant_id) = (j.queue_id, j.tenant_id)) ELSE",
        tests=TESTS.format("dispatch"),
    ),
    m(
        "dispatchers at once",
        "dispatch:DISPATCH",
        "AND pg_try_advisory_xact_lock(",
        "AND 0 < ALL (ARRAY[",
        ", id::integer)",
        "])",
        tests=TESTS.format("dispatch"),
    ),
    m(
        "dispatch waits for a row that is being changed",
        "dispatch:DISPATCH",
        "FOR NO KEY UPDATE OF j SKIP LOCKED",
        "FOR NO KEY UPDATE OF j",
        tests=TESTS.format("dispatch"),
    ),
    m(
        "dispatch does not share among tenants",
        "dispatch:DISPATCH",
        "(ORDER BY tag, rank, number)",
        "(ORDER BY rank, number)",
        tests=TESTS.format("dispatch"),
    ),
    m(
        "silent workers make room",
        "dispatch:DISPATCH",
        "AND w.last_seen_at > clock_timestamp() - %(lock)s * interval '1 second'",
        "",
    ),
    m("stopping workers make room", "dispatch:DISPATCH", "w.status = 'ACTIVE' AND", ""),
    m("workers of other queues make room", "dispatch:DISPATCH", "AND gate.name = ANY(w.queues)", ""),
    m("a full manager makes room", "dispatch:DISPATCH", "WHEN m.max_running IS NULL THEN", "WHEN true THEN"),
    m(
        "the fast path of what is blocked",
        "dispatch:LOOK_AT_ONE,DISPATCH_ONE",
        "AND j.blocked IS NULL",
        "",
        "AND blocked IS NULL AND",
        "AND",
    ),
    m(
        "the fast path in any status",
        "dispatch:LOOK_AT_ONE,DISPATCH_ONE",
        "j.status = %(pending)s AND",
        "",
        "AND status = %(pending)s",
        "",
    ),
    m(
        "the fast path: the status not repeated",
        "dispatch:DISPATCH_ONE",
        "AND status = %(pending)s AND blocked IS NULL",
        "",
        held_by="the database: no legal move, or blocked; to be QUEUED again is a doubled message",
    ),
    *(
        m(f"{who} {what}", where, *changes)
        for who, where in (("the fast path", "dispatch:LOOK_AT_ONE"), ("a submission", "submit:INSERT_ONE"))
        for what, *changes in (
            ("overtakes", "(b.rank, b.number) < (j.rank, j.number)", "false"),
            ("goes into a paused lane", "AND l.paused_at IS NULL", ""),
            ("goes into a paused queue", "AND gate.paused_at IS NULL", ""),
            ("of a suspended tenant goes", "AND t.status = 'ACTIVE'", ""),
        )
    ),
    *(
        m(f"{who} {what}", where, *changes, tests=TESTS.format(tests))
        for who, where, tests in (
            ("the fast path", "dispatch:LOOK_AT_ONE", "dispatch"),
            ("a submission", "submit:INSERT_ONE", "submit"),
        )
        for what, *changes in (
            (
                "goes beyond the window",
                "(SELECT count(*) FROM jobsite_job o WHERE o.queue_id = gate.id AND o.status = 'QUEUED')",
                "0",
            ),
            ("sends a short job beside others", ", 1) END AS slots", ", 9) END AS slots"),
            ("sends a short job beside one that has just begun", "THEN 0 ELSE least(", "THEN 9 ELSE least("),
        )
    ),
    m("the fast path wakes no lane", "dispatch:offer", "wake(cursor, [number])", "pass"),
    m(
        "nobody wakes a lane that sleeps",
        "dispatch:WAKE",
        "DO UPDATE SET is_waiting = true",
        "DO UPDATE SET served = 0",
    ),
    m("what is blocked wakes its lane", "dispatch:WAKE", "AND blocked IS NULL", ""),
    m("requeue wakes no lane", "dispatch:requeue", "wake(cursor, numbers)", "pass"),
    m("requeue in any status", "dispatch:REQUEUE", "AND status = 'QUEUED'", ""),
    m("requeue of what was just sent", "dispatch:REQUEUE", "AND queued_at <= clock_timestamp()", "AND now() >= now()"),
    m("requeue in all queues", "dispatch:REQUEUE", "queue_id = %(queue)s AND", ""),
    m(
        "the sweep opens no lane that sleeps",
        "jobsite.programs.upkeep.sweeps:OPEN_LANES",
        "DO UPDATE SET is_waiting = true",
        "DO UPDATE SET served = 0",
    ),
    # renew
    m(
        "renew anybody's lock",
        "renew:RENEW",
        "lock_owner = %(owner)s AND status",
        "status",
        "AND j.lock_owner = %(owner)s",
        "",
    ),
    m("renew without a message", "renew:RENEW", "AND external_id = ANY(%(messages)s::uuid[])", ""),
    m("renew prolongs nothing", "renew:RENEW", "clock_timestamp() + %(lock)s * interval '1 second'", "lock_expires_at"),
    m("renew: the owner not repeated", "renew:RENEW", "AND j.lock_owner = %(owner)s", "", held_by=LOCKED),
    m(
        "renew in any status",
        "renew:RENEW",
        "AND status = 'RUNNING'",
        "",
        "AND j.status = 'RUNNING'",
        "",
        held_by=ONLY_RUNNING_HAS_A_LOCK,
    ),
    m(
        "renew waits for a finish",
        "renew:RENEW",
        "FOR NO KEY UPDATE SKIP LOCKED",
        "FOR NO KEY UPDATE",
        tests=TESTS.format("renew"),
    ),
    m("others' jobs are abandoned", "renew:ABANDONED", "lock_owner = %(owner)s AND", ""),
    m("what is held is abandoned", "renew:ABANDONED", "AND NOT external_id = ANY(%(messages)s::uuid[])", ""),
    # reap, expire, clear
    m("reap before the lock expires", "reap:EXPIRED", "j.lock_expires_at < clock_timestamp()", "true"),
    m(
        "reap: the token not repeated",
        _ALL_LOST + ",CHILD_TIMED_OUT,STUCK",
        "AND j.lock_token = seen.lock_token",
        "",
        held_by=LOCKED,
    ),
    m(
        "reap: the expiry not repeated",
        "reap:EXPIRED",
        "seen.lock_token AND j.lock_expires_at < clock_timestamp()",
        "seen.lock_token",
        held_by=LOCKED,
    ),
    m(
        "reap neither locks nor repeats",
        "reap:EXPIRED",
        "FOR NO KEY UPDATE OF j SKIP LOCKED",
        "",
        "AND j.status = 'RUNNING' AND j.lock_token = seen.lock_token AND j.lock_expires_at < clock_timestamp()",
        "",
        tests=TESTS.format("reap"),
    ),
    m(
        "reap waits for a finish",
        "reap:EXPIRED",
        "FOR NO KEY UPDATE OF j SKIP LOCKED",
        "FOR NO KEY UPDATE OF j",
        tests=TESTS.format("reap"),
    ),
    m("a loss is not counted", _ALL_LOST, "THEN 0 ELSE 1 END", "THEN 0 ELSE 0 END"),
    m("a lost run is no attempt", _ALL_LOST, "(j.started_at IS NOT NULL)::integer", "0"),
    m(
        "a lost run leaves no attempt",
        _ALL_LOST,
        "FROM moved m LEFT JOIN",
        "FROM moved m JOIN jobsite_job ON false LEFT JOIN",
    ),
    m("a lost job does not go alone", _ALL_LOST, "alone = true,", ""),
    m("a lost group counts as runs", _ALL_LOST, "(j.started_at IS NOT NULL)::integer", "1"),
    m("a lost group counts as losses", _ALL_LOST, "j.started_at IS NULL THEN 0", "j.started_at IS NULL THEN 1"),
    m("a lost group's attempts are losses", _ALL_LOST, "m.started_at IS NULL THEN 'RETURNED'", "false THEN ''"),
    m("a lost group may fail", _ALL_LOST, "WHEN j.started_at IS NULL THEN 'PENDING'", ""),
    m("a stuck group may fail", "reap:STUCK,CHILD_TIMED_OUT", "WHEN j.started_at IS NULL THEN 'PENDING'", ""),
    m("losses without end", _ALL_LOST, ") + 1 >= p.max_worker_losses", ") + 1 >= 1000 + p.max_worker_losses"),
    m("on_worker_lost is ignored", _ALL_LOST, "p.on_worker_lost = 'FAIL' OR", ""),
    m("reap retries what was asked to stop", _ALL_LOST, "j.cancel_requested_at IS NOT NULL", "false"),
    m(
        "a job lost for good is no failure of its program",
        _ALL_LOST,
        "consecutive_failures + c.before END",
        "consecutive_failures END",
    ),
    m("a lost child takes other workers' jobs with it", "reap:CHILD", "j.lock_owner = %(owner)s AND", ""),
    m("a lost child takes all jobs of its worker with it", "reap:CHILD", "AND j.external_id = %(external_id)s", ""),
    m(
        "an abandoned job is reaped whoever holds it",
        "reap:TOKENS",
        "(j.number, j.lock_token) IN (SELECT * FROM unnest(%(numbers)s::bigint[], %(tokens)s::uuid[]))",
        "j.number = ANY(%(numbers)s)",
    ),
    m(
        "a silent worker's jobs are taken at once",
        "jobsite.programs.workers:reap_gone",
        "(cursor, gone)",
        "(cursor, gone + silent)",
    ),
    m("clear ignores the token that was shown", "reap:CLEARED", "AND j.lock_token = %(token)s", ""),
    m("clear without force", "reap:CLEARED", "%(force)s OR", "true OR"),
    m("clear only what has expired", "reap:CLEARED", "o.status IN ('STOPPED', 'LOST')", "false"),
    m("expire what is not stuck", "reap:STUCK", "j.stuck_at < clock_timestamp() AND", ""),
    m("expire in all tenants", "reap:STUCK", "AND (%(tenant)s::bigint IS NULL OR j.tenant_id = %(tenant)s)", ""),
    m(
        "expire others than chosen",
        "reap:STUCK",
        "AND (%(numbers)s::bigint[] IS NULL OR j.number = ANY(%(numbers)s))",
        "",
    ),
    m("time-outs without end", "reap:STUCK,CHILD_TIMED_OUT", ") < p.max_attempts", ") < 1000 + p.max_attempts"),
    m("a time-out counts as a loss", "reap:STUCK,CHILD_TIMED_OUT", "THEN 0 ELSE 0 END", "THEN 0 ELSE 1 END"),
    m("expire retries what was asked to stop", "reap:STUCK", "j.cancel_requested_at IS NOT NULL", "false"),
    # give back
    m(
        "give back counts",
        "give_back:GIVE_BACK_ALL",
        "queued_at = NULL, lock",
        "attempts = j.attempts + 1, queued_at = NULL, lock",
    ),
    m("give back others' jobs", "give_back:GIVE_BACK_ALL", "lock_owner = %(owner)s AND", ""),
    m(
        "give back what was asked to stop",
        "give_back:GIVE_BACK_ALL",
        "j.cancel_requested_at IS NULL",
        "true",
        "j.cancel_requested_at IS NOT NULL",
        "false",
    ),
    m(
        "give back: the token not repeated",
        "give_back:GIVE_BACK_ALL",
        "AND j.lock_token = held.lock_token",
        "",
        held_by=LOCKED,
    ),
    # cancel
    m(
        "cancel what has ended",
        "cancel:CANCEL",
        "'RUNNING', 'WAITING')",
        "'RUNNING', 'WAITING', 'FAILED', 'COMPLETED')",
    ),
    m(
        "cancel a running job at once",
        "cancel:CANCEL",
        "CASE WHEN status = 'RUNNING' THEN status ELSE 'CANCELED' END",
        "'CANCELED'",
    ),
    m("cancel for another tenant", "cancel:CANCEL", "AND tenant_id = %(tenant)s", ""),
    m("cancel asks nobody", "cancel:CANCEL", "coalesce(cancel_requested_at, clock_timestamp())", "cancel_requested_at"),
    # families
    m("a child without the parent's token", "spawn:SPAWN", "AND m.lock_token = %(token)s", ""),
    m("a child of what does not run", "spawn:SPAWN", "AND m.status = 'RUNNING'", "", held_by=ONLY_RUNNING_HAS_A_LOCK),
    m("a child of another tenant's program", "spawn:SPAWN", "AND p.tenant_id = m.tenant_id", ""),
    m("a child of an edited program", "spawn:SPAWN", "AND p.version = %(version)s", "", tests=CHILDREN),
    m("a taken child key breaks the run", "spawn:SPAWN", "ON CONFLICT DO NOTHING", ""),
    m("a future child is ready", "spawn:SPAWN", "WHEN g.at > statement_timestamp()", "WHEN false"),
    m("a paused program's child is ready", "spawn:SPAWN", "WHEN p.status = 'PAUSED'", "WHEN false", tests=CHILDREN),
    m("a child of a key does not wait", "spawn:SPAWN", "WHEN %(overlap_policy)s = 'QUEUE' THEN 'OVERLAP'", ""),
    m(
        "a child says not which run spawned it",
        "spawn:SPAWN",
        "m.number, %(child_key)s, m.fence",
        "m.number, %(child_key)s, 0",
    ),
    m(
        "finish waits though it was asked to stop",
        "finish:FINISH",
        "IN ('PENDING', 'WAITING') AND j.cancel",
        "IN ('PENDING') AND j.cancel",
        tests=PARENTS,
    ),
    m("finish forgets that it parked", "finish:FINISH", "WHEN g.attempt_result = 'PARKED'", "WHEN false"),
    m("every run is parked", "finish:FINISH", "WHEN g.attempt_result = 'PARKED'", "WHEN true"),
    m(
        "a parent goes on with an open child",
        "resolve:LOCK,RESOLVE",
        *_NO_CHILD_IS_SEEN,
    ),
    m(
        "a parent is looked at once, before it is locked",
        "resolve:RESOLVE",
        *_NO_CHILD_IS_SEEN,
        tests=RESOLVE,
    ),
    m("a parent is not locked", "resolve:LOCK", "FOR NO KEY UPDATE SKIP LOCKED", "", tests=RESOLVE),
    m("who resolves waits for another", "resolve:LOCK", " SKIP LOCKED", "", tests=RESOLVE),
    m("a job that does not wait is resolved", "resolve:LOCK,RESOLVE", "AND j.status = %(waiting)s", ""),
    m("the callback is never called", "resolve:RESOLVE", "WHEN j.parked_fence = j.fence THEN 'PENDING'", ""),
    m("the callback is called for ever", "resolve:RESOLVE", "j.parked_fence = j.fence", "j.parked_fence IS NOT NULL"),
    m("a failed child fails nobody", "resolve:RESOLVE", "children.failed > 0 AND p.on_child_failure = 'FAIL'", "false"),
    m("a failed child fails everybody", "resolve:RESOLVE", "AND p.on_child_failure = 'FAIL' THEN", "THEN"),
    m(
        "a canceled child is none",
        "resolve:RESOLVE",
        "FILTER (WHERE c.status <> 'COMPLETED') AS failed",
        "FILTER (WHERE c.status = 'FAILED') AS failed",
        tests=PARENTS,
    ),
    m("a failed child leaves no warning", "resolve:RESOLVE", "l.on_child_failure = 'WARN'", "false", tests=PARENTS),
    m(
        "a failed parent is no failure of its program",
        "resolve:RESOLVE",
        "consecutive_failures + c.before END",
        "consecutive_failures END",
    ),
    m("a callback travels in a group", "resolve:RESOLVE", "alone = true", "alone = j.alone"),
    m("the sweep misses a parent", "resolve:WAITING_WITHOUT_OPEN_CHILD", "j.status = 'WAITING'", "false"),
    m("losses before the callback count", _ALL_LOST, "e.result IN ('LOST', 'CLEARED')", "false", tests=PARENTS),
    m(
        "time-outs before the callback count",
        "reap:STUCK,CHILD_TIMED_OUT",
        "e.result NOT IN ('RETURNED', 'LOST', 'CLEARED')",
        "false",
        tests=PARENTS,
    ),
    m(
        "every ended parent cancels its children",
        "cancel:CANCEL_CHILDREN",
        "AND (p.status = 'CANCELED' OR (p.status = 'FAILED' AND g.cancel_children_on_failure))",
        "",
    ),
    m(
        "a failed parent never cancels its children",
        "cancel:CANCEL_CHILDREN",
        "OR (p.status = 'FAILED' AND g.cancel_children_on_failure)",
        "",
    ),
    m(
        "children are asked to stop over and over",
        "cancel:CANCEL_CHILDREN",
        "AND (c.status <> 'RUNNING' OR c.cancel_requested_at IS NULL)",
        "",
    ),
    m("the sweep misses children", "cancel:ENDED_WITH_OPEN_CHILDREN", "WHERE (p.status", "WHERE false AND (p.status"),
    # hold, release, what becomes due
    m("hold a running job", "hold:HOLD", "('PENDING', 'QUEUED')", "('PENDING', 'QUEUED', 'RUNNING')"),
    m("hold a job that stays queued", "hold:HOLD", "SET status = 'PENDING', queued_at = NULL,", "SET"),
    m("hold a schedule's job", "hold:HOLD", "AND trigger <> 'AUTOMATIC'", ""),
    m("hold a held job", "hold:HOLD", "AND hold_at IS NULL", ""),
    m("hold for another tenant", "hold:HOLD", "AND tenant_id = %(tenant)s", ""),
    m("release what is not held", "hold:RELEASE", "AND j.blocked = 'HELD'", ""),
    m("release for another tenant", "hold:RELEASE", "AND j.tenant_id = %(tenant)s", ""),
    m("release before it is due", "hold:RELEASE", "WHEN j.due_at > clock_timestamp()", "WHEN false"),
    m("release into a paused program", "hold:RELEASE", "WHEN p.status = 'PAUSED'", "WHEN false"),
    m("holds end too early", "hold:END_HOLDS", "hold_until <= statement_timestamp()", "hold_until IS NOT NULL"),
    m("jobs are due too early", "hold:UNBLOCK", "AND j.due_at <= statement_timestamp()", ""),
    m("due, though the program is paused", "hold:UNBLOCK", "due.program_status = 'PAUSED'", "false"),
    m("a paused program's jobs come back", "pause:UNBLOCK", "p.status <> 'PAUSED' AND", ""),
    m("a pause takes others' jobs out", "pause:BLOCK", "AND program_id = %(program)s", ""),
    m("a pause leaves jobs QUEUED", "pause:BLOCK", "AND status IN ('PENDING', 'QUEUED')", "AND status = 'PENDING'"),
    m("a pause stops what runs", "pause:BLOCK", "AND status IN ('PENDING', 'QUEUED')", "AND status <> 'WAITING'"),
    m("a pause takes what is held", "pause:BLOCK", "AND blocked IS NULL", ""),
    # the quota of a tenant
    m("claim beyond the tenant's quota", "claim:CLAIM", "place <= tenant_slots", "true"),
    m("claim without the tenant's lock", "claim:CLAIM", "t.running_quota IS NULL\n", "true\n"),
    m("claim of one of a tenant with a quota", "claim:CLAIM_ONE", "AND t.running_quota IS NULL", ""),
    m(
        "the tenant's row is read, not locked",
        "claim:LOCK_TENANTS",
        "FOR NO KEY UPDATE",
        "",
        tests=TESTS.format("claim"),
    ),
    m(
        "dispatch beyond the tenant's quota",
        "dispatch:DISPATCH",
        "coalesce(tenant.room, 1) > 0",
        "true",
        ", tenant.room)",
        ")",
    ),
    m(
        "the fast path goes beyond the tenant's quota",
        "dispatch:LOOK_AT_ONE",
        "<= 0 THEN 0 WHEN NOT",
        "<= 0 THEN 9 WHEN NOT",
    ),
    # one of a key
    m(
        "a key is let in while it is taken",
        "overlap:OF_JOBS,OF_ALL",
        "(a.status IN ('QUEUED', 'RUNNING', 'WAITING') OR (a.status = 'PENDING' AND a.attempts > 0))",
        "false",
    ),
    m(
        "a key is let in between two runs",
        "overlap:OF_JOBS,OF_ALL",
        "OR (a.status = 'PENDING' AND a.attempts > 0)",
        "",
        tests=TESTS.format("overlap"),
    ),
    m(
        "a key is let in beside one that was",
        "overlap:OF_JOBS,OF_ALL",
        "a.status = 'PENDING' AND a.blocked IS NULL",
        "false",
    ),
    m(
        "the next of a key is the last",
        "overlap:OF_JOBS,OF_ALL",
        "ORDER BY j.scheduled_at, j.number LIMIT 1",
        "ORDER BY j.scheduled_at DESC, j.number DESC LIMIT 1",
    ),
    m("what comes back into a key does not wait", "hold:RELEASE,UNBLOCK", "THEN 'OVERLAP' END", "THEN NULL END"),
    m("a new one of a key does not wait", "submit:INSERT", "WHEN g.overlap_policy = 'QUEUE' THEN 'OVERLAP'", ""),
    m(
        "one job alone of a key does not wait",
        "submit:INSERT_ONE",
        "WHEN g.overlap_policy = 'QUEUE' THEN 'OVERLAP'",
        "",
    ),
    m(
        "dispatch of a key that is taken",
        "dispatch:DISPATCH",
        "(a.status IN ('QUEUED', 'RUNNING', 'WAITING') OR (a.status = 'PENDING' AND a.attempts > 0))",
        "false",
        tests=TESTS.format("overlap"),
    ),
    m(
        "dispatch of two of a key",
        "dispatch:DISPATCH",
        "AND a.number < j.number",
        "AND false",
        tests=TESTS.format("overlap"),
    ),
    # submit
    m("a taken key breaks the submission", "submit:INSERT", "ON CONFLICT DO NOTHING\nRETURNING", "RETURNING"),
    m("a taken key breaks a submission alone", "submit:INSERT_ONE", "ON CONFLICT DO NOTHING", ""),
    m("a future job alone is ready", "submit:INSERT_ONE", "WHEN g.given_at > statement_timestamp()", "WHEN false"),
    m(
        "a job alone on hold is ready",
        "submit:INSERT_ONE",
        "WHEN g.hold_by IS NOT NULL THEN 'HELD'",
        "WHEN false THEN 'HELD'",
    ),
    m("a paused program's job alone is ready", "submit:INSERT_ONE", "WHEN p.status = 'PAUSED' THEN 'PAUSED'", ""),
    m("a submission waits for nobody", "submit:INSERT_ONE", "queued >= greatest(slots, 1)", "queued >= 0"),
    m("a future job is ready", "submit:INSERT", "WHEN g.given_at > statement_timestamp()", "WHEN false"),
    m("a job on hold is ready", "submit:INSERT", "WHEN g.hold_by IS NOT NULL THEN 'HELD'", "WHEN false THEN 'HELD'"),
    m("a paused program's job is ready", "submit:INSERT", "WHEN p.status = 'PAUSED' THEN 'PAUSED'", ""),
    m(
        "a terminated program's schedule goes on",
        "submit:INSERT",
        "OR g.trigger <> 'AUTOMATIC'",
        "OR true",
        tests="tests/programs/submission/test_submission.py",
    ),
    m(
        "priority is worth nothing",
        "submit:INSERT",
        "- coalesce(g.given_priority, p.priority) * interval '60 seconds'",
        "",
    ),
    # schedules
    m(
        "a schedule is fired by two at once",
        "jobsite.programs.schedules.firing:DUE",
        "FOR NO KEY UPDATE OF s SKIP LOCKED",
        "",
        tests=FIRING,
    ),
    m(
        "a schedule fires before its time",
        "jobsite.programs.schedules.firing:DUE",
        "s.due_at <= statement_timestamp() AND",
        "",
        tests=FIRING,
    ),
    m(
        "a schedule that broke is tried at once",
        "jobsite.programs.schedules.firing:DUE",
        "(s.retry_at IS NULL OR s.retry_at <= statement_timestamp())",
        "true",
        tests=FIRING,
    ),
    m(
        "a nominal time of a schedule may have two rows",
        "jobsite.programs.schedules.occurrences:RECORD",
        "ON CONFLICT (schedule_id, nominal_at) DO NOTHING",
        "",
        tests=FIRING,
    ),
    m(
        "a schedule forgets its last job",
        "jobsite.programs.schedules.firing:ADVANCE",
        "coalesce(g.job, s.last_job)",
        "NULL",
        tests=FIRING,
    ),
    m("a schedule stays late", "jobsite.programs.schedules.firing:ADVANCE", "late_at = NULL,", "", tests=FIRING),
    m(
        "a late schedule is reported each time",
        "jobsite.programs.schedules.firing:LATE",
        "AND late_at IS NULL",
        "",
        tests=FIRING,
    ),
    m("a paused schedule is late", "jobsite.programs.schedules.firing:LATE", "AND paused_at IS NULL", "", tests=FIRING),
    m(
        "a backfill of a schedule takes what has a job",
        "jobsite.programs.schedules.occurrences:DELETE_UNFIRED",
        "result <> 'FIRED'",
        "true",
        tests="tests/programs/schedules/test_schedules.py",
    ),
    # prune
    m(
        "prune takes what has just ended",
        "prune:PRUNE",
        "c.finished_at < statement_timestamp() - %(days)s * interval '1 day'",
        "true",
        tests=HOUSEKEEPING,
    ),
    m(
        "prune takes what is open",
        "prune:PRUNE",
        "c.status IN ('CANCELED', 'COMPLETED', 'FAILED') AND",
        "",
        held_by="an open job has no end, so that none is old",
    ),
    m(
        "prune takes a parent before its children",
        "prune:PRUNE",
        "AND NOT EXISTS (SELECT FROM jobsite_job k WHERE k.parent_id = c.number)",
        "",
        tests=HOUSEKEEPING,
    ),
    m(
        "prune takes a child of a recent parent",
        "prune:PRUNE",
        "WHERE p.number = c.parent_id",
        "WHERE false AND p.number = c.parent_id",
        tests=HOUSEKEEPING,
    ),
    m(
        "prune does not unlink retries",
        "prune:PRUNE",
        "WHERE r.retry_of_id = old.number",
        "WHERE false",
        tests=HOUSEKEEPING,
    ),
    m("prune leaves logs behind", "prune:PRUNE", "WHERE l.job_number = old.number", "WHERE false", tests=HOUSEKEEPING),
)

# The guard asks rule by rule whether it is broken.
_GUARDS = {
    **{
        name: (f"IS NOT TRUE THEN '{name}'", f"IS NULL AND false THEN '{name}'")
        for name in re.findall(r"IS NOT TRUE THEN '(\w+)'", GUARD.read_text())
    },
    "job_open_is_never_deleted": ("IF OLD.status NOT IN", "IF false AND OLD.status NOT IN"),
}


def _weaken_guard(rule: str) -> Callable[[Cursor], None]:
    def change(cursor: Cursor) -> None:
        cursor.execute("SELECT pg_get_functiondef('jobsite_job_guard'::regproc)")
        [(source,)] = cursor.fetchall()
        cursor.execute(replaced([source], (_GUARDS[rule],))[0])

    return change


def _drop(constraint: str) -> Callable[[Cursor], None]:
    def change(cursor: Cursor) -> None:
        cursor.execute("SELECT conrelid::regclass::text, contype FROM pg_constraint WHERE conname = %s", [constraint])
        found = cursor.fetchall()
        if found and found[0][1] in ("t", b"t"):
            cursor.execute(f"DROP TRIGGER {constraint} ON {found[0][0]}")
            return
        # A rule with a condition is an index to PostgreSQL.
        cursor.execute(
            f"ALTER TABLE {found[0][0]} DROP CONSTRAINT {constraint}" if found else f"DROP INDEX {constraint}"
        )

    return change


DATABASE = tuple(
    Mutation(f"the database without {rule}", "database", (), ddl=(_weaken_guard if rule in _GUARDS else _drop)(rule))
    for rule in dict.fromkeys(name for name, _ in REFUSALS)
)
MUTATIONS = {mutation.name: mutation for mutation in (*STATEMENTS, *DATABASE)}
