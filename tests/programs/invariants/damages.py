"""Each invariant broken by hand: what is done to a healthy job, and what the invariants then report."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Damage:
    """A healthy job {n}, what is done to it outside of the protocol, and what is then reported (`*`: anything).

    Before it there are {h}, which is COMPLETED, and {o}, which Charlie's tenant canceled; with `twin` there is {m}
    besides, made after {n} as it was. {t} and {p} are the tenant and program of {n}, {t2} and {p2} those of {o}.
    `jobs` are those that the violation names.
    """

    invariant: str
    said: str
    status: str
    sql: str
    twin: str = ""
    jobs: str = "n"
    at_rest: bool = False


def row(assignments: str, which: str = "{n}") -> str:
    return f"UPDATE jobsite_job SET {assignments} WHERE number IN ({which});"


def delivery(event: str, tenant: str = "{t}") -> str:
    return (
        "INSERT INTO jobsite_delivery (tenant_id, dedupe_key, event, source, job_number, channel, address)"
        f" VALUES ({tenant}, 'k', '{event}', 'program', {{n}}, 'email', 'a@example.org');"
    )


def step(tenant: str, fence: int) -> str:
    return (
        "INSERT INTO jobsite_jobstep (tenant_id, job_id, action, name, digest, status, tries, fence, started_at)"
        f" VALUES ({tenant}, {{n}}, 'fetch', 'a', gen_random_uuid(), 'RUNNING', 1, {fence}, now());"
    )


def attempt(assignments: str) -> str:
    return f"UPDATE jobsite_jobattempt SET {assignments} WHERE job_id = {{n}};"


def earlier_attempt(result: str, *, token: str = "gen_random_uuid()", ended: str = "1 minute") -> str:
    """The run of fence 1 becomes that of fence 2, after one that ended so long before it."""
    return (
        "UPDATE jobsite_jobattempt SET fence = 2 WHERE job_id = {n};"
        "INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, claimed_at, ended_at, result)"
        f" SELECT tenant_id, number, 1, {token}, 'w', claimed_at - interval '1 hour', claimed_at - interval '{ended}',"
        f" '{result}' FROM jobsite_job WHERE number = {{n}};"
    ) + row("fence = 2, attempts = attempts + 1")


def log_line(at: str, tenant: str) -> str:
    return (
        "INSERT INTO jobsite_joblogentry (at, tenant_id, job_number, sequence, attempt, stream, severity, message)"
        f" VALUES ({at}, {tenant}, {{n}}, 1, 1, 'log', 'INFO', 'hello');"
    )


AGO = "clock_timestamp() - interval '1 hour'"
AHEAD = "clock_timestamp() + interval '1 hour'"
CHILD = "trigger = 'CHILD', child_key = 'a', parent_fence = 0"


def schedule(
    nominal: str = "now()", *, next_at: str = "now() + interval '1 day'", trigger: str = "AUTOMATIC", whose: str = ""
) -> str:
    """A schedule of {p}, or of {p2}, whose time `nominal` made {n}."""
    return (
        "INSERT INTO jobsite_schedule (tenant_id, program_id, code, interval_minutes, anchor_at, time_zone, kind,"
        f" owner, parameters, next_at, due_at) SELECT {{t{whose}}}, {{p{whose}}}, 'tick', 1, now(), 'UTC', 'LOCAL',"
        f" 'w', '{{{{}}}}', n, n FROM (SELECT {next_at} AS n) x;"
        f"UPDATE jobsite_job SET trigger = '{trigger}', scheduled_at = now() WHERE number = {{n}};"
        "INSERT INTO jobsite_firing (tenant_id, schedule_id, nominal_at, result, job_number)"
        f" SELECT tenant_id, id, {nominal}, 'FIRED', {{n}} FROM jobsite_schedule;"
    )


DAMAGES = (
    # A status and its fields agree.
    Damage("I3", "job {n} has status DREAMING", "PENDING", row("status = 'DREAMING'")),
    Damage("I3", "job {n} is RUNNING without lock_token", "RUNNING", row("lock_token = NULL")),
    Damage(
        "I3",
        "job {n} is RUNNING without lock_owner, lock_expires_at",
        "RUNNING",
        row("lock_owner = NULL, lock_expires_at = NULL"),
    ),
    Damage("I3", "job {n} is RUNNING without claimed_at", "RUNNING", row("claimed_at = NULL")),
    Damage("I3", "job {n} is COMPLETED with lock_token", "COMPLETED", row("lock_token = gen_random_uuid()")),
    Damage("I3", "job {n} is QUEUED with lock_expires_at", "QUEUED", row(f"lock_expires_at = {AHEAD}")),
    Damage("I3", "job {n} is COMPLETED and its finished_at is empty", "COMPLETED", row("finished_at = NULL")),
    Damage("I3", "job {n} is PENDING and its finished_at is 2*", "PENDING", row("finished_at = now()")),
    Damage(
        "I3", "job {n} is QUEUED without queued_at, so nobody would miss its message", "QUEUED", row("queued_at = NULL")
    ),
    Damage(
        "I3",
        "job {n} is COMPLETED with outcome ERROR, its kind of failure is empty",
        "COMPLETED",
        row("outcome = 'ERROR'"),
    ),
    Damage(
        "I3", "job {n} is FAILED with outcome ERROR, its kind of failure is empty", "FAILED", row("failure_kind = NULL")
    ),
    Damage(
        "I3", "job {n} is FAILED with outcome ERROR, its kind of failure is BAD", "FAILED", row("failure_kind = 'BAD'")
    ),
    Damage(
        "I3",
        "job {n} is PENDING with outcome WARNING, its kind of failure is empty",
        "PENDING",
        row("outcome = 'WARNING'"),
    ),
    Damage("I3", "job {n} is PENDING though it was asked to stop at 2*", "PENDING", row("cancel_requested_at = now()")),
    Damage("I3", "job {n} is QUEUED and blocked PAUSED", "QUEUED", row("blocked = 'PAUSED'")),
    Damage("I3", "job {n} is PENDING and blocked BORED", "PENDING", row("blocked = 'BORED'")),
    Damage(
        "I3",
        "the blocked of job {n} is HELD, its hold_at is empty and its hold_until empty",
        "PENDING",
        row("blocked = 'HELD'"),
    ),
    Damage(
        "I3",
        "the blocked of job {n} is empty, its hold_at is 2* and its hold_until empty",
        "PENDING",
        row("hold_at = now()"),
    ),
    Damage(
        "I3",
        "the blocked of job {n} is empty, its hold_at is empty and its hold_until 2*",
        "PENDING",
        row(f"hold_until = {AHEAD}"),
    ),
    Damage("I3", "job {n} is blocked OVERLAP with policy ALLOW", "PENDING", row("blocked = 'OVERLAP'")),
    Damage(
        "I3",
        "job {n} waits in its lane 3* s before it is due",
        "PENDING",
        row("due_at = due_at + interval '1 hour', rank = rank + interval '1 hour'"),
    ),
    Damage(
        "I3", "job {n} has rank 2*, is due at 2* and has priority 0", "PENDING", row("rank = rank - interval '1 s'")
    ),
    Damage("I3", "job {n} has priority 101", "PENDING", row("priority = 101, rank = due_at - interval '101 minutes'")),
    Damage("I3", "job {n} has trigger LUCK", "PENDING", row("trigger = 'LUCK'")),
    Damage("I3", "job {n} has overlap policy ALLOW, its key is k", "PENDING", row("overlap_key = 'k'")),
    Damage("I3", "job {n} has overlap policy REJECT, its key is empty", "PENDING", row("overlap_policy = 'REJECT'")),
    # What the sweeps put right.
    Damage("I3", "job {n} is RUNNING though its lock ran out 36* s ago", "RUNNING", row(f"lock_expires_at = {AGO}")),
    Damage(
        "I3",
        "job {n} is RUNNING though it should have been ended as stuck 36* s ago",
        "RUNNING",
        row(f"stuck_at = {AGO}"),
    ),
    Damage(
        "I3",
        "job {n} is blocked SCHEDULED, due since 36* s",
        "PENDING",
        row(f"blocked = 'SCHEDULED', due_at = {AGO}") + row("rank = due_at"),
    ),
    Damage(
        "I3",
        "job {n} is HELD, its hold has ended 36* s ago",
        "PENDING",
        row(f"blocked = 'HELD', hold_at = {AGO}, hold_until = {AGO}"),
    ),
    Damage(
        "I3",
        "job {n} is blocked PAUSED, its program sample is ACTIVE",
        "PENDING",
        row(f"blocked = 'PAUSED', created_at = {AGO}") + f"UPDATE jobsite_program SET updated_at = {AGO};",
    ),
    # Attempts.
    Damage("I2", "job {n} is COMPLETED, its SUCCESS attempts: 0", "COMPLETED", attempt("result = 'PERMANENT'")),
    Damage("I2", "job {n} is COMPLETED, its SUCCESS attempts: 2", "COMPLETED", earlier_attempt("SUCCESS")),
    Damage(
        "I2",
        "job {n} is COMPLETED, its SUCCESS has fence 1 and its last attempt fence 2",
        "COMPLETED",
        attempt("result = 'PERMANENT'") + earlier_attempt("SUCCESS"),
    ),
    Damage("I2", "job {n} is FAILED, its SUCCESS attempts: 1", "FAILED", attempt("result = 'SUCCESS'")),
    Damage("I2", "job {n} is PENDING, its SUCCESS attempts: 1", "RETRIED", attempt("result = 'SUCCESS'")),
    Damage(
        "I2",
        "job {n} is WAITING, its SUCCESS attempts: 2",
        "WAITING",
        attempt("result = 'SUCCESS'") + earlier_attempt("SUCCESS") + row("parked_fence = NULL"),
    ),
    Damage(
        "I2",
        "job {n} is WAITING, its last attempt of fence 1 is neither SUCCESS nor PARKED",
        "WAITING",
        attempt("result = 'PERMANENT'") + row("parked_fence = NULL"),
    ),
    Damage(
        "I2",
        "job {n} is parked under fence empty, its last PARKED attempt has fence 1",
        "WAITING",
        row("parked_fence = NULL"),
    ),
    Damage(
        "I2",
        "job {n} is parked under fence 1, its last PARKED attempt has fence empty",
        "FAILED",
        row("parked_fence = 1"),
    ),
    Damage("I4", "job {n} is COMPLETED at fence 5, its attempts reach 1", "COMPLETED", row("fence = 5")),
    Damage("I4", "job {n} is RUNNING at fence 2, its attempts reach 0", "RUNNING", row("fence = 2")),
    Damage(
        "I4", "job {n} has attempts up to fence 2, but only 1", "COMPLETED", row("fence = 2") + attempt("fence = 2")
    ),
    Damage(
        "I4",
        "job {n} counts attempts 0 and losses 0, its rows say 1 and 0",
        "FAILED",
        row("attempts = 0"),
    ),
    Damage(
        "I4",
        "job {n} counts attempts 1 and losses 0, its rows say 1 and 1",
        "FAILED",
        attempt("result = 'LOST'"),
    ),
    Damage("I4", "job {n} counts returns 1, its rows say 0", "FAILED", row("returns = 1")),
    Damage("I4", "attempt 1 of job {n} has result LUCKY", "FAILED", attempt("result = 'LUCKY'")),
    Damage(
        "I4",
        "job {n} is held under fence 2 by the token that ended attempt 1",
        "RUNNING",
        earlier_attempt("TRANSIENT", token="lock_token"),
    ),
    Damage(
        "I4",
        "jobs {n}, {m} are held by one token",
        "RUNNING",
        row("lock_token = (SELECT lock_token FROM jobsite_job WHERE number = {m})"),
        twin="RUNNING",
        jobs="n m",
    ),
    Damage(
        "I5",
        "attempt 1 of job {n} was claimed at 2* and ended at 2*",
        "FAILED",
        attempt("ended_at = claimed_at - interval '1 s'"),
    ),
    Damage(
        "I5",
        "job {n} was claimed under fence 2 at 2*, the run before it ended TRANSIENT at 2*",
        "FAILED",
        earlier_attempt("TRANSIENT", ended="-0.5 seconds"),
    ),
    Damage(
        "I5",
        "job {n} was claimed under fence 2 at 2*, the run before it ended RETURNED at 2*",
        "RUNNING",
        earlier_attempt("RETURNED", ended="-1 minute") + row("attempts = 0"),
    ),
    Damage(
        "I6",
        "job {n} ended at 2*, was last claimed at * and last given up at *",
        "COMPLETED",
        row(f"claimed_at = {AHEAD}"),
    ),
    Damage(
        "I6",
        "job {n} ended at 2*, was last claimed at * and last given up at *",
        "CANCELED",
        row(f"claimed_at = {AHEAD}"),
    ),
    Damage(
        "I6",
        "job {n} ended at 2*, was last claimed at 2* and last given up at 2*",
        "FAILED",
        attempt("ended_at = ended_at + interval '1 minute'"),
    ),
    # Families.
    Damage(
        "I8",
        "job {n} has parent empty, child key a, parent's fence empty and trigger *",
        "PENDING",
        row("child_key = 'a'"),
    ),
    Damage(
        "I8",
        "job {n} has parent {h}, child key a, parent's fence 0 and trigger MANUAL",
        "FAILED",
        row("parent_id = {h}, child_key = 'a', parent_fence = 0"),
    ),
    Damage(
        "I8",
        "job {n} has parent {h}, child key a, parent's fence empty and trigger CHILD",
        "FAILED",
        row("parent_id = {h}, child_key = 'a', trigger = 'CHILD'"),
    ),
    Damage(
        "I8",
        "job {n} was spawned under fence 7 of job {h}, whose fence is *",
        "FAILED",
        row("parent_id = {h}, child_key = 'a', parent_fence = 7, trigger = 'CHILD'"),
    ),
    Damage("I8", "job {n} has job {n} for a parent", "PENDING", row(f"parent_id = {{n}}, {CHILD}")),
    Damage(
        "I8",
        "job {n} is COMPLETED, its child {m} is PENDING",
        "COMPLETED",
        row(f"parent_id = {{n}}, {CHILD}", "{m}"),
        twin="PENDING",
        jobs="n m",
    ),
    Damage(
        "I8",
        "job {n} was CANCELED at 2*, its child {m} is QUEUED",
        "CANCELED",
        row(f"parent_id = {{n}}, {CHILD}", "{m}") + row(f"finished_at = {AGO}"),
        twin="QUEUED",
        jobs="n m",
    ),
    Damage(
        "I8",
        "job {n} is WAITING though no child of it is open since 2*",
        "WAITING",
        row(f"created_at = {AGO}, claimed_at = {AGO}") + attempt(f"claimed_at = {AGO}, ended_at = {AGO}"),
    ),
    # Schedules and their times.
    Damage(
        "I9",
        "schedule tick of tenant {t} is due since *",
        "COMPLETED",
        schedule("now() - interval '3 days'", next_at="now() - interval '2 days'")
        + "UPDATE jobsite_job SET scheduled_at = now() - interval '3 days' WHERE number = {n};",
        jobs="",
    ),
    Damage(
        "I9",
        "schedule tick of tenant {t} is next at *, and done with *",
        "COMPLETED",
        schedule(next_at="now()"),
        jobs="",
    ),
    Damage(
        "I9",
        "job {n} of schedule tick is scheduled at *, its nominal time is *",
        "COMPLETED",
        schedule("now() - interval '1 minute'"),
    ),
    Damage("I9", "job {n} of schedule tick is MANUAL", "COMPLETED", schedule(trigger="MANUAL")),
    Damage(
        "I10",
        "job {n} of tenant {t} is of schedule tick, whose tenant is {t2}",
        "COMPLETED",
        schedule(whose="2"),
    ),
    # One tenant along every reference, and something at its end.
    Damage(
        "I10",
        "job {n} of tenant {t} is of program {p2}, whose tenant is {t2}",
        "PENDING",
        row("program_id = {p2}"),
    ),
    Damage("I10", "job {n} of tenant {t} is of program 0, whose tenant is empty", "COMPLETED", row("program_id = 0")),
    Damage("I10", "job {n} names queue 0, which does not exist", "QUEUED", row("queue_id = 0")),
    Damage("I10", "job {n} names context *, which does not exist", "FAILED", row("context_id = gen_random_uuid()")),
    Damage(
        "I10",
        "attempt 1 of tenant {t2} is of job {n}, whose tenant is {t}",
        "FAILED",
        attempt("tenant_id = {t2}"),
    ),
    Damage(
        "I10",
        "attempt 1 of tenant {t} is of job 0, whose tenant is empty",
        "FAILED",
        "INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, claimed_at, ended_at, result)"
        " VALUES ({t}, 0, 1, gen_random_uuid(), 'w', now(), now(), 'LOST');",
        jobs="0",
    ),
    Damage("I10", "step fetch a of tenant {t2} is of job {n}, whose tenant is {t}", "RUNNING", step("{t2}", 1)),
    Damage("I4", "step fetch a of job {n} ran under fence 2, the job's is 1", "RUNNING", step("{t}", 2)),
    Damage(
        "I10",
        "job {n} of tenant {t} is a child of job {o}, whose tenant is {t2}",
        "COMPLETED",
        row(f"parent_id = {{o}}, {CHILD}"),
    ),
    Damage(
        "I10",
        "job {n} of tenant {t} is a child of job 0, whose tenant is empty",
        "COMPLETED",
        row(f"parent_id = 0, {CHILD}"),
    ),
    Damage(
        "I10",
        "job {n} of tenant {t} is a retry of job {o}, whose tenant is {t2}",
        "COMPLETED",
        row("retry_of_id = {o}"),
    ),
    Damage(
        "I10",
        "action 1 of tenant {t2} is of program {p}, whose tenant is {t}",
        "COMPLETED",
        "UPDATE jobsite_action SET tenant_id = {t2};",
        jobs="",
    ),
    Damage(
        "I10",
        "program {p2} names queue 0, which does not exist",
        "COMPLETED",
        "UPDATE jobsite_program SET queue_id = 0 WHERE id = {p2};",
        jobs="",
    ),
    Damage(
        "I10",
        "lane * names tenant 0, which does not exist",
        "COMPLETED",
        "INSERT INTO jobsite_lane (queue_id, tenant_id) SELECT min(id), 0 FROM jobsite_queue;",
        jobs="",
    ),
    Damage(
        "I10",
        "log entries of job {n}, whose tenant is {t}, that are of tenant {t2}: 2",
        "COMPLETED",
        2 * log_line("now()", "{t2}"),
    ),
    Damage(
        "I10",
        "log entries in the default partition, from 2001-01-01T00:00:00+00:00 to 2001-01-01T00:00:00+00:00: 1",
        "COMPLETED",
        log_line("'2001-01-01 00:00+00'", "{t}"),
        jobs="",
    ),
    # Limits.
    Damage(
        "I12",
        "running jobs of manager default: 2, its limit is 1",
        "RUNNING",
        row("lock_owner = '{w}'", "{n}, {m}") + "UPDATE jobsite_workermanager SET max_running = 1;",
        twin="RUNNING",
        jobs="n m",
    ),
    Damage(
        "I12",
        "running jobs of tenant acme: 1, its quota is 0",
        "RUNNING",
        "UPDATE jobsite_tenant SET running_quota = 0 WHERE id = {t};",
    ),
    # Once means once.
    Damage("I14", "job {n} is a retry of job {n}", "COMPLETED", row("retry_of_id = {n}")),
    Damage(
        "I14",
        "job {m} is a retry of job {n}, which is RUNNING",
        "RUNNING",
        row("retry_of_id = {n}", "{m}"),
        twin="PENDING",
        jobs="m",
    ),
    Damage(
        "I14",
        "jobs {n}, {m} of tenant {t} have the idempotency key k",
        "COMPLETED",
        row("idempotency_key = 'k'", "{n}, {m}"),
        twin="PENDING",
        jobs="n m",
    ),
    Damage(
        "I14",
        "jobs {n}, {m} are the child a of job {h}",
        "COMPLETED",
        row(f"parent_id = {{h}}, {CHILD}", "{n}, {m}"),
        twin="CANCELED",
        jobs="n m",
    ),
    Damage(
        "I14",
        "jobs {n}, {m} are open with the REJECT key k",
        "PENDING",
        row("overlap_policy = 'REJECT', overlap_key = 'k'", "{n}, {m}"),
        twin="RUNNING",
        jobs="n m",
    ),
    Damage(
        "I14",
        "jobs {n}, {m} are active with the QUEUE key k",
        "RETRIED",
        row("overlap_policy = 'QUEUE', overlap_key = 'k'", "{n}, {m}"),
        twin="WAITING",
        jobs="n m",
    ),
    Damage(
        "I14",
        "jobs {n}, {m} are open retries of job {h}",
        "QUEUED",
        row("retry_of_id = {h}", "{n}, {m}"),
        twin="QUEUED",
        jobs="n m",
    ),
    Damage("I10", "a delivery of tenant {t2} tells of job {n} of tenant {t}", "FAILED", delivery("FAILED", "{t2}")),
    Damage("I11", "job {n} is told to be COMPLETED and is FAILED", "FAILED", delivery("COMPLETED")),
    Damage(
        "I11",
        "2 deliveries have the key k",
        "FAILED",
        "ALTER TABLE jobsite_delivery DROP CONSTRAINT delivery_once_per_key;" + delivery("FAILED") * 2,
        jobs="",
    ),
    # At rest.
    Damage("I11", "delivery * of FAILED waits to be sent, after 0 tries", "FAILED", delivery("FAILED"), at_rest=True),
    Damage("I1", "job {n} is QUEUED", "QUEUED", "", at_rest=True),
    Damage("I1", "job {n} is WAITING", "WAITING", "", at_rest=True),
    Damage(
        "I1",
        "job {n} is PENDING and blocked PAUSED",
        "PENDING",
        "UPDATE jobsite_program SET status = 'PAUSED';" + row("blocked = 'PAUSED'"),
        at_rest=True,
    ),
)
