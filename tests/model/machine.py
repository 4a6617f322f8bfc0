"""Hypothesis chooses the moves: jobs of two tenants, workers that start and stop, lost, duplicate and late messages."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.model.driver import ENDINGS, Driver
from tests.model.rows import Job, Program
from tests.model.world import QUEUES, TENANTS, World

MOST_JOBS = 12


def one_of(attribute: str) -> st.SearchStrategy[Any]:
    """One of the things that the driver has by now."""
    return st.runner().flatmap(lambda machine: st.sampled_from(list(machine.those(attribute))))


def where(*attributes: str) -> Callable[[Any], Any]:
    """Only once the driver has some of each."""
    return precondition(lambda machine: all(machine.those(attribute) for attribute in attributes))


queues = st.sampled_from(QUEUES)
PAUSE = st.sampled_from(["", "", "", "PAUSED", "BLOCKED", "TERMINATED", "queue", "tenant", "lane"])
RARELY = st.sampled_from([False] * 5 + [True])
HOW = st.sampled_from(["succeeds", *ENDINGS])
NEWS = st.fixed_dictionaries(
    {
        "program": st.integers(0, 6),
        "count": st.integers(1, 4),
        "later": st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.5, 2.5]),
        "priority": st.sampled_from([0, 50, -50]),
        "trigger": st.sampled_from(["MANUAL", "MANUAL", "AUTOMATIC"]),
        "key": st.sampled_from("xy"),
        "once": st.sampled_from([None, None, None, "a"]),
        "held": st.sampled_from([False] * 7 + [True]),
        "is_sent": st.booleans(),
    }
)
SPAWN_ENDS = ["", "succeeds", "parks", "parks", "fails", "tries again"]
ONE = ("later", "priority", "key", "trigger", "once")
WORKERS: dict[str, dict[str, Any]] = {
    "w1": {"manager": "default", "queues": QUEUES, "children": 1},
    "w2": {"manager": "narrow", "queues": ("default",), "children": 2},
}


class Protocol(RuleBasedStateMachine):
    """Each rule is a move of the driver, which compares both sides after it."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.world.back_to("start")
        self.driver = Driver(self.world)
        self.abandoned: list[Any] = []

    def those(self, attribute: str) -> list[Any]:
        model = self.driver.model
        match attribute:
            case "jobs":
                return list(model.jobs.values())
            case "parents":
                return [job for job in model.jobs.values() if model.children(job.number) or job.status == "WAITING"]
            case "ended jobs":
                return [job for job in model.jobs.values() if not job.is_open]
            case "workers":  # workers that can still act, even if they are marked as lost
                return [one for one in model.workers if one.status != "STOPPED" and not one.is_gone]
            case "paused":
                return [*sorted(model.paused, key=str), *(one for one in model.programs if one.status != "ACTIVE")]
            case "abandoned":
                return self.abandoned
            case "held grants":
                return [one for one in self.driver.grants if model.jobs[one.number].token == one.token]
            case "grants":
                return self.driver.grants
            case "late grants":  # grants of jobs that another worker runs by now, if there are any
                late = [one for one in self.driver.grants if model.jobs[one.number].token not in (None, one.token)]
                return late or self.driver.grants
            case "bag":
                return self.driver.bag
        raise ValueError(attribute)

    def teardown(self) -> None:
        if self.driver.is_sound:
            self.driver.try_refusals()
            self.driver.come_to_rest()

    @initialize(news=st.lists(NEWS, min_size=3, max_size=5), together=st.booleans())
    def two_workers_start_and_some_jobs_come(self, news: list[dict[str, Any]], together: bool) -> None:
        for name, fields in WORKERS.items():
            self.driver.register(name, **fields)
        for new in news:
            self._submit(**new)
        self.everything_arrives(worker=self.driver.model.workers[0], together=together)

    # Jobs come and are sent

    @precondition(lambda machine: len(machine.driver.model.jobs) < MOST_JOBS)
    @rule(new=NEWS)
    def submit(self, new: dict[str, Any]) -> None:
        self._submit(**new)

    def _submit(self, program: int, count: int, held: bool, is_sent: bool, **fields: Any) -> None:
        jobs = [self._job(program, place, **fields) for place in range(count)]
        for number in self.driver.submit(jobs, held=held):
            if is_sent:  # otherwise the submitter died right after the commit
                self.driver.offer(number)

    @precondition(lambda machine: len(machine.driver.model.jobs) < MOST_JOBS)
    @rule(new=NEWS, pause=PAUSE, stays=RARELY)
    def submit_one(self, new: dict[str, Any], pause: str, stays: bool) -> None:
        held = new["held"]
        job = self._job(new["program"], 1, **{name: new[name] for name in new if name in ONE})
        self._paused(pause, job.program, stays, partial(self.driver.submit_and_offer, job, held=held))

    def _job(self, program: int, place: int, *, later: float, priority: int, key: str, **fields: Any) -> Job:
        to = self.driver.model.programs[program]
        due = self.driver.model.now + later if later else 0.0
        return Job(0, to, due, priority=priority * (place % 2), key=None if to.overlap == "ALLOW" else key, **fields)

    @where("ended jobs")
    @rule(job=one_of("ended jobs"))
    def retry(self, job: Job) -> None:
        self.driver.submit([Job(0, job.program, 0.0, key=job.key, retry_of=job.number) for _ in range(2)])

    @rule(job=one_of("jobs"), is_awake=st.booleans(), together=st.booleans(), pause=PAUSE, stays=RARELY)
    def dispatch(self, job: Job, is_awake: bool, together: bool, pause: str, stays: bool) -> None:
        if is_awake:
            self.driver.wake(job.number)
        self._paused(pause, job.program, stays, partial(self.driver.dispatch, job.program.queue, together=together))

    @rule(job=one_of("jobs"))
    def let_in(self, job: Job) -> None:
        self.driver.let_in(job.number)

    @rule(job=one_of("jobs"), pause=PAUSE, stays=RARELY)
    def offer(self, job: Job, pause: str, stays: bool) -> None:
        self._paused(pause, job.program, stays, partial(self.driver.offer, job.number))

    @rule(what=st.sampled_from(["due", "due", "lost messages", "ended holds", "expired", "lost workers"]), queue=queues)
    def sweep(self, what: str, queue: str) -> None:
        match what:
            case "due":
                self.driver.unblock()
                self.driver.let_in()
                self.driver.open_lanes()
                self.driver.dispatch(queue)
            case "lost messages":
                self.driver.requeue(queue)  # too early for what was just sent
                self.driver.time_passes(1)
                self.driver.requeue(queue)  # messages that were taken for lost may still arrive
            case "ended holds":
                self.driver.end_holds()
            case "expired":
                self.driver.reap_expired()
            case "lost workers":
                self.driver.reap_gone()

    def _paused(self, what: str, program: Program, stays: bool, act: Callable[[], Any]) -> None:
        """Do this while the program, its queue, lane or tenant is paused."""
        driver, lane = self.driver, (program.queue, program.tenant)
        match what:
            case "":
                return act()
            case "PAUSED" | "TERMINATED":
                driver.set_program(program, what)
                act()
                back = partial(driver.set_program, program, "ACTIVE")
            case "BLOCKED":
                driver.set_program(program, "PAUSED")
                driver.block(program)
                act()
                back = partial(driver.set_program, program, "ACTIVE")
            case _:
                place = {"queue": lane[0], "tenant": lane[1], "lane": lane}[what]
                driver.set_paused(place, True)
                act()
                back = partial(driver.set_paused, place, False)
        return None if stays else back()

    # Workers run them

    @where("bag", "workers")
    @rule(message=one_of("bag"), worker=one_of("workers"), comes_again=st.booleans(), pause=PAUSE, stays=RARELY)
    def message_arrives(self, message: Any, worker: Any, comes_again: bool, pause: str, stays: bool) -> None:
        program = self.driver.model.jobs[message.numbers[0]].program
        self._paused(pause, program, stays, partial(self.driver.claim, worker, message))
        if not comes_again:
            self.driver.bag.remove(message)

    @where("workers")
    @rule(worker=one_of("workers"), together=st.booleans())
    def everything_arrives(self, worker: Any, together: bool) -> None:
        self.driver.open_lanes()
        for queue in worker.queues:
            self.driver.dispatch(queue, together=together)
        for message in self.driver.bag[-3:]:
            self.driver.claim(worker, message)

    @where("held grants")
    @rule(grant=one_of("held grants"), how=HOW)
    def finish(self, grant: Any, how: str) -> None:
        self.driver.finish(grant, how)

    @where("held grants")
    @rule(grant=one_of("held grants"), ways=st.lists(HOW, min_size=1, max_size=3), only_start=st.booleans())
    def group_ends(self, grant: Any, ways: list[str], only_start: bool) -> None:
        group = [one for one in self.driver.grants if one.message == grant.message]
        if only_start:
            self.driver.start(grant)  # the first has overstayed the group's time: the others go back
            self.driver.finish_all([(one, "has not started") for one in group if one != grant] or [(grant, ways[0])])
        else:
            latest = {one.number: one for one in group}  # a message that came twice may have been claimed twice
            self.driver.finish_all([(one, ways[place % len(ways)]) for place, one in enumerate(latest.values())])

    @where("grants")
    @rule(grant=one_of("late grants"), how=HOW)
    def finish_perhaps_too_late(self, grant: Any, how: str) -> None:
        self.driver.finish(grant, how)

    @where("grants")
    @precondition(lambda machine: len(machine.driver.model.jobs) < MOST_JOBS)
    @rule(grant=one_of("late grants"), new=NEWS, key=st.sampled_from("abc"))
    def spawn_perhaps_too_late(self, grant: Any, new: dict[str, Any], key: str) -> None:
        self._spawn(grant, new, key)

    @where("held grants")
    @precondition(lambda machine: len(machine.driver.model.jobs) < MOST_JOBS)
    @rule(grant=one_of("held grants"), news=st.lists(NEWS, min_size=1, max_size=2), end=st.sampled_from(SPAWN_ENDS))
    def spawn_and_end(self, grant: Any, news: list[dict[str, Any]], end: str) -> None:
        for new, key in zip(news, "ab", strict=False):
            self._spawn(grant, new, key)
        if end:
            self.driver.finish(grant, end)

    def _spawn(self, grant: Any, new: dict[str, Any], key: str) -> None:
        fields = {name: new[name] for name in ONE if name not in ("trigger", "once")}
        self.driver.spawn(grant, self._job(new["program"], 1, **fields), key)

    @where("parents")
    @rule(parent=one_of("parents"), what=st.sampled_from(["resolve", "resolve", "cancel", "sweep", "end"]))
    def family_goes_on(self, parent: Job, what: str) -> None:
        match what:
            case "resolve":
                self.driver.resolve([parent.number])
            case "cancel":
                self.driver.cancel(parent.number, parent.program.tenant)
                self.driver.cancel_children([parent.number])
            case "sweep":
                self.driver.cancel_children()
                self.driver.resolve()
            case "end":
                for child in self.driver.model.children(parent.number):
                    self.driver.cancel(child.number, child.program.tenant)
                self.driver.resolve([parent.number])

    @where("grants")
    @rule(one=one_of("grants"), other=one_of("grants"))
    def renew(self, one: Any, other: Any) -> None:
        self.driver.time_passes(1)
        self.abandoned += self.driver.renew(one.worker, [one.message, other.message])

    @where("abandoned")
    @rule(one=one_of("abandoned"), other=one_of("abandoned"))
    def take_back_what_was_abandoned(self, one: Any, other: Any) -> None:
        self.driver.reap_tokens(list({one.token: one, other.token: other}.values()))

    @where("grants")
    @rule(grant=one_of("grants"), timed_out=st.booleans())
    def child_dies(self, grant: Any, timed_out: bool) -> None:
        self.driver.reap_child(grant.worker, grant.message, timed_out=timed_out)

    @where("held grants")
    @rule(
        grant=one_of("held grants"),
        end=st.sampled_from(["tries again", "succeeds", "lost", "given back", "stuck", "cleared"]),
    )
    def job_is_asked_to_stop(self, grant: Any, end: str) -> None:
        self.driver.cancel(grant.number, self.driver.model.jobs[grant.number].program.tenant)
        match end:
            case "lost":
                self.driver.reap_child(grant.worker, grant.message, timed_out=False)
            case "given back":
                self.driver.give_back(grant.worker)
            case "stuck":
                self.driver.time_passes(3)
                self.driver.expire_stuck(policy="RETRY", numbers=None, tenant=None)
            case "cleared":
                self.driver.clear(grant, force=True)
            case _:
                self.driver.finish(grant, end)

    @where("held grants")
    @rule(grant=one_of("held grants"), times=st.integers(1, 3))
    def job_kills_its_workers(self, grant: Any, times: int) -> None:
        for _ in range(times):
            self.driver.reap_child(grant.worker, grant.message, timed_out=False)
            self.everything_arrives(grant.worker, together=False)
            again = [one for one in self.those("held grants") if one.number == grant.number]
            if not again:
                return
            grant = again[0]

    # Operators

    @where("held grants")
    @rule(
        policy=st.sampled_from(["", "", "RETRY", "FAIL"]),
        tenant=st.sampled_from([None, None, *TENANTS]),
        grant=one_of("held grants"),
        is_chosen=st.booleans(),
    )
    def expire_stuck(self, policy: str, tenant: str | None, grant: Any, is_chosen: bool) -> None:
        self.driver.expire_stuck(policy=policy, numbers=[grant.number] if is_chosen else None, tenant=tenant)

    @where("grants")
    @rule(shown=one_of("grants"), earlier=one_of("late grants"), force=st.booleans())
    def clear_locks(self, shown: Any, earlier: Any, force: bool) -> None:
        self.driver.clear(shown, force=force)
        self.driver.clear(earlier, force=force)

    @rule(
        job=one_of("jobs"),
        what=st.sampled_from(["cancel", "hold", "hold a while", "release"]),
        by=st.sampled_from([True, True, True, False]),
    )
    def operate(self, job: Job, what: str, by: bool) -> None:
        tenant = next(tenant for tenant in TENANTS if (tenant == job.program.tenant) == by)
        match what:
            case "cancel":
                self.driver.cancel(job.number, tenant)
            case "release":
                self.driver.release(job.number, tenant)
            case _:
                self.driver.hold(job.number, tenant, until=1.5 if what == "hold a while" else None)

    @where("paused")
    @rule(what=one_of("paused"))
    def resume(self, what: Any) -> None:
        if isinstance(what, Program):
            self.driver.set_program(what, "ACTIVE")
        else:
            self.driver.set_paused(what, False)

    # Workers come and go, time passes

    @where("workers")
    @rule(
        worker=one_of("workers"),
        what=st.sampled_from(["beats", "dies", "stops", "gives back and stops", "is doubled"]),
    )
    def worker_lives(self, worker: Any, what: str) -> None:
        match what:
            case "beats":
                self.driver.heartbeat(worker)
            case "dies":
                self.driver.process_dies(worker)
            case "stops":
                self.driver.set_status(worker, "STOPPING")
            case "gives back and stops":
                self.driver.give_back(worker)
                self.driver.set_status(worker, "STOPPED")
        if what in ("dies", "gives back and stops", "is doubled"):  # its name starts again at once
            name = worker.name[:2]
            self.driver.register(name, **WORKERS[name])

    @rule(ticks=st.sampled_from([1, 1, 3, 5]))
    def time_passes(self, ticks: int) -> None:
        self.driver.time_passes(ticks)


def run(machine: type[Protocol], world: World, **options: Any) -> None:
    """So many examples on this world; raises what broke, with the moves that lead there."""
    machine.world = world
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    known = settings(deadline=None, database=None, suppress_health_check=checks, print_blob=True)
    run_state_machine_as_test(machine, settings=settings(known, **options))
