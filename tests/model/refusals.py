"""What the database itself refuses, whoever writes it: for each rule by its name, writes that break only this rule."""

from collections.abc import Iterator

from jobsite.programs.rules.lifecycle import MOVES, OPEN, TERMINAL, Status

_SOURCES = (Status.PENDING, Status.QUEUED, Status.RUNNING)  # nothing enters WAITING yet


def _update(assignments: str, where: str) -> str:
    chosen = f"SELECT number FROM jobsite_job WHERE {where} ORDER BY number LIMIT 1"
    return f"UPDATE jobsite_job SET {assignments} WHERE number = ({chosen})"


def _copy(where: str, **columns: str) -> str:
    """A copy of an existing job with other values in these columns."""
    kept = ("tenant_id", "program_id", "queue_id", "parameters", "context_id", "scheduled_at", "due_at", "rank")
    values = {name: name for name in kept} | {"priority": "priority"} | columns
    chosen = f"SELECT * FROM jobsite_job WHERE {where} ORDER BY number LIMIT 1"
    return f"INSERT INTO jobsite_job ({', '.join(values)}) SELECT {', '.join(values.values())} FROM ({chosen}) j"


def _attempt(where: str, result: str, fence: str, tenant: str = "a.tenant_id") -> str:
    chosen = f"SELECT * FROM jobsite_jobattempt WHERE {where} ORDER BY id LIMIT 1"
    return f"""INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, claimed_at, ended_at, result)
               SELECT {tenant}, job_id, {fence}, token, worker, claimed_at, ended_at, {result} FROM ({chosen}) a"""


def _move(target: Status) -> str:
    """Set all that goes with a status, so that only the move itself is wrong."""
    is_running, is_terminal, is_failed = target is Status.RUNNING, target in TERMINAL, target is Status.FAILED
    lock = "gen_random_uuid()" if is_running else "NULL"
    moment = "clock_timestamp()"
    return f"""status = '{target}', lock_token = {lock}, lock_owner = {lock}, blocked = NULL, hold_at = NULL,
               lock_expires_at = {moment if is_running else "NULL"}, claimed_at = {moment},
               finished_at = {moment if is_terminal else "NULL"},
               outcome = '{"ERROR" if is_failed else "NORMAL"}',
               failure_kind = {"'PERMANENT'" if is_failed else "NULL"}"""


def _refusals() -> Iterator[tuple[str, str]]:
    for source in _SOURCES:
        for target in sorted(set(Status) - {source}):
            if (source, target) not in MOVES:
                yield "job_moves_are_legal", _update(_move(target), f"status = '{source}'")
    is_terminal = "status IN ('COMPLETED', 'FAILED', 'CANCELED')"
    for target in sorted(OPEN):
        yield "job_terminal_is_final", _update(_move(target), is_terminal)
    for change in (
        "result = '{\"late\": 1}'",
        "error = '{\"late\": 1}'",
        "finished_at = finished_at + interval '1 second'",
        "attempts = attempts + 1",
        "losses = losses + 1",
    ):
        yield "job_terminal_is_final", _update(change, is_terminal)
    other = "CASE outcome WHEN 'WARNING' THEN 'NORMAL' ELSE 'WARNING' END"
    yield "job_terminal_is_final", _update(f"outcome = {other}", "status = 'COMPLETED'")
    yield "job_terminal_is_final", _update("failure_kind = 'REFUSED'", "status = 'FAILED'")
    yield "job_fence_never_falls", _update("fence = fence - 1", "fence > attempts")
    yield "job_scheduled_at_never_changes", _update("scheduled_at = scheduled_at + interval '1 second'", "true")
    yield "job_tenant_never_changes", _update("tenant_id = tenant_id + 1", "true")
    for status in _SOURCES:
        chosen = f"SELECT number FROM jobsite_job WHERE status = '{status}' LIMIT 1"
        yield "job_open_is_never_deleted", f"DELETE FROM jobsite_job WHERE number = ({chosen})"

    is_ready = "status = 'PENDING' AND blocked IS NULL"
    for column in ("lock_token", "lock_owner", "lock_expires_at", "claimed_at"):
        yield "job_locked_only_while_running", _update(f"{column} = NULL", "status = 'RUNNING'")
    for column in ("lock_token", "lock_owner"):
        yield "job_locked_only_while_running", _update(f"{column} = gen_random_uuid()", "status <> 'RUNNING'")
    yield "job_finished_at_only_when_terminal", _update("finished_at = clock_timestamp()", "status = 'RUNNING'")
    yield "job_outcome_follows_status", _update("outcome = 'WARNING'", is_ready)
    yield "job_outcome_follows_status", _update("failure_kind = 'TIMEOUT'", "status = 'RUNNING'")
    yield "job_blocked_only_while_pending", _update("blocked = 'PAUSED'", "status IN ('QUEUED', 'RUNNING')")
    yield "job_blocked_only_while_pending", _update("blocked = 'MOOD'", is_ready)
    yield "job_held_with_a_moment", _update("hold_at = clock_timestamp()", is_ready)
    yield "job_held_with_a_moment", _update("hold_at = NULL", "blocked = 'HELD'")
    yield "job_overlap_key_with_its_policy", _update("overlap_key = 'x'", "overlap_policy = 'ALLOW'")
    yield "job_counters_add_up", _update("losses = attempts + 1", "status = 'RUNNING'")
    yield "job_counters_add_up", _update("attempts = fence + 1", "status = 'PENDING'")
    yield "job_priority_in_range", _update("priority = 101, rank = due_at - interval '6060 seconds'", is_ready)
    yield "job_rank_is_due_at_less_priority", _update("rank = rank - interval '1 second'", is_ready)
    yield "job_trigger_known", _update("trigger = 'MOOD'", is_ready)
    yield "job_status_known", _copy("true", status="'LIMBO'")

    yield "job_idempotency_key_once_per_tenant", _copy("idempotency_key IS NOT NULL", idempotency_key="idempotency_key")
    a_key = {"overlap_policy": "overlap_policy", "overlap_key": "overlap_key"}
    is_open = f"NOT ({is_terminal})"
    yield "job_reject_key_once_among_open", _copy(f"overlap_policy = 'REJECT' AND {is_open}", **a_key)
    yield (
        "job_queue_key_once_among_active",
        _copy("overlap_policy = 'QUEUE' AND status IN ('QUEUED', 'RUNNING')", status="'QUEUED'", **a_key),
    )
    yield "job_retried_once_at_a_time", _copy(f"retry_of_id IS NOT NULL AND {is_open}", retry_of_id="retry_of_id")
    a_child = {"parent_id": "number", "child_key": "'c'", "parent_fence": "1", "trigger": "'CHILD'"}
    twins = _copy("true", **a_child) + " CROSS JOIN generate_series(1, 2)"
    yield "job_child_key_once_per_parent", twins
    yield "job_child_has_a_key", _copy("true", **a_child | {"child_key": "NULL"})
    unlike_its_siblings = a_child | {"child_key": "'of its own'", "parent_fence": "fence"}
    yield "job_spawned_by_a_run", _copy("status <> 'RUNNING'", **unlike_its_siblings)
    yield "job_parked_under_a_fence_of_its_own", _update("parked_fence = fence + 1", "true")

    stranger = "(SELECT max(o.{0}) FROM {1} o WHERE o.tenant_id <> j.tenant_id)"
    yield "job_program_of_same_tenant", _copy("true", program_id=stranger.format("id", "jobsite_program"))
    others = "(SELECT count(DISTINCT tenant_id) FROM jobsite_job) > 1"
    a_strange_job = stranger.format("number", "jobsite_job")
    yield "job_parent_of_same_tenant", _copy(others, **a_child | {"parent_id": a_strange_job})
    yield "job_retry_of_same_tenant", _copy(others, retry_of_id=a_strange_job)
    yield "attempt_job_of_same_tenant", _attempt("true", "'LOST'", "fence + 1000", tenant="a.tenant_id + 1000")
    yield "attempt_fence_once_per_job", _attempt("result <> 'SUCCESS'", "result", "fence")
    yield "attempt_succeeds_once_per_job", _attempt("result = 'SUCCESS'", "result", "fence + 1000")
    yield "attempt_result_known", _attempt("true", "'MOOD'", "fence + 1000")
    yield (
        "worker_name_once_among_the_living",
        """INSERT INTO jobsite_worker (name, incarnation, manager_id, host, boot_id, pid_namespace, pid,
                                       process_started, queues, pool, children)
           SELECT name, gen_random_uuid(), manager_id, host, boot_id, pid_namespace, pid, process_started, queues,
                  pool, children FROM jobsite_worker WHERE status IN ('ACTIVE', 'STOPPING') LIMIT 1""",
    )
    yield (
        "lane_once_per_queue_and_tenant",
        "INSERT INTO jobsite_lane (queue_id, tenant_id) SELECT queue_id, tenant_id FROM jobsite_lane LIMIT 1",
    )


REFUSALS = tuple(_refusals())
