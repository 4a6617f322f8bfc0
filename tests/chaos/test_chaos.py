"""The chaos runs as tests: two small ones in every run, all of them with `-m slow`.

Each is a process with servers of its own, as `python -m tests.chaos NAME --seed N` by hand. The small ones wait for
locks to run out most of the time, so they run side by side.
"""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.chaos.installation import ROOT
from tests.chaos.scenarios import SCENARIOS

SMALL = {"R2": 0.1, "R25": 0.3}  # the share of the jobs
SEED = 1
Ended = subprocess.CompletedProcess[str]


def _run(name: str, size: float) -> Ended:
    argv = [sys.executable, "-m", "tests.chaos", name, "--seed", str(SEED), "--size", f"{size:g}"]
    return subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def small_runs() -> Iterator[dict[str, Future[Ended]]]:
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(_run, name, size) for name, size in SMALL.items()}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", SMALL)
def test_what_is_promised_holds_in_a_small_run(name: str, small_runs: dict[str, Future[Ended]]) -> None:
    ended = small_runs[name].result()

    assert ended.returncode == 0, ended.stdout[-20_000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_promised_holds(name: str) -> None:
    ended = _run(name, 1.0)

    assert ended.returncode == 0, ended.stdout[-20_000:]
