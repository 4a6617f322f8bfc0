"""What must become of a job, move by move, in plain Python: no database, no clock.

Time is counted in ticks; `now` grows a little with every move, so that no two moments are equal. A move returns
what its statement must answer, and changes the rows that its statement must change, and no others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, inf
from typing import Any
from uuid import UUID

from tests.model.rows import SHORT, Job, Program, Worker

LOCK, STUCK = 4.5, 2.5


def message_share(job: Job) -> Fraction:
    """Which part of a message a job fills."""
    return Fraction(1, 50) if job.is_groupable else Fraction(1)


def seconds_busy(job: Job) -> float:
    """How long a job is expected to keep a child busy, with its claim and its finish."""
    return job.program.seconds + (0.0002 if job.is_groupable else 0.002)


@dataclass
class Model:
    programs: Sequence[Program]
    limits: Mapping[str, int | None]
    quotas: Mapping[str, int | None]
    now: float = 0.0
    jobs: dict[int, Job] = field(default_factory=dict)
    workers: list[Worker] = field(default_factory=list)
    awake: set[tuple[str, str]] = field(default_factory=set)
    paused: set[Any] = field(default_factory=set)  # of queues, (queue, tenant) lanes and tenants

    def running(self, *owners: UUID) -> list[Job]:
        return [job for job in self.jobs.values() if job.status == "RUNNING" and job.owner in owners]

    def room(self, manager: str) -> int | None:
        """How many more jobs a manager's workers may run."""
        limit = self.limits[manager]
        owners = [one.incarnation for one in self.workers if one.manager == manager]
        return None if limit is None else max(0, limit - len(self.running(*owners)))

    def tenant_room(self, tenant: str) -> float:
        """How many more jobs of a tenant may run."""
        quota = self.quotas[tenant]
        running = [job for job in self.jobs.values() if job.status == "RUNNING" and job.program.tenant == tenant]
        return inf if quota is None else quota - len(running)

    def lane_room(self, queue: str, tenant: str) -> float:
        """How many more jobs of a tenant this queue may send."""
        return self.tenant_room(tenant) - sum(job.program.tenant == tenant for job in self.queued(queue))

    def why(self, job: Job) -> str | None:
        """What a PENDING job waits for, apart from a hold and its turn."""
        return "SCHEDULED" if job.due > self.now else "PAUSED" if job.program.status == "PAUSED" else None

    def why_new(self, job: Job) -> str | None:
        """What a job waits for when it is submitted or comes back."""
        return self.why(job) or ("OVERLAP" if job.program.overlap == "QUEUE" and job.attempts == 0 else None)

    def let_in(self) -> list[int]:
        """The next job of each key that is free."""
        ours = [job for job in self.jobs.values() if job.program.overlap == "QUEUE"]
        taken = {(job.program.id, job.key) for job in ours if job.is_active or job.is_ready}
        waiting = sorted((job for job in ours if job.status == "PENDING" and job.blocked == "OVERLAP"),
                         key=lambda job: (job.scheduled, job.number))  # fmt: skip
        free = [job for job in waiting if (job.program.id, job.key) not in taken]
        first = {(job.program.id, job.key): job for job in reversed(free)}
        for job in first.values():
            job.blocked = None
        return [job.number for job in first.values()]

    def accepts(self, new: Job) -> bool:
        """Whether neither the program nor a unique key refuses a submission."""
        if new.program.status == "TERMINATED" and new.trigger == "AUTOMATIC":
            return False
        return not any(
            (new.once is not None and other.once == new.once and other.program.tenant == new.program.tenant)
            or (new.key is not None and new.program is other.program and new.key == other.key
                and new.program.overlap == "REJECT" and other.is_open)
            or (new.retry_of is not None and new.retry_of == other.retry_of and other.is_open)
            for other in self.jobs.values()
        )  # fmt: skip

    # PENDING -> QUEUED, and back

    def window(self, queue: str) -> tuple[int, int]:
        """How many messages of runs of unknown length a queue may hold, and for how many children."""
        living = [one for one in self.workers if one.status == "ACTIVE" and queue in one.queues and self.is_heard(one)]
        idle = 0
        for one in living:
            free = max(0, one.children - len({job.message for job in self.running(one.incarnation)}))
            room = self.room(one.manager)
            idle += free if room is None else min(free, room)
        return idle + 1 if living else 2, sum(one.children for one in living)

    def is_heard(self, worker: Worker) -> bool:
        return worker.seen > self.now - LOCK

    def lane(self, queue: str, tenant: str) -> list[Job]:
        """What is ready in a lane, the best first."""
        ready = (job for job in self.jobs.values() if job.is_ready)
        ours = (job for job in ready if (job.program.queue, job.program.tenant) == (queue, tenant))
        return sorted(ours, key=lambda job: job.rank)

    def is_closed(self, queue: str, tenant: str) -> bool:
        return bool(self.paused & {queue, tenant, (queue, tenant)})

    def queued(self, queue: str) -> list[Job]:
        return [job for job in self.jobs.values() if job.status == "QUEUED" and job.program.queue == queue]

    def fitting(self, queue: str, jobs: Sequence[Job]) -> int:
        """How many of these jobs the window takes, in this order: as messages, or as a tenth of a second of work."""
        slots, children = self.window(queue)
        out = self.queued(queue)
        certain = slots - ceil(sum(map(message_share, out)))
        seconds = children * 0.1 - sum(map(seconds_busy, out))
        most = max(certain, min(seconds / 0.0002, children * 20 + 4 * len(out)), 0)
        messages = children * 20 - ceil(sum(map(message_share, out)))
        for place, job in enumerate(jobs):
            seconds, messages = seconds - seconds_busy(job), messages - message_share(job)
            if place >= most or (place >= certain and (seconds < 0 or messages < 0)):
                return place
        return len(jobs)

    def dispatch(self, queue: str, taken: Sequence[int]) -> str:
        """Dispatch these jobs, or say why they are the wrong ones: as many as fit, the best of each open lane."""
        lanes = {
            lane: [job for place, job in enumerate(self.lane(*lane)) if place < self.lane_room(*lane)]
            for lane in self.awake
            if lane[0] == queue and not self.is_closed(*lane)
        }
        ready = [job for jobs in lanes.values() for job in jobs]
        # Where lanes compete no run is known to be short, so that it does not matter here which lane comes next.
        if len(taken) != self.fitting(queue, ready):
            return f"{taken} taken, {self.fitting(queue, ready)} of {lanes} fit"
        for lane, jobs in lanes.items():
            mine = {job.number for job in jobs if job.number in taken}
            if mine != {job.number for job in jobs[: len(mine)]}:
                return f"of lane {lane} {mine} were taken before {jobs}"
        if not set(taken) <= {job.number for job in ready}:
            return f"{taken} are not all of {ready}"
        for number in taken:
            self._queue(self.jobs[number])
        return ""

    def offer(self, number: int) -> str:
        """The fast path: "sent", or whether there is room for a dispatch; the lane is awake unless it is closed."""
        job = self.jobs[number]
        lane = job.program.queue, job.program.tenant
        if not job.is_ready or self.is_closed(*lane):
            return "no"
        slots, _ = self.window(lane[0])
        if self.lane_room(*lane) <= 0:
            slots = 0
        elif job.is_groupable:
            slots = 0 if self.is_brisk(lane[0]) else min(slots, 1)
        has_room = len(self.queued(lane[0])) < slots
        if has_room and self.lane(*lane)[0] is job:
            self._queue(job)
            return "sent"
        self.awake.add(lane)
        return "room" if has_room else "no"

    def is_brisk(self, queue: str) -> bool:
        """Whether a run that will not take long has just begun."""
        return any(
            job.program.seconds <= SHORT and job.claimed is not None and job.claimed > self.now - 0.5
            for one in self.workers if one.status == "ACTIVE" and queue in one.queues
            for job in self.running(one.incarnation) if job.program.queue == queue
        )  # fmt: skip

    def _queue(self, job: Job) -> None:
        job.status, job.queued = "QUEUED", self.now

    def wake(self, numbers: Iterable[int]) -> None:
        self.awake |= {
            (job.program.queue, job.program.tenant) for n in numbers if (job := self.jobs.get(n)) and job.is_ready
        }

    def requeue(self, queue: str, older_than: float) -> list[int]:
        lost = [job for job in self.jobs.values() if job.status == "QUEUED" and job.program.queue == queue
                and job.queued is not None and job.queued <= self.now - older_than]  # fmt: skip
        for job in lost:
            job.status, job.queued = "PENDING", None
        self.wake(job.number for job in lost)
        return [job.number for job in lost]

    # Hold, release, what becomes due

    def hold(self, number: int, tenant: str, until: float | None) -> bool:
        job = self.jobs[number]
        may = job.status in ("PENDING", "QUEUED") and job.blocked != "HELD" and job.trigger != "AUTOMATIC"
        if not may or job.program.tenant != tenant:
            return False
        job.status, job.queued, job.blocked, job.hold_until = "PENDING", None, "HELD", until
        return True

    def release(self, jobs: Iterable[Job]) -> list[int]:
        held = [job for job in jobs if job.blocked == "HELD"]
        for job in held:
            job.blocked, job.hold_until = self.why_new(job), None
        return [job.number for job in held]

    def end_holds(self) -> list[int]:
        return self.release([j for j in self.jobs.values() if j.hold_until is not None and j.hold_until <= self.now])

    def unblock(self) -> list[int]:
        ready = []
        for job in self.jobs.values():
            if job.blocked in ("SCHEDULED", "PAUSED") and not (job.blocked == "SCHEDULED" and job.due > self.now):
                job.blocked = self.why_new(job)
                ready += [job.number] if job.is_ready else []
        return ready

    def block(self, program: Program) -> None:
        for job in self.jobs.values():
            if job.program is program and job.status in ("PENDING", "QUEUED") and job.blocked is None:
                job.status, job.queued, job.blocked = "PENDING", None, "PAUSED"

    # QUEUED -> RUNNING

    def claim(self, worker: Worker, tokens: Mapping[int, UUID], message: UUID) -> list[int]:
        wanted = [job for number in sorted(tokens) if (job := self.jobs.get(number)) and job.status == "QUEUED"
                  and job.program.queue in worker.queues]  # fmt: skip
        within = {tenant: self.tenant_room(tenant) for tenant in self.quotas}
        taken = []
        for job in filter(self.may_run, wanted):
            within[job.program.tenant] -= 1
            if within[job.program.tenant] >= 0 and len(taken) != self.room(worker.manager):
                taken.append(job)
        for job in wanted:
            if job not in taken:
                job.status, job.queued, job.blocked = "PENDING", None, self.why(job)
                if self.is_over(job):
                    job.status, job.blocked, job.is_asked = "CANCELED", None, True
        for job in taken:
            job.status = "RUNNING"
            job.token, job.owner, job.message, job.fence = (
                tokens[job.number],
                worker.incarnation,
                message,
                job.fence + 1,
            )
            job.claimed = self.now
            job.expires, job.stuck, job.is_grouped = self.now + LOCK, self.now + STUCK, len(tokens) > 1
        return [job.number for job in taken]

    def may_run(self, job: Job) -> bool:
        is_closed = self.is_closed(job.program.queue, job.program.tenant)
        return self.why(job) is None and not self.is_over(job) and not is_closed

    def is_over(self, job: Job) -> bool:
        """Whether a schedule made it, and its program was terminated."""
        return job.program.status == "TERMINATED" and job.trigger == "AUTOMATIC"

    def renew(self, owner: UUID, messages: Iterable[UUID]) -> list[int]:
        held = [job for job in self.running(owner) if job.message in messages]
        for job in held:
            job.expires = self.now + LOCK
        return [job.number for job in held]

    # RUNNING -> wherever the run leads

    def finish(self, number: int, token: UUID, target: str, result: str, **fields: Any) -> bool:
        job = self.jobs[number]
        if job.token != token:
            return False
        delay = fields.pop("delay", None)
        self._end(job, target, result, **fields)
        if job.status == "PENDING" and delay is not None:
            job.due, job.blocked = self.now + delay, "SCHEDULED" if delay else None
        if job.status == "COMPLETED" and job.program.counts_failures:
            job.program.failures = 0
        return True

    def start(self, number: int, token: UUID) -> None:
        self.jobs[number].is_grouped &= self.jobs[number].token != token

    def give_back(self, owner: UUID) -> list[int]:
        held = self.running(owner)
        for job in held:
            self._end(job, "PENDING", "RETURNED", attempts=0)
        return [job.number for job in held]

    def lose(self, jobs: Iterable[Job], result: str = "LOST") -> dict[int, str]:
        lost = list(jobs)
        for job in lost:
            losses = job.losses - job.earlier("LOST", "CLEARED") + 1
            fails = losses >= job.program.max_losses or job.program.fails_when_lost
            self._take(job, "FAILED" if fails else "PENDING", result, losses=1, failure="WORKER_LOST")
        return {job.number: job.status for job in lost}

    def time_out(self, jobs: Iterable[Job], policy: str = "") -> dict[int, str]:
        stuck = list(jobs)
        for job in stuck:
            runs = job.attempts + 1 - job.losses - job.earlier("SUCCESS", "PARKED", "TRANSIENT", "TIMEOUT")
            again = job.program.retries_timeouts and runs < job.program.max_attempts
            target = {"FAIL": "FAILED", "RETRY": "PENDING", "": "PENDING" if again else "FAILED"}[policy]
            self._take(job, target, "TIMEOUT", failure="TIMEOUT")
        return {job.number: job.status for job in stuck}

    def _take(self, job: Job, target: str, result: str, **fields: Any) -> None:
        """Take a run: its job travels alone from now on. A run of a group that had not started is not counted."""
        job.is_alone = True
        if job.is_grouped:
            target, result, fields = "PENDING", "RETURNED", {"attempts": 0}
        self._end(job, "CANCELED" if job.is_asked else target, result, **fields)

    def expired(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.expires is not None and job.expires < self.now]

    def stuck(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.stuck is not None and job.stuck < self.now]

    def is_stale(self, job: Job) -> bool:
        """Whether an operator may clear the lock without force."""
        return job in self.expired() or any(
            one.incarnation == job.owner and one.status in ("STOPPED", "LOST") for one in self.workers
        )

    def _end(self, job: Job, target: str, result: str, *, attempts: int = 1, losses: int = 0, returns: int = 0,
             failure: str | None = None) -> None:  # fmt: skip
        assert job.token is not None
        job.history.append((job.fence, job.token, result))
        job.status = "CANCELED" if target in ("PENDING", "WAITING") and job.is_asked else target
        job.parked = job.fence if result == "PARKED" else job.parked
        job.attempts, job.losses, job.returns = job.attempts + attempts, job.losses + losses, job.returns + returns
        job.token = job.owner = job.expires = job.stuck = None
        job.is_grouped = False
        job.queued = None if job.status == "PENDING" else job.queued
        if job.status == "FAILED":
            job.failure = failure
            job.program.fail()

    # Families

    def children(self, number: int) -> list[Job]:
        return [job for job in self.jobs.values() if job.parent == number]

    def spawns(self, parent: Job, token: UUID, child: Job) -> bool:
        """Whether the run of this token gets the child."""
        is_new = all(one.child_key != child.child_key for one in self.children(parent.number))
        same_tenant = child.program.tenant == parent.program.tenant
        return parent.token == token and is_new and same_tenant and self.accepts(child)

    def may_go_on(self, number: int) -> bool:
        return self.jobs[number].status == "WAITING" and not any(one.is_open for one in self.children(number))

    def resolve(self, numbers: Iterable[int]) -> dict[int, str]:
        """Parents without an open child: to their callback if the last run parked, else to the end."""
        found = [self.jobs[number] for number in sorted(numbers) if self.may_go_on(number)]
        for job in found:
            failed = any(one.status != "COMPLETED" for one in self.children(job.number))
            job.is_alone = True
            if failed and job.program.fails_with_children:
                job.status, job.failure = "FAILED", "PERMANENT"
                job.program.fail()
            elif job.parked == job.fence:
                job.status, job.queued = "PENDING", None
            else:
                job.status = "COMPLETED"
                job.program.failures = 0 if job.program.counts_failures else job.program.failures
        return {job.number: job.status for job in found}

    def takes_along(self, number: int) -> bool:
        job = self.jobs[number]
        return job.status == "CANCELED" or (job.status == "FAILED" and job.program.takes_children_along)

    def cancel_children(self, parents: Iterable[int]) -> dict[int, str]:
        found = [child for number in parents if self.takes_along(number) for child in self.children(number)
                 if child.is_open and not (child.status == "RUNNING" and child.is_asked)]  # fmt: skip
        return {child.number: str(self.cancel(child.number, child.program.tenant)) for child in found}

    def cancel(self, number: int, tenant: str) -> str | None:
        job = self.jobs[number]
        if not job.is_open or job.program.tenant != tenant:
            return None
        job.is_asked = True
        if job.status != "RUNNING":
            job.status, job.blocked, job.hold_until = "CANCELED", None, None
        return job.status
