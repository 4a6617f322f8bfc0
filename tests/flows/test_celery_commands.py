"""Celery's own commands find jobsite's brokers and workers."""

import subprocess
import sys

import pytest

from tests.flows.jobs import finished, running
from tests.flows.processes import ROOT


@pytest.fixture
def celery(installation):
    """Run `celery -A jobsite …` to its end."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "celery", "-A", "jobsite", *arguments],
            cwd=ROOT,
            env={**installation, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


def test_a_worker_for_queues_on_two_brokers_refuses_to_start(celery):
    elsewhere = "redis://user:secret@localhost:1/0"

    ended = celery("worker", "-Q", "default,content", JOBSITE_BROKER_URL_CONTENT=elsewhere)

    assert ended.returncode == 1
    said = ended.stderr.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("jobsite: these queues live on different brokers, start a worker for each: default (")
    assert said[0].endswith("content (redis://user:••••@localhost:1/0)")


@pytest.mark.slow
def test_inspect_answers_while_a_job_runs(celery, define, submit, start_worker, tmp_path):
    define(target="tests.sample_actions:wait_for")
    start_worker("default", name="seen")
    job = running(submit("sample", {"path": str(tmp_path / "go")}))

    ended = celery("inspect", "active", "--json", "--timeout", "2")
    (tmp_path / "go").touch()

    assert ended.returncode == 0, ended.stderr
    assert "seen@flows" in ended.stdout
    assert "jobsite.run_jobs" in ended.stdout
    assert str(job.external_id) in ended.stdout
    assert finished(job).status == "COMPLETED"
