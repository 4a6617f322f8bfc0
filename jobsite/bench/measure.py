"""One contender's turn in a round: its workers are started and warmed up, then each figure is measured once."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from jobsite.bench.aims import Figure, percentile
from jobsite.bench.contenders.base import ALONE, SHORT, SLEEP_SECONDS, SLEEPING, Contender
from jobsite.bench.ground import Ground
from jobsite.bench.processes import Agent, BenchError, Launch, Workers, until

SECONDS = 8.0  # what a backlog should take
BOOT_SECONDS = 60.0
PICK_UP_PAUSE = 0.05
UNMEASURED = 5
MIB = 1024 * 1024

Record = Callable[[Figure, float], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """How much is done for each figure."""

    jobs: int = 20_000
    singles: int = 2_000
    samples: int = 100
    sleep_seconds: float = 4.0
    warm_up: int = 200
    patience: int = 10
    lines: int = 100_000

    @classmethod
    def quick(cls) -> "Sizes":
        """Sizes that are just enough to see that everything works."""
        return cls(jobs=300, singles=100, samples=10, sleep_seconds=0.5, warm_up=60, patience=2, lines=2_000)

    def backlog(self, contender: Contender, kind: str) -> int:
        """The number of jobs that a drain starts with."""
        if kind == SLEEPING:
            return round(self.sleep_seconds / SLEEP_SECONDS) * contender.children
        pace = min(contender.pace, 600) if kind == ALONE else contender.pace
        return min(self.jobs, round(pace * SECONDS))

    def stream(self, contender: Contender) -> int:
        """The number of jobs that are submitted one by one while workers run."""
        return min(self.singles, round(contender.pace * SECONDS))


class Turn:
    """The processes of one contender, and the measurements on them."""

    def __init__(self, ground: Ground, contender: Contender, sizes: Sizes, *, record: Record, say: Say) -> None:
        self._ground, self._contender, self._sizes = ground, contender, sizes
        self._record, self._say = record, say
        self._agent_environment = self._worker_environment = ground.environment(contender.database or "jobsite")

    def run(self, figures: frozenset[Figure]) -> None:
        """Measure each of the figures that the contender has."""
        self._ground.redis().flushdb()
        with self._agent() as self._talk:
            if Figure.SUBMIT in figures:
                self._submit(Figure.SUBMIT, "submit", self._sizes.singles)
            if Figure.BULK in figures and self._contender.has_bulk:
                self._submit(Figure.BULK, "fill", self._sizes.jobs)
            if figures - {Figure.SUBMIT, Figure.BULK}:
                with self._workers() as self._fleet:
                    self._warm_up()
                    self._measure_with_workers(figures)

    def _submit(self, figure: Figure, do: str, count: int) -> None:
        """Submissions a second while no worker runs."""
        with self._measured(figure, count, is_submitted_within=True):
            self._talk.call(do, count=count, kind=SHORT)
        self._talk.call("clear")
        self._ground.redis().flushdb()

    def _measure_with_workers(self, figures: frozenset[Figure]) -> None:
        kinds = self._contender.kinds
        if Figure.PICK_UP_P50 in figures:
            self._pick_up()
        if Figure.DRAIN in figures:
            self._drain(Figure.DRAIN, SHORT)
        if Figure.ALONE in figures and ALONE in kinds:
            self._drain(Figure.ALONE, ALONE)
        if Figure.END_TO_END in figures:
            self._end_to_end()
        if Figure.SLEEP in figures and SLEEPING in kinds:
            self._drain(Figure.SLEEP, SLEEPING)
        if Figure.LOG in figures:
            self._log()
        if Figure.RSS in figures and (memory := self._fleet.memory()) is not None:
            self._record(Figure.RSS, memory.rss / MIB)
            self._record(Figure.PSS, memory.pss / MIB)

    @contextmanager
    def _measured(self, figure: Figure, count: int, *, is_submitted_within: bool) -> Iterator[None]:
        """Record how many jobs a second are done inside the block; for jobs that sleep, the share of the possible."""
        began = time.monotonic()
        yield
        rate = count / (time.monotonic() - began)
        self._record(figure, rate * SLEEP_SECONDS / self._contender.children if figure is Figure.SLEEP else rate)

    @contextmanager
    def _agent(self) -> Iterator[Agent]:
        launch = Launch(["-m", "jobsite.bench.agent", self._contender.name], self._contender.workers()[0].environment)
        agent = Agent(self._contender.title, launch, self._agent_environment, self._ground.folder)
        try:
            agent.call("connect")
            agent.call("clear")
            yield agent
        finally:
            agent.kill()

    @contextmanager
    def _workers(self) -> Iterator[Workers]:
        workers = Workers(
            self._contender.title, self._contender.workers(), self._worker_environment, self._ground.folder
        )
        try:
            yield workers
        finally:
            workers.kill()

    def _warm_up(self) -> None:
        """Run jobs of every kind until everything is connected, cached, prepared and measured."""
        for kind in self._contender.kinds:
            self._run_some(kind, seconds=BOOT_SECONDS)
        for _ in range(self._sizes.patience):
            if self._talk.call("is_warm"):
                return
            for kind in self._contender.kinds:
                self._run_some(kind, seconds=BOOT_SECONDS)
        self._say(f"    {self._contender.title} has not learned that its jobs are short: is this machine too busy?")

    def _run_some(self, kind: str, *, seconds: float) -> None:
        count = self._contender.children if kind == SLEEPING else self._sizes.warm_up
        self._start_afresh()
        self._talk.call("fill", count=count, kind=kind)
        self._wait_for(count, seconds=seconds)

    def _start_afresh(self) -> None:
        with self._paused():
            self._talk.call("clear")
            self._ground.ledger.clear()

    @contextmanager
    def _paused(self) -> Iterator[None]:
        """Stop the worker processes by a signal, at a moment when none of them is in a transaction."""
        while True:
            self._fleet.signal(signal.SIGSTOP)
            if not self._is_any_in_transaction():
                break
            self._fleet.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._fleet.signal(signal.SIGCONT)

    def _is_any_in_transaction(self) -> bool:
        if self._contender.database is None:
            return False
        with self._ground.administer(self._contender.database) as connection:
            found = connection.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND (state LIKE 'idle in transaction%%' OR state = 'active' AND wait_event_type = 'Lock')"
            )
            return bool(found.fetchall())

    def _drain(self, figure: Figure, kind: str) -> None:
        """Measure from the moment when idle workers see a backlog to the last durable end."""
        count = self._sizes.backlog(self._contender, kind)
        with ExitStack() as stack:
            with self._paused():
                self._talk.call("clear")
                self._ground.ledger.clear()
                self._talk.call("fill", count=count, kind=kind)
                self._vacuum()
                stack.enter_context(self._measured(figure, count, is_submitted_within=False))
            self._wait_for(count, seconds=max(60.0, count / 20))
        self._check(count)

    def _end_to_end(self) -> None:
        """Measure from the first of many single submissions to the last durable end."""
        count = self._sizes.stream(self._contender)
        self._start_afresh()
        with self._measured(Figure.END_TO_END, count, is_submitted_within=True):
            self._talk.call("submit", count=count, kind=SHORT)
            self._wait_for(count, seconds=max(60.0, count / 20))
        self._check(count)

    def _pick_up(self) -> None:
        """Measure the milliseconds from the call that submits to the job's first line, on an idle system."""
        count = self._sizes.samples + UNMEASURED
        self._start_afresh()
        submitted = self._talk.call("pick_up", count=count, pause=PICK_UP_PAUSE, kind=SHORT)
        self._wait_for(count, seconds=60.0)
        self._check(count)
        began = self._ground.ledger.times()
        taken = [(began[mark] - moment) * 1000 for mark, moment in enumerate(submitted, start=1)][UNMEASURED:]
        self._record(Figure.PICK_UP_P50, percentile(taken, 50))
        self._record(Figure.PICK_UP_P95, percentile(taken, 95))
        self._record(Figure.PICK_UP_P99, percentile(taken, 99))

    def _log(self) -> None:
        """Measure one job whose command writes lines as fast as they are read, until every line is stored."""
        self._start_afresh()
        began = time.monotonic()
        stored = self._talk.call("chatter", count=self._sizes.lines)
        taken = time.monotonic() - began
        if stored is None:
            return
        if stored != self._sizes.lines:
            raise BenchError(f"{self._contender.title}: {stored} of {self._sizes.lines} lines are stored")
        self._record(Figure.LOG, stored / taken)

    def _wait_for(self, count: int, *, seconds: float) -> None:
        """Wait until all jobs have run, and have ended durably where the contender records that."""

        def have_run() -> bool:
            self._fleet.check()
            return self._ground.ledger.count() >= count

        until(have_run, f"{count} jobs of {self._contender.title} have run", seconds=seconds)
        if self._finished() is not None:
            what = f"{count} jobs of {self._contender.title} have ended"
            until(lambda: (self._finished() or 0) >= count, what, seconds=seconds)

    def _finished(self) -> int | None:
        finished: int | None = self._talk.call("finished")
        return finished

    def _check(self, count: int) -> None:
        """Check that every job ran once and ended once; else the figure means nothing. Raises BenchError."""
        ran, doubled = len(self._ground.ledger.times()), self._ground.ledger.doubled()
        finished = self._finished()
        if ran != count or doubled or finished not in (None, count):
            raise BenchError(
                f"{self._contender.title}: {ran} of {count} jobs ran, {len(doubled)} of them more than once, "
                f"and {finished} have ended"
            )

    def _vacuum(self) -> None:
        """Do what autovacuum would do soon, so that it does not do it in the middle of a measurement."""
        if self._contender.database is not None:
            with self._ground.administer(self._contender.database) as connection:
                connection.execute("VACUUM ANALYZE")
