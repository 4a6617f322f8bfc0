"""What happens to a run when one of its contenders fails."""

from collections.abc import Iterator
from typing import Any

import pytest

from jobsite.bench import ground, measure
from jobsite.bench.aims import Figure
from jobsite.bench.measure import Sizes
from jobsite.bench.processes import BenchError
from jobsite.bench.run import Plan, run


@pytest.fixture
def own() -> Iterator[ground.Ground]:
    """Servers of the run's own."""
    with ground.prepared() as made:
        yield made


@pytest.mark.slow
def test_a_contender_that_fails_loses_only_its_own_figures(own: ground.Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test shortens the time limit of the wait for one contender."""
    wait = measure.Turn._wait_for

    def impatient(turn: Any, count: int, *, seconds: float) -> None:
        wait(turn, count, seconds=0.0 if turn._contender.name == "celery" else seconds)

    monkeypatch.setattr(measure.Turn, "_wait_for", impatient)
    said: list[str] = []
    plan = Plan(
        rounds=1,
        sizes=Sizes.quick(),
        figures=frozenset({Figure.SUBMIT, Figure.DRAIN}),
        with_limits=False,
        with_costs=False,
        only=frozenset({"celery", "celery-threads"}),
    )

    outcome = run(own, plan, say=said.append)

    assert set(outcome.results) == {
        ("celery", Figure.SUBMIT),
        ("celery-threads", Figure.SUBMIT),
        ("celery-threads", Figure.DRAIN),
    }
    assert len(outcome.failures) == 1
    assert "of Celery, 2 processes have run" in outcome.failures[0]
    assert any(line.startswith("    failed: after 0 s still not") for line in said)


def test_a_worker_that_ends_is_named_with_the_end_of_its_log(own: ground.Ground) -> None:
    from jobsite.bench.processes import Launch, Workers, until

    workers = Workers("a peer", [Launch(["-c", "raise SystemExit('no such queue')"])], {}, own.folder)

    def look() -> bool:
        workers.check()
        return False

    with pytest.raises(BenchError, match="a worker of a peer ended with status 1: no such queue"):
        until(look, "the end", seconds=20)
