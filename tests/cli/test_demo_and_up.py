"""The two commands that a newcomer types, on an empty folder."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, environment

COMMAND = [sys.executable, "-m", "jobsite.cli"]


def test_every_job_of_the_demo_ends_as_it_should(home: Path) -> None:
    demo = subprocess.run(
        [*COMMAND, "demo"], env=environment(home), cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )

    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.count("✓") == 11
    assert len(json.loads((home / "demo" / "zones.json").read_text())) > 300


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_up_serves_a_submission_from_another_terminal_and_stops_cleanly(home: Path) -> None:
    port = 20_000 + os.getpid() % 20_000
    up = subprocess.Popen(
        [*COMMAND, "up", "--no-flower", "--port", str(port)],
        env=environment(home), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said = _read_until(up, "jobsite is up")
        assert f"http://localhost:{port}/admin/" in said

        _jobsite(home, "tenants", "create", "acme")
        file = home / "programs.toml"
        file.write_text(
            '[[program]]\ncode = "noop"\n[[program.action]]\nkind = "python"\ntarget = "jobsite.samples:noop"'
        )
        _jobsite(home, "programs", "load", str(file))
        job = json.loads(_jobsite(home, "submit", "noop", "--wait", "--wait-timeout", "30", "--json"))
        workers = json.loads(_jobsite(home, "workers", "list", "--json"))
        assert job["status"] == "COMPLETED"
        assert [worker["status"] for worker in workers] == ["ACTIVE"]

        down = subprocess.run([*COMMAND, "down"], env=environment(home), cwd=ROOT, capture_output=True, text=True)
        assert (down.returncode, down.stdout, down.stderr.count("\n")) == (3, "", 1)
        assert "jobsite up is running in" in down.stderr
        assert json.loads(_jobsite(home, "jobs", "show", str(job["number"]), "--json"))["status"] == "COMPLETED"
    finally:
        up.send_signal(signal.SIGINT)
        rest, _ = up.communicate(timeout=60)

    assert up.returncode == 0, rest
    workers = json.loads(_jobsite(home, "workers", "list", "--json"))
    assert [worker["status"] for worker in workers] == ["STOPPED"]
    assert "stopped PostgreSQL and Redis" in _jobsite(home, "down")


def _jobsite(home: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments], env=environment(home), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _read_until(process: "subprocess.Popen[str]", text: str) -> str:
    assert process.stdout is not None
    said, end = "", time.monotonic() + 60
    while time.monotonic() < end:
        line = process.stdout.readline()
        said += line
        if "log in" in line and text in said:
            return said
    raise AssertionError(said)
