"""Makes each move twice, by the real SQL and by the reference, and fails where the two differ."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any
from uuid import UUID

import psycopg

from jobsite.programs import invariants, workers
from jobsite.programs.dispatch import grouped
from jobsite.programs.invariants.looks import Look
from jobsite.programs.rules.lifecycle import FailureKind, Overlap, Trigger
from jobsite.programs.sql import window
from jobsite.programs.transitions import (
    cancel,
    claim,
    dispatch,
    finish,
    give_back,
    hold,
    overlap,
    pause,
    reap,
    renew,
    resolve,
    spawn,
    start,
    submit,
)
from jobsite.programs.transitions.dispatch import Dispatched
from jobsite.programs.transitions.finish import Held
from jobsite.programs.transitions.submit import NewJob
from jobsite.programs.upkeep import sweeps
from tests.model import reference
from tests.model.reference import Model
from tests.model.refusals import REFUSALS
from tests.model.rows import Job, Program, Worker
from tests.model.world import CONTEXT, JOBS, MANAGERS, OTHERS, QUEUES, QUOTAS, TICK, TIME_PASSES, World


class Broken(AssertionError):
    """The database and the reference differ, or a rule does not hold; `check` says which check found it."""

    def __init__(self, check: str, detail: object) -> None:
        super().__init__(f"{check}: {detail}")
        self.check = check


@dataclass(frozen=True)
class Grant:
    """What a worker keeps of a claim for ever, and may use long after it has lost it."""

    number: int
    token: UUID
    worker: Worker
    message: UUID
    counts_failures: bool


@dataclass(frozen=True)
class Message:
    id: UUID
    numbers: tuple[int, ...]


# How a run may end: what the worker writes, and what the reference makes of it.
ENDINGS: dict[str, tuple[finish.Ending, dict[str, Any]]] = {
    "succeeds": (
        finish.Ending.completed({"n": 1}),
        {"target": "COMPLETED", "result": "SUCCESS"},
    ),
    "fails": (
        finish.Ending.failed(FailureKind.PERMANENT, {"type": "E"}),
        {"target": "FAILED", "result": "PERMANENT", "failure": "PERMANENT"},
    ),
    "tries again": (
        finish.Ending.retry(FailureKind.TRANSIENT, {"type": "E"}, delay=0.0),
        {"target": "PENDING", "result": "TRANSIENT", "delay": 0.0},
    ),
    "has not started": (give_back.UNSTARTED, {"target": "PENDING", "result": "RETURNED", "attempts": 0}),
    "tries again later": (
        finish.Ending.retry(FailureKind.TRANSIENT, delay=1.5 * TICK),
        {"target": "PENDING", "result": "TRANSIENT", "delay": 1.5},
    ),
    "snoozes": (
        give_back.snoozed(0.5 * TICK),
        {"target": "PENDING", "result": "RETURNED", "attempts": 0, "delay": 0.5},
    ),
    "is unknown": (
        give_back.action_unknown("x", returns=0),
        {"target": "PENDING", "result": "RETURNED", "attempts": 0, "returns": 1, "delay": 0.03},
    ),
    "is unknown to all": (
        give_back.action_unknown("x", returns=10),
        {"target": "FAILED", "result": "PERMANENT", "failure": "PERMANENT"},
    ),
    "waits": (
        finish.Ending.waiting(has_warned=True),
        {"target": "WAITING", "result": "SUCCESS"},
    ),
    "parks": (finish.Ending.parked(), {"target": "WAITING", "result": "PARKED"}),
    "stops": (
        finish.Ending.canceled(),
        {"target": "CANCELED", "result": "CANCELED"},
    ),
}


def move(method: Callable[..., Any]) -> Callable[..., Any]:
    """A move of the driver: time goes on a little, both sides move, and all their rows are compared."""

    @wraps(method)
    def moved(self: "Driver", *arguments: Any, **keywords: Any) -> Any:
        self.is_sound = False
        before = self.model_state()
        self.model.now += 1e-6
        answer = method(self, *arguments, **keywords)
        self.compare(None if method.__name__ == "time_passes" else before)
        self.is_sound = True
        return answer

    return moved


class Driver:
    """The moves. `bag` holds what brokers may deliver at any time, once, twice or never."""

    def __init__(self, world: World) -> None:
        self.world, self.cursor = world, world.cursor
        self.model = Model(copy.deepcopy(world.programs), MANAGERS, QUOTAS)
        self.bag: list[Message] = []
        self.grants: list[Grant] = []
        self.tokens_ended: set[UUID] = set()
        self.hashes: dict[int, str] = {}
        self.is_sound = True
        self._count = 0

    def new_id(self) -> UUID:
        self._count += 1
        return UUID(int=self._count + 1000)

    def same(self, what: str, got: object, expected: object) -> None:
        if got != expected:
            raise Broken(f"answer of {what}", f"{got}, not {expected}")

    # Comparison

    def model_state(self) -> dict[int, tuple[object, ...]]:
        return {job.number: (*vars(job).values(), len(job.history)) for job in self.model.jobs.values()}

    def _expected(self, job: Job) -> dict[str, object]:
        def from_now(moment: float | None) -> int | None:
            return None if moment is None else round((moment - self.model.now) * 2)

        return {
            "number": job.number,
            "status": job.status,
            "blocked": job.blocked,
            "attempts": job.attempts,
            "losses": job.losses,
            "returns": job.returns,
            "fence": job.fence,
            "lock_token": job.token,
            "lock_owner": job.owner,
            "alone": job.is_alone,
            "is_asked": job.is_asked,
            "is_grouped": job.is_grouped,
            "failure_kind": job.failure,
            "parent_id": job.parent,
            "parent_fence": job.parent_fence,
            "parked_fence": job.parked,
            "message": job.message if job.status == "RUNNING" else None,
            "due": from_now(job.due),
            "expires": from_now(job.expires),
            "stuck": from_now(job.stuck),
            "queued": from_now(job.queued),
            "hold_until": from_now(job.hold_until),
            "attempt_rows": [[fence, str(token), result] for fence, token, result in job.history] or None,
        }

    def compare(self, before: dict[int, tuple[object, ...]] | None) -> None:
        """Compare every column that the reference knows. Rows that it did not change are as before in all columns."""
        self.cursor.execute(JOBS)
        assert self.cursor.description is not None
        columns = [column.name for column in self.cursor.description]
        rows = {row[0]: dict(zip(columns, row, strict=True)) for row in self.cursor.fetchall()}
        self.same("the jobs' numbers", list(rows), sorted(self.model.jobs))
        hashes = {number: row.pop("md5") for number, row in rows.items()}
        after = self.model_state()
        for number, row in rows.items():
            job = self.model.jobs[number]
            for column, value in self._expected(job).items():
                # No statement asks when a job that has ended was due or queued.
                if row[column] != value and (job.is_open or column not in ("due", "queued")):
                    raise Broken(f"column {column}", f"job {number}: {row[column]}, not {value}; {row}")
            if before is not None and before.get(number) == after[number] and hashes[number] != self.hashes[number]:
                raise Broken("a row that nothing should touch", f"job {number}: {row}")
            self.tokens_ended |= {token for _, token, _ in job.history}
            if row["lock_token"] in self.tokens_ended:
                raise Broken("an ended token holds a job", f"job {number}: {row}")
        self.hashes = hashes
        self._compare_others()

    def _compare_others(self) -> None:
        self.cursor.execute(OTHERS)
        row = self.cursor.fetchone()
        assert row is not None
        lanes, processes, programs = (list(map(tuple, found or [])) for found in row)
        # A lane may fall asleep whenever nothing in it is ready; only a move that wakes it wakes it.
        asleep = {lane for lane in self.model.awake - set(lanes) if not self.model.lane(*lane)}
        self.same("the lanes awake", set(lanes), self.model.awake - asleep)
        self.model.awake -= asleep
        self.same("the workers", dict(processes), {str(one.incarnation): one.status for one in self.model.workers})
        programs_now = {one.id: [one.failures, one.status] for one in self.model.programs}
        self.same("the failures in a row", dict(programs), programs_now)

    # Submissions and the way to a worker

    @move
    def submit(self, news: Sequence[Job], *, held: bool = False) -> list[int]:
        """Some jobs in one statement; what a unique key refuses is left out. A number of 0 becomes the real one."""
        rows = submit.insert(self.cursor, [self._new(job, held=held) for job in news])
        numbers = {row.position: row.number for row in rows}
        for position, job in enumerate(news):
            self.same("submit", position in numbers, self.model.accepts(job))
            if position in numbers:
                job.number = numbers[position]
                job.blocked = "HELD" if held else self.model.why_new(job)
                self.model.jobs[job.number] = job
        return list(numbers.values())

    @move
    def submit_and_offer(self, job: Job, *, held: bool = False) -> None:
        """One job in a statement that looks at its queue too, and what follows when that has committed."""
        with self.brisk_for_half_a_tick():
            offered = submit.insert_and_offer(
                self.cursor, self._new(job, held=held), lock_seconds=reference.LOCK * TICK
            )
        self.same("submit", offered is not None, self.model.accepts(job))
        if offered is None:
            return
        job.number, job.blocked = offered.number, "HELD" if held else self.model.why_new(job)
        self.model.jobs[job.number] = job
        would_be_sent = copy.deepcopy(self.model).offer(job.number) == "sent"
        self.same("born queued", offered.is_queued, would_be_sent)
        if offered.is_queued:
            self.model.offer(job.number)
            self._publish([Dispatched(job.number, offered.queue, offered.timeout_seconds)], together=False)
        elif offered.is_expected:
            lane = job.program.queue, job.program.tenant
            self.same("awake", lane in self.model.awake, True)
            self.same("somebody to wait for", bool(self.model.queued(job.program.queue)), True)
        else:
            self._offer(job.number)

    @contextmanager
    def brisk_for_half_a_tick(self) -> Iterator[None]:
        """Count what was claimed in this tick as just started, however slow the machine is."""
        usual, window.BRISK_SECONDS = window.BRISK_SECONDS, TICK / 2
        try:
            yield
        finally:
            window.BRISK_SECONDS = usual

    def _new(self, job: Job, *, held: bool) -> NewJob:
        job.due = max(job.due, self.model.now)
        later = job.scheduled = round(job.due - self.model.now, 3)  # without its noise, which would order two jobs
        return NewJob(
            tenant_id=self.world.tenants[job.program.tenant],
            program_id=job.program.id,
            parameters="{}",
            context=CONTEXT,
            trigger=Trigger(job.trigger),
            priority=job.priority,
            scheduled_at=datetime.now(UTC) + timedelta(seconds=later * TICK) if later else None,
            hold_by="alice" if held else None,
            overlap_policy=Overlap(job.program.overlap),
            overlap_key=job.key,
            idempotency_key=job.once,
            retry_of=job.retry_of,
        )

    @move
    def offer(self, number: int) -> None:
        """The fast path of a submission, or of any job at any time."""
        self._offer(number)

    def _offer(self, number: int) -> None:
        with self.brisk_for_half_a_tick():
            offered = dispatch.offer(self.cursor, number=number, lock_seconds=reference.LOCK * TICK)
        answer = {True: "room", False: "no"}[offered] if isinstance(offered, bool) else "sent"
        self.same("offer", answer, self.model.offer(number))
        if not isinstance(offered, bool):
            self._publish([offered], together=False)

    @move
    def dispatch(self, queue: str, *, together: bool = False) -> list[int]:
        """Fill the window of a queue; `together` in one message, even jobs that should travel alone."""
        moved = dispatch.dispatch(self.cursor, queue_id=self.world.queues[queue], lock_seconds=reference.LOCK * TICK)
        numbers = [one.number for one in moved]
        if trouble := self.model.dispatch(queue, numbers):
            raise Broken("answer of dispatch", trouble)
        in_groups = {one.number for one in moved if one.group is not None}
        self.same("who travels in groups", in_groups, {n for n in numbers if self.model.jobs[n].is_groupable})
        self._publish(moved, together=together)
        return numbers

    def _publish(self, moved: Sequence[Dispatched], *, together: bool) -> None:
        for jobs in [list(moved)] if together and moved else grouped(moved):
            self.bag.append(Message(self.new_id(), tuple(one.number for one in jobs)))

    @move
    def let_in(self, number: int | None = None) -> None:
        """Let in the next job of each free key, as the sweep does, or of a job's key."""
        before = copy.deepcopy(self.model)
        let = [one for one, _ in overlap.let_in(self.cursor, None if number is None else [number])]
        if number is not None:
            key = before.jobs[number].program.id, before.jobs[number].key
            others = {job.number for job in before.jobs.values() if (job.program.id, job.key) != key}
            expected = [one for one in before.let_in() if one not in others]
            for one in expected:
                self.model.jobs[one].blocked = None
        else:
            expected = self.model.let_in()
        self.same("let in", sorted(let), sorted(expected))
        dispatch.wake(self.cursor, let)
        self.model.wake(let)

    @move
    def wake(self, number: int) -> None:
        dispatch.wake(self.cursor, [number])
        self.model.wake([number])

    @move
    def requeue(self, queue: str) -> None:
        """Requeue as the sweep does where messages are older than half a tick; they may still arrive."""
        numbers = dispatch.requeue(self.cursor, queue_id=self.world.queues[queue], older_than=0.5 * TICK)
        self.same("requeue", sorted(numbers), sorted(self.model.requeue(queue, 0.5)))

    @move
    def open_lanes(self) -> None:
        sweeps.open_lanes(self.cursor)
        self.model.wake(self.model.jobs)

    @move
    def unblock(self) -> None:
        moved = [number for number, _ in hold.unblock(self.cursor) + pause.unblock(self.cursor)]
        expected = self.model.unblock()
        ready = [number for number in moved if self.model.jobs[number].is_ready]  # of a QUEUE key it waits for its turn
        self.same("unblock", sorted(ready), sorted(expected))
        dispatch.wake(self.cursor, ready)
        self.model.wake(ready)

    # Claim and what a worker does with it

    @move
    def claim(self, worker: Worker, message: Message) -> list[Grant]:
        """A message arrives, for the first time or again: claim as execution does, exact where there is a limit."""
        tokens = {number: self.new_id() for number in message.numbers}
        claimed = list(self._claim(worker, tokens, message, exact=False))
        left = {number: token for number, token in tokens.items() if number not in {one.number for one in claimed}}
        manager = self._manager(worker)
        if left and claim.lock_limits(self.cursor, manager_id=manager, numbers=list(left)):
            claimed += self._claim(worker, left, message, exact=True)
        claimed.sort(key=lambda one: one.number)
        self.same("claim", [one.number for one in claimed], self.model.claim(worker, tokens, message.id))
        for one in claimed:
            self.same("claim's token", (one.token, one.fence), (tokens[one.number], self.model.jobs[one.number].fence))
        self.same("read_back", claim.read_back(self.cursor, list(tokens.items())), claimed)
        grants = [Grant(one.number, one.token, worker, message.id, one.counts_failures) for one in claimed]
        self.grants += grants
        return grants

    def _claim(self, worker: Worker, tokens: Mapping[int, UUID], message: Message, *, exact: bool) -> Sequence[Any]:
        return claim.claim(
            self.cursor,
            sorted(tokens.items()),
            owner=worker.incarnation,
            manager_id=self._manager(worker),
            queues=worker.queues,
            message=message.id,
            lock_seconds=reference.LOCK * TICK,
            exact=exact,
            alone=len(message.numbers) == 1,
        )

    def _manager(self, worker: Worker) -> int:
        return workers.manager_id(self.cursor, worker.manager)

    @move
    def finish(self, grant: Grant, how: str) -> None:
        """Finish with a former or a current token, and read the token's attempt back as a worker would."""
        ending, outcome = ENDINGS[self._how(grant, how)]
        held = self._held(grant)
        is_mine = self.model.finish(grant.number, grant.token, **outcome)
        try:
            finish.finish(self.cursor, held, ending)
        except finish.StaleJob:
            self.same("finish", "stale", "written" if is_mine else "stale")
        else:
            self.same("finish", "written", "written" if is_mine else "stale")
        stored = finish.stored_attempts(self.cursor, [held])
        known = {token: result for _, token, result in self.model.jobs[grant.number].history if token == grant.token}
        self.same("stored_attempts", {token: str(result) for token, result in stored.items()}, known)

    @move
    def finish_all(self, endings: Sequence[tuple[Grant, str]]) -> None:
        """Finish the runs of a group in one statement; nothing is written for those whose token is no longer good."""
        endings = [(grant, self._how(grant, how)) for grant, how in endings]
        written = finish.finish_all(
            self.cursor, [(self._held(grant), ENDINGS[how][0]) for grant, how in endings]
        ).tokens
        mine = {grant.token for grant, how in sorted(endings, key=lambda pair: pair[0].number)
                if self.model.finish(grant.number, grant.token, **ENDINGS[how][1])}  # fmt: skip
        self.same("finish_all", written, mine)

    def _how(self, grant: Grant, how: str) -> str:
        """The holder of a job looks for its children before it ends well: with children it waits, otherwise not."""
        if how not in ("succeeds", "waits"):
            return how
        return "waits" if self.model.children(grant.number) else "succeeds"

    @staticmethod
    def _held(grant: Grant) -> Held:
        return Held(grant.number, grant.token, grant.worker.name, None, grant.counts_failures)

    @move
    def start(self, grant: Grant) -> None:
        held = replace(self._held(grant), started_at=datetime.now(UTC))
        start.start(self.cursor, held)
        self.model.start(grant.number, grant.token)

    @move
    def give_back(self, worker: Worker) -> None:
        numbers = give_back.give_back_all(self.cursor, owner=worker.incarnation, worker=worker.name)
        self.same("give back", sorted(numbers), sorted(self.model.give_back(worker.incarnation)))

    @move
    def renew(self, worker: Worker, messages: Sequence[UUID]) -> list[Grant]:
        """Prolong the locks of these messages; jobs that the worker holds without a message are abandoned."""
        owner = worker.incarnation
        numbers = renew.renew(self.cursor, owner=owner, messages=messages, lock_seconds=reference.LOCK * TICK)
        self.same("renew", sorted(numbers), sorted(self.model.renew(owner, messages)))
        gone = renew.abandoned(self.cursor, owner=owner, messages=messages)
        without = [job for job in self.model.running(owner) if job.message not in messages]
        self.same("abandoned", sorted(gone), sorted((job.number, job.token) for job in without))
        return [grant for grant in self.grants if (grant.number, grant.token) in gone]

    # Taking away

    def _same_reaped(self, what: str, reaped: Iterable[reap.Reaped], expected: Mapping[int, str]) -> None:
        self.same(what, {one.number: str(one.status) for one in reaped}, expected)

    @move
    def reap_expired(self) -> None:
        self._same_reaped("reap_expired", reap.reap_expired(self.cursor), self.model.lose(self.model.expired()))

    @move
    def reap_child(self, worker: Worker, message: UUID, *, timed_out: bool) -> None:
        reaped = reap.reap_child(self.cursor, owner=worker.incarnation, message=message, timed_out=timed_out)
        held = [job for job in self.model.running(worker.incarnation) if job.message == message]
        self._same_reaped("reap_child", reaped, self.model.time_out(held) if timed_out else self.model.lose(held))

    @move
    def reap_tokens(self, grants: Sequence[Grant]) -> None:
        reaped = reap.reap_tokens(self.cursor, [(one.number, one.token) for one in grants], message="abandoned")
        held = [job for job in self.model.jobs.values() if job.token in {one.token for one in grants}]
        self._same_reaped("reap_tokens", reaped, self.model.lose(held))

    @move
    def expire_stuck(self, *, policy: str, numbers: Sequence[int] | None, tenant: str | None) -> None:
        reaped = reap.expire_stuck(
            self.cursor, numbers=numbers, tenant_id=tenant and self.world.tenants[tenant], policy=policy
        )
        chosen = [job for job in self.model.stuck() if (numbers is None or job.number in numbers)
                  and (tenant is None or job.program.tenant == tenant)]  # fmt: skip
        self._same_reaped("expire_stuck", reaped, self.model.time_out(chosen, policy))

    @move
    def clear(self, shown: Grant, *, force: bool) -> None:
        """An operator clears a lock as it was shown, earlier or now."""
        reaped = reap.clear(self.cursor, number=shown.number, token=shown.token, force=force, by="alice")
        job = self.model.jobs[shown.number]
        may = job.token == shown.token and (force or self.model.is_stale(job))
        self._same_reaped("clear", reaped, self.model.lose([job] if may else [], "CLEARED"))

    # Families

    @move
    def spawn(self, grant: Grant, child: Job, key: str) -> None:
        """Spawn with a former or a current token; the commit follows at once."""
        parent = self.model.jobs[grant.number]
        child.parent, child.child_key, child.trigger = parent.number, key, "CHILD"
        accepts = self.model.spawns(parent, grant.token, child)
        new = replace(self._new(child, held=False), program_version=1)
        spawned = spawn.spawn(self.cursor, new, parent=parent.number, token=grant.token, key=key)
        self.cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        self.same("spawn", spawned is not None, accepts)
        if spawned is not None:
            child.number, child.parent_fence = spawned.number, parent.fence
            child.blocked = self.model.why_new(child)
            self.same("spawn's blocked", spawned.blocked, child.blocked)
            self.model.jobs[child.number] = child

    @move
    def resolve(self, numbers: Sequence[int] | None = None) -> None:
        """Resolve those of these jobs, or of those that the sweep finds, that wait without an open child."""
        if numbers is None:
            numbers = resolve.waiting_without_open_child(self.cursor)
            self.same("waiting_without_open_child", numbers, sorted(filter(self.model.may_go_on, self.model.jobs)))
        resolved = resolve.resolve(self.cursor, resolve.lock(self.cursor, numbers))
        self.same("resolve", {one.number: str(one.status) for one in resolved}, self.model.resolve(numbers))

    @move
    def cancel_children(self, parents: Sequence[int] | None = None) -> None:
        """Cancel the children of these jobs, or of those that the sweep finds."""
        if parents is None:
            parents = cancel.ended_with_open_children(self.cursor)
            open_ = {one.parent for one in self.model.jobs.values() if one.parent and one.is_open}
            self.same("ended_with_open_children", sorted(parents), sorted(filter(self.model.takes_along, open_)))
        canceled = cancel.cancel_children(self.cursor, parents)
        expected = self.model.cancel_children(parents)
        self.same("cancel_children", {number: str(status) for number, status in canceled.items()}, expected)

    # Operators

    @move
    def cancel(self, number: int, tenant: str) -> None:
        done = cancel.cancel(self.cursor, number=number, tenant_id=self.world.tenants[tenant], by="alice", reason="")
        self.same("cancel", done and str(done.status), self.model.cancel(number, tenant))

    @move
    def hold(self, number: int, tenant: str, *, until: float | None) -> None:
        moment = None if until is None else datetime.now(UTC) + timedelta(seconds=until * TICK)
        held = hold.hold(
            self.cursor, number=number, tenant_id=self.world.tenants[tenant], by="alice", reason="", until=moment
        )
        end = None if until is None else self.model.now + until
        self.same("hold", held, self.model.hold(number, tenant, end))

    @move
    def release(self, number: int, tenant: str) -> None:
        released = hold.release(self.cursor, number=number, tenant_id=self.world.tenants[tenant])
        job = self.model.jobs[number]
        self.same("release", released, self.model.release([job] if job.program.tenant == tenant else []) == [number])

    @move
    def end_holds(self) -> None:
        self.same("end_holds", sorted(hold.end_holds(self.cursor)), sorted(self.model.end_holds()))

    @move
    def set_program(self, program: Program, status: str) -> None:
        self.cursor.execute("UPDATE jobsite_program SET status = %s WHERE id = %s", [status, program.id])
        program.status = status

    @move
    def block(self, program: Program) -> None:
        """Take the jobs of a paused program out of their lane."""
        tenant = self.world.tenants[program.tenant]
        self.same("block", pause.block(self.cursor, tenant_id=tenant, program_id=program.id), None)
        self.model.block(program)

    @move
    def set_paused(self, what: str | tuple[str, str], paused: bool) -> None:
        """Pause or resume a queue, a tenant or a lane (queue, tenant)."""
        moment = "clock_timestamp()" if paused else "NULL"
        if isinstance(what, tuple):
            self.cursor.execute(
                f"""INSERT INTO jobsite_lane (queue_id, tenant_id, paused_at) VALUES (%s, %s, {moment})
                    ON CONFLICT (queue_id, tenant_id) DO UPDATE SET paused_at = excluded.paused_at""",
                [self.world.queues[what[0]], self.world.tenants[what[1]]],
            )
        elif what in QUEUES:
            self.cursor.execute(f"UPDATE jobsite_queue SET paused_at = {moment} WHERE name = %s", [what])
        else:
            status = "SUSPENDED" if paused else "ACTIVE"
            self.cursor.execute("UPDATE jobsite_tenant SET status = %s WHERE code = %s", [status, what])
        (self.model.paused.add if paused else self.model.paused.discard)(what)

    # Workers and time

    @move
    def register(self, name: str, *, manager: str, queues: Sequence[str], children: int) -> Worker:
        """A worker starts; one of the same name may be alive, or may have died unnoticed."""
        living = {one.name for one in self.model.workers if one.status in ("ACTIVE", "STOPPING")}
        entered = workers.register(
            self.cursor, name=name, manager=manager, queues=queues, pool="prefork", children=children
        )
        self.same("register", (entered.name in living, entered.name.startswith(name)), (False, True))
        worker = Worker(entered.incarnation, entered.name, manager, queues, children, self.model.now)
        self.model.workers.append(worker)
        return worker

    @move
    def set_status(self, worker: Worker, status: str) -> None:
        workers.set_status(self.cursor, incarnation=worker.incarnation, status=status)
        worker.status, worker.seen = status, self.model.now

    @move
    def heartbeat(self, worker: Worker) -> None:
        workers.heartbeat(self.cursor, incarnation=worker.incarnation, children=worker.children)
        worker.status, worker.seen = "STOPPING" if worker.status == "STOPPING" else "ACTIVE", self.model.now
        self.cursor.execute("SELECT name FROM jobsite_worker WHERE incarnation = %s", [worker.incarnation])
        [(worker.name,)] = self.cursor.fetchall()  # another name, if its own was taken while it seemed lost

    @move
    def process_dies(self, worker: Worker) -> None:
        """The process dies, and another one has its pid now; nobody has noticed yet."""
        self.cursor.execute(
            "UPDATE jobsite_worker SET process_started = -1 WHERE incarnation = %s", [worker.incarnation]
        )
        worker.is_gone = True

    @move
    def reap_gone(self) -> None:
        reaped = workers.reap_gone(self.cursor, silent_seconds=reference.LOCK * TICK)
        lost = [one for one in self.model.workers if one.status in ("ACTIVE", "STOPPING")
                and (one.is_gone or one.seen < self.model.now - reference.LOCK)]  # fmt: skip
        for one in lost:
            one.status = "LOST"
        gone = [one.incarnation for one in lost if one.is_gone]
        self._same_reaped("reap_gone", reaped, self.model.lose(self.model.running(*gone)))

    @move
    def time_passes(self, ticks: int) -> None:
        for statement in TIME_PASSES:
            self.cursor.execute(statement, [ticks * TICK])
        self.model.now += ticks

    # At the end

    def look(self, looks: Sequence[Look], *, patience: float) -> None:
        """Ask the invariants; what sweeps put right may have lasted for `patience` seconds."""
        self.is_sound = False
        for look in looks:
            values = {"now": datetime.now(UTC), "patience": patience, "named": 1}
            self.cursor.execute(look.statement, values)
            for place, _, row in self.cursor.fetchall():
                raise Broken(f"{look.rules[place].invariant}: {look.rules[place].sentence}", row)
        self.is_sound = True

    def try_refusals(self) -> None:
        """Write outside of the protocol; the database itself refuses each write."""
        self.is_sound = False
        self.cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # as at the commit
        for constraint, statement in REFUSALS:
            self.cursor.execute("SAVEPOINT step")
            try:
                self.cursor.execute(statement)
            except psycopg.IntegrityError as error:
                if error.diag.constraint_name != constraint:
                    raise Broken(f"{constraint} was to refuse", f"{error}: {statement}") from error
            else:
                if self.cursor.rowcount:
                    raise Broken(f"not refused by {constraint}", statement)
            self.world.back_to("step")
        self.is_sound = True

    def come_to_rest(self) -> None:
        """All pauses and holds end, every message is lost, and a healthy worker comes: every job ends."""
        model = self.model
        self.look(invariants.LIVE, patience=1e9)  # sweeps have run only by chance
        for program in model.programs:
            if program.status != "ACTIVE":
                self.set_program(program, "ACTIVE")
        for what in list(model.paused):
            self.set_paused(what, False)
        for job in list(model.jobs.values()):
            if job.blocked == "HELD":
                self.release(job.number, job.program.tenant)
        self.time_passes(6)
        self.reap_gone()
        self.reap_expired()
        worker = self.register("last", manager="default", queues=QUEUES, children=50)
        for queue in QUEUES:
            self.requeue(queue)
        self.unblock()
        self.open_lanes()
        for _ in range(3 * len(model.jobs)):  # of a QUEUE key one after the other, and each perhaps with a callback
            self.cancel_children()
            self.resolve()
            self.open_lanes()
            self.let_in()
            for queue in QUEUES:
                numbers = self.dispatch(queue, together=True)
                grants = self.claim(worker, self.bag[-1]) if numbers else []
                if grants:
                    self.finish_all([(grant, "succeeds") for grant in grants])
            if not any(job.is_open for job in model.jobs.values()):
                break
        if left := [job for job in model.jobs.values() if job.is_open]:
            raise Broken("everything comes to rest", left)
        self.look(invariants.AT_REST, patience=0.0)
