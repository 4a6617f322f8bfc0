"""`jobsite bench` as people start it: its own servers and processes, and nothing left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobsite.bench import contenders, ground
from tests.flows.processes import ROOT, running_with, until

SMALL = ("--quick", "--rounds", "1")


def _start(home: Path, *arguments: str) -> "subprocess.Popen[str]":
    # The benchmark must ignore the caller's configuration: this tenant does not exist.
    environment = {
        "JOBSITE_HOME": str(home),
        "JOBSITE_TENANT": "nobody",
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }
    argv = [sys.executable, "-m", "jobsite.cli", "bench", *arguments]
    return subprocess.Popen(
        argv,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in the background makes all processes that it starts ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _folders() -> set[Path]:
    return {path for place in ground.PLACES for path in place.glob("jobsite-bench-*")}


def _belonging_to(home: Path) -> list[int]:
    """The processes whose environment leads to the servers of this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if str(home).encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def _values(document: dict[str, Any], who: str) -> dict[str, float]:
    return {one["figure"]: one["median"] for one in document["measured"] if one["who"] == who}


@pytest.mark.slow
def test_a_small_run_measures_and_leaves_nothing(tmp_path: Path) -> None:
    before = _folders()

    run = _start(
        tmp_path, *SMALL, "--who", "jobsite", "celery", "--only", "submit", "drain", "memory", "limits", "--json"
    )
    output, progress = run.communicate(timeout=110)

    assert run.returncode == 0, progress
    document = json.loads(output)
    for who in ("jobsite", "celery"):
        values = _values(document, who)
        assert set(values) == {"submit", "drain", "rss", "pss"}
        assert all(value > 0 for value in values.values())
    assert {"copy", "fetch-100", "insert", "pairs"} <= {one["who"] for one in document["measured"]}
    assert [aim["reached"] in (True, False) for aim in document["aims"] if aim["peer"] == "Celery, 2 processes"]
    assert "round 1 of 1: jobsite, 2 processes" in progress
    assert _folders() <= before
    assert not (tmp_path / "postgres").exists()


@pytest.mark.slow
def test_ctrl_c_stops_servers_and_workers(tmp_path: Path) -> None:
    before = _folders()
    run = _start(tmp_path, *SMALL, "--who", "jobsite", "--only", "drain")
    made = until(lambda: _folders() - before, "the servers' folder", seconds=60)
    home = made.pop()
    until(lambda: len(_belonging_to(home)) > 2, "an agent and a worker", seconds=60)

    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)

    assert run.returncode == 130
    assert not home.exists()
    assert not running_with(str(home))
    assert not _belonging_to(home)


def test_wrong_options_are_refused_in_one_line(tmp_path: Path) -> None:
    wrong = [("--rounds", "0"), ("--jobs", "1"), ("--rules", "0"), ("--only", "speed"), ("--who", "me")]
    runs = {arguments: _start(tmp_path, *arguments) for arguments in wrong}
    said = {arguments: run.communicate(timeout=60)[1].splitlines() for arguments, run in runs.items()}

    assert {arguments: run.returncode for arguments, run in runs.items()} == dict.fromkeys(wrong, 2)
    assert {arguments: len(lines) for arguments, lines in said.items()} == dict.fromkeys(wrong, 1)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_every_peer_and_a_grown_database(tmp_path: Path) -> None:
    run = _start(tmp_path, *SMALL, "--history", "20000", "--json")
    output, progress = run.communicate(timeout=1_800)

    assert run.returncode == 0, progress
    document = json.loads(output)
    present = {contender.name for contender in contenders.ALL if not contender.missing}
    assert present <= {one["who"] for one in document["measured"]}
    assert present == {one["who"] for one in document["costs"]}
