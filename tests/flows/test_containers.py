"""A container whose worker dies: it is removed, and the job ends once."""

import os
import signal

import pytest

from jobsite.programs.models import JobLogEntry
from tests import engine
from tests.flows.jobs import finished, history, running
from tests.flows.processes import is_alive, until


def identities(docker_host):
    with engine.client(docker_host) as client:
        return [one["Id"] for one in client.api.containers(all=True)]


def action(script):
    return {"kind": "container", "image": engine.IMAGE, "command": ["sh", "-c", script]}


def lines(job):
    return list(JobLogEntry.objects.filter(job_number=job.number).values_list("message", flat=True))


@pytest.mark.slow
def test_a_killed_worker_leaves_no_container_and_one_result(define, submit, start_worker, docker_host):
    script = "echo begun; i=0; while [ $i -lt 4 ]; do sleep 1; i=$((i+1)); done; echo ended"
    define(
        "boxed", timeout="60s", action=[{"kind": "container", "image": engine.IMAGE, "command": ["sh", "-c", script]}]
    )
    doomed = start_worker("default", concurrency=1, environment={"DOCKER_HOST": docker_host})
    job = submit("boxed")
    until(lambda: lines(job) == ["begun"], "it says that it has begun", seconds=40)
    [first] = identities(docker_host)

    doomed.kill()
    assert identities(docker_host) == [first]
    start_worker("default", concurrency=1, environment={"DOCKER_HOST": docker_host})
    ended = finished(job, seconds=40)

    assert (ended.status, ended.result, history(ended)) == ("COMPLETED", {"exit_code": 0}, ["LOST", "SUCCESS"])
    assert lines(ended).count("ended") == 1
    assert identities(docker_host) == []


@pytest.mark.slow
def test_a_container_whose_worker_has_ended_is_replaced_by_that_of_the_next_run(
    define, submit, start_worker, docker_host
):
    script = "trap '' TERM; echo begun; while :; do sleep 1; done"
    define(
        "deaf", timeout="60s", action=[{"kind": "container", "image": engine.IMAGE, "command": ["sh", "-c", script]}]
    )
    worker = start_worker("default", concurrency=1, environment={"DOCKER_HOST": docker_host})
    job = submit("deaf")
    until(lambda: lines(job) == ["begun"], "it says that it has begun", seconds=40)
    owner = running(job).lock_owner

    # The lock is not renewed any more: another worker takes the job over, and the first container is removed.
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: not is_alive(worker.pid), "the main process is gone")
    start_worker("default", concurrency=1, environment={"DOCKER_HOST": docker_host})
    again = running_elsewhere(job, owner)

    assert again.losses == 1
    until(lambda: len(identities(docker_host)) == 1, "one container is left, that of the second run", seconds=20)


def running_elsewhere(job, owner):
    found = []

    def is_there():
        row = running(job, seconds=30)
        if row.lock_owner != owner:
            found.append(row)
        return bool(found)

    until(is_there, "another worker runs it", seconds=40)
    return found[0]


@pytest.mark.slow
def test_the_container_of_a_job_that_never_runs_again_is_removed_by_the_next_worker(
    define, submit, start_worker, docker_host
):
    define("boxed", timeout="120s", on_worker_lost="FAIL", action=[action("echo begun; sleep 100")])
    doomed = start_worker("default", concurrency=1, environment={"DOCKER_HOST": docker_host})
    job = submit("boxed")
    until(lambda: lines(job) == ["begun"], "it says that it has begun", seconds=40)

    doomed.kill()
    start_worker("content", concurrency=1, environment={"DOCKER_HOST": docker_host})

    assert finished(job, seconds=40).status == "FAILED"
    until(lambda: identities(docker_host) == [], "its container is gone", seconds=80)
