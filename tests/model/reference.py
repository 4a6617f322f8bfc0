"""What must become of a job, move by move, in plain Python: no database, no clock.

Time is counted in ticks; `now` grows a little with every move, so that no two moments are equal. A move returns
what its statement must answer, and changes the rows that its statement must change, and no others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.model.rows import Job, Program, Worker

LOCK, STUCK = 4.5, 2.5
# Whether a run that was lost together with others counts; a group's loss says nothing about any one of them.
LOST_GROUP_COUNTS = True


@dataclass
class Model:
    programs: Sequence[Program]
    limits: Mapping[str, int | None]
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

    def why(self, job: Job) -> str | None:
        """What a PENDING job waits for, but for its hold."""
        return "SCHEDULED" if job.due > self.now else "PAUSED" if job.program.status == "PAUSED" else None

    def accepts(self, new: Job) -> bool:
        """Whether no unique key stands in the way of a submission."""
        return not any(
            (new.once is not None and other.once == new.once and other.program.tenant == new.program.tenant)
            or (new.key is not None and new.program is other.program and new.key == other.key
                and new.program.overlap == "REJECT" and other.is_open)
            or (new.retry_of is not None and new.retry_of == other.retry_of and other.is_open)
            for other in self.jobs.values()
        )  # fmt: skip

    # PENDING -> QUEUED, and back

    def window(self, queue: str) -> int:
        """How many messages a queue may hold: no program here is known to be short."""
        idle = [
            min(max(0, one.children - len(self.running(one.incarnation))), *self._known(self.room(one.manager)))
            for one in self.workers
            if one.status == "ACTIVE" and queue in one.queues and one.seen > self.now - LOCK
        ]
        return sum(idle) + 1 if idle else 2

    @staticmethod
    def _known(room: int | None) -> list[int]:
        return [10**9 if room is None else room]

    def lane(self, queue: str, tenant: str) -> list[Job]:
        """What is ready in a lane, the best first."""
        ready = (job for job in self.jobs.values() if job.is_ready)
        ours = (job for job in ready if (job.program.queue, job.program.tenant) == (queue, tenant))
        return sorted(ours, key=lambda job: job.rank)

    def is_closed(self, queue: str, tenant: str) -> bool:
        return bool(self.paused & {queue, tenant, (queue, tenant)})

    def slots(self, queue: str) -> int:
        out = [job for job in self.jobs.values() if job.status == "QUEUED" and job.program.queue == queue]
        return max(0, self.window(queue) - len(out))

    def dispatch(self, queue: str, taken: Sequence[int]) -> str:
        """Take these, or say why they are not the ones: as many as fit, of each open lane its best."""
        slots = self.slots(queue)
        lanes = [lane for lane in self.awake if lane[0] == queue and not self.is_closed(*lane)] if slots else []
        ready = {lane: [job.number for job in self.lane(*lane)] for lane in lanes}
        if len(taken) != min(slots, sum(map(len, ready.values()))):
            return f"{len(taken)} taken, {slots} fit, ready are {ready}"
        for lane, numbers in ready.items():
            mine = {number for number in taken if number in numbers}
            if mine != set(numbers[: len(mine)]):
                return f"of lane {lane} {mine} were taken before {numbers}"
        if not set(taken) <= {number for numbers in ready.values() for number in numbers}:
            return f"{taken} are not all of {ready}"
        for number in taken:
            self._queue(self.jobs[number])
        return ""

    def dispatch_one(self, number: int) -> bool:
        job = self.jobs[number]
        lane = job.program.queue, job.program.tenant
        if not job.is_ready or self.is_closed(*lane) or not self.slots(lane[0]) or self.lane(*lane)[0] is not job:
            return False
        self._queue(job)
        return True

    def clashes(self, numbers: Iterable[int]) -> bool:
        """Whether to queue all of these would break a QUEUE key."""
        keys = [(job.program.id, job.key) for job in self.jobs.values()
                if job.program.overlap == "QUEUE" and (job.is_active or job.number in numbers)]  # fmt: skip
        return len(keys) > len(set(keys))

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
            job.blocked, job.hold_until = self.why(job), None
        return [job.number for job in held]

    def end_holds(self) -> list[int]:
        return self.release([j for j in self.jobs.values() if j.hold_until is not None and j.hold_until <= self.now])

    def unblock(self) -> list[int]:
        ready = []
        for job in self.jobs.values():
            if job.blocked in ("SCHEDULED", "PAUSED") and not (job.blocked == "SCHEDULED" and job.due > self.now):
                job.blocked = "PAUSED" if job.program.status == "PAUSED" else None
                ready += [job.number] if job.is_ready else []
        return ready

    # QUEUED -> RUNNING

    def claim(self, worker: Worker, tokens: Mapping[int, UUID], message: UUID) -> list[int]:
        wanted = [job for number in sorted(tokens) if (job := self.jobs.get(number)) and job.status == "QUEUED"
                  and job.program.queue in worker.queues]  # fmt: skip
        taken = [job for job in wanted if self.may_run(job)][: self.room(worker.manager)]
        for job in wanted:
            if job not in taken:
                job.status, job.queued, job.blocked = "PENDING", None, self.why(job)
        for job in taken:
            job.status = "RUNNING"
            job.token, job.owner, job.message, job.fence = (
                tokens[job.number],
                worker.incarnation,
                message,
                job.fence + 1,
            )
            job.expires, job.stuck, job.is_grouped = self.now + LOCK, self.now + STUCK, len(tokens) > 1
        return [job.number for job in taken]

    def may_run(self, job: Job) -> bool:
        is_over = job.program.status == "TERMINATED" and job.trigger == "AUTOMATIC"
        return self.why(job) is None and not is_over and not self.is_closed(job.program.queue, job.program.tenant)

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
        delay = fields.pop("delay", 0.0)
        self._end(job, target, result, **fields)
        if job.status == "PENDING":
            job.due, job.blocked = self.now + delay, "SCHEDULED" if delay else None
        if job.status == "COMPLETED" and job.program.counts_failures:
            job.program.failures = 0
        return True

    def give_back(self, owner: UUID) -> list[int]:
        held = self.running(owner)
        for job in held:
            self._end(job, "PENDING", "RETURNED", attempts=0)
        return [job.number for job in held]

    def lose(self, jobs: Iterable[Job], result: str = "LOST") -> dict[int, str]:
        lost = list(jobs)
        for job in lost:
            fails = job.losses + 1 >= job.program.max_losses or job.program.fails_when_lost
            target = "CANCELED" if job.is_asked else "FAILED" if fails else "PENDING"
            job.is_alone = True
            if job.is_grouped and result == "LOST" and not LOST_GROUP_COUNTS:
                self._end(job, "PENDING", "RETURNED", attempts=0)
            else:
                self._end(job, target, result, losses=1, failure="WORKER_LOST")
        return {job.number: job.status for job in lost}

    def time_out(self, jobs: Iterable[Job], policy: str = "") -> dict[int, str]:
        stuck = list(jobs)
        for job in stuck:
            again = job.program.retries_timeouts and job.attempts + 1 - job.losses < job.program.max_attempts
            target = {"FAIL": "FAILED", "RETRY": "PENDING", "": "PENDING" if again else "FAILED"}[policy]
            job.is_alone = True
            self._end(job, "CANCELED" if job.is_asked else target, "TIMEOUT", failure="TIMEOUT")
        return {job.number: job.status for job in stuck}

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
        job.status = "CANCELED" if target == "PENDING" and job.is_asked else target
        job.attempts, job.losses, job.returns = job.attempts + attempts, job.losses + losses, job.returns + returns
        job.token = job.owner = job.expires = job.stuck = None
        job.queued = None if job.status == "PENDING" else job.queued
        if job.status == "FAILED":
            job.failure = failure
            job.program.failures += job.program.counts_failures

    def cancel(self, number: int, tenant: str) -> str | None:
        job = self.jobs[number]
        if not job.is_open or job.program.tenant != tenant:
            return None
        job.is_asked = True
        if job.status != "RUNNING":
            job.status, job.blocked, job.hold_until = "CANCELED", None, None
        return job.status
