"""The chaos runs as tests, all with `-m slow`: a small run first, then every scenario in full.

Each is a process with servers of its own, like `python -m tests.chaos NAME --seed N`.
"""

import subprocess
import sys

import pytest

from tests.chaos.installation import ROOT
from tests.chaos.scenarios import SCENARIOS

SEED = 1


def _run(name: str, size: float) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.chaos", name, "--seed", str(SEED), "--size", f"{size:g}"]
    return subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_invariants_hold_in_a_small_run() -> None:
    ended = _run("R2", 0.1)

    assert ended.returncode == 0, ended.stdout[-20_000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_invariants_hold(name: str) -> None:
    ended = _run(name, 1.0)

    assert ended.returncode == 0, ended.stdout[-20_000:]
