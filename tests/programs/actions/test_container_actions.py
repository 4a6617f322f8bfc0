"""Containers, on a real engine: what they get, how they end, and how those left behind by a worker are removed."""

import socket
import threading
import time

import docker
import pytest
import requests
from docker.models.containers import Container

from jobsite.errors import Forbidden
from jobsite.programs.actions import container
from jobsite.programs.actions.container import images
from jobsite.programs.definitions import DefinitionError, from_mapping, registration
from jobsite.programs.models import JobLogEntry
from jobsite.programs.submission import submit_as
from jobsite.programs.transitions import cancel
from tests import engine
from tests.flows.processes import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def containers(docker_host, monkeypatch):
    """All containers that exist now; those of the test are removed at its end."""
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    with engine.client(docker_host) as client:
        yield lambda: client.containers.list(all=True, ignore_removed=True)
        for one in client.containers.list(all=True):
            one.remove(force=True)


@pytest.fixture
def submitted(define, operator):
    """The number of a job whose action is a container with this script."""

    def submit(script, *, parameters=None, timeout="20s", image=engine.IMAGE, **keys):
        action = {"kind": "container", "image": image, "command": ["sh", "-c", script], **keys}
        define(action=[action], timeout=timeout)
        return submit_as(operator, "sample", parameters or {}).number

    return submit


@pytest.fixture
def run(submitted, run_job, containers):
    def run(script, **keys):
        return run_job(submitted(script, **keys))

    return run


def said(job):
    entries = JobLogEntry.objects.filter(job_number=job.number).order_by("sequence")
    return list(entries.values_list("stream", "severity", "message"))


def test_a_container_runs_its_command_and_its_output_is_the_jobs_log(run, containers):
    job = run("echo one; echo two >&2; printf three")

    assert (job.status, job.result) == ("COMPLETED", {"exit_code": 0}), job.error
    assert sorted(said(job)) == [("stderr", "WARNING", "two"), ("stdout", "INFO", "one"), ("stdout", "INFO", "three")]
    assert containers() == []


def test_its_command_and_environment_are_rendered_and_it_gets_nothing_else(run, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")

    job = run("env; echo {{ parameters.year }}", env={"YEAR": "{{ parameters.year }}"}, parameters={"year": "20 26"})

    lines = [line for _, _, line in said(job)]
    assert {"YEAR=20 26", "20 26"} <= set(lines)
    assert not [line for line in lines if "hunter2" in line or "DATABASE" in line]


def test_a_status_other_than_0_fails_the_job_with_the_last_lines(run, containers):
    job = run("seq 1 9; exit 3")

    assert (job.status, job.failure_kind) == ("FAILED", "PERMANENT")
    assert job.error["message"] == f"{engine.IMAGE} ended with status 3:\n5\n6\n7\n8\n9"
    assert containers() == []


def test_a_container_has_no_network_by_default(run):
    job = run("cat /proc/net/dev")

    devices = [line.split(":")[0].strip() for _, _, line in said(job) if ":" in line]
    assert set(devices) <= {"lo", "tunl0", "sit0", "ip6tnl0", "gre0"}


@pytest.mark.slow
def test_the_engine_gets_the_limits_of_the_action(submitted, run_job, containers, docker_host):
    number = submitted("echo begun; sleep 3", memory="64MiB", cpus=0.5)
    seen = []

    def look():
        until(containers, "a container is there", seconds=20)
        with engine.client(docker_host) as client:
            seen.append(client.api.inspect_container(containers()[0].id)["HostConfig"])

    thread = threading.Thread(target=look)
    thread.start()
    job = run_job(number)
    thread.join(30)

    assert job.status == "COMPLETED", job.error
    [given] = seen
    assert (given["Memory"], given["MemorySwap"], given["NanoCpus"]) == (64 * 2**20, 64 * 2**20, 500_000_000)
    assert (given["NetworkMode"], "no-new-privileges" in str(given["SecurityOpt"])) == ("none", True)


@pytest.mark.slow
def test_a_container_that_ignores_its_stop_signal_is_killed_two_seconds_later(run, containers):
    began = time.monotonic()

    job = run("trap '' TERM; echo before; while :; do sleep 1; done", timeout="1s")

    assert (job.status, job.failure_kind) == ("FAILED", "TIMEOUT")
    assert 2.5 < time.monotonic() - began < 20
    assert said(job) == [("stdout", "INFO", "before")]
    assert containers() == []


@pytest.mark.slow
def test_its_output_is_logged_while_it_runs_and_a_cancel_stops_it(
    submitted, run_job, containers, jobs, tenant, django_db_blocker
):
    number = submitted("echo begun; while :; do sleep 1; done")
    seen = []

    def cancel_it():
        from django.db import connection

        until(lambda: seen.append(said(jobs.row(number))) or seen[-1], "it says something", seconds=20)
        with connection.cursor() as cursor:
            cancel.cancel(cursor, number=number, tenant_id=tenant.pk, by="alice", reason="")
        connection.close()

    thread = threading.Thread(target=cancel_it)
    thread.start()
    job = run_job(number)
    thread.join(10)

    assert job.status == "CANCELED"
    assert seen[-1] == [("stdout", "INFO", "begun")]
    assert containers() == []


def left_behind(docker_host, number, fence, installation=None) -> Container:
    labels = {
        "jobsite": installation or container.installation(),
        "jobsite.job": str(number),
        "jobsite.fence": str(fence),
    }
    with engine.client(docker_host) as client:
        return client.containers.run(engine.IMAGE, ["sleep", "600"], detach=True, labels=labels, network_mode="none")


def test_containers_whose_job_no_longer_runs_are_removed(jobs, define, containers, docker_host):
    define("boxed", action=[{"kind": "container", "image": engine.IMAGE}])
    ended, running = jobs.in_status("FAILED"), jobs.running()
    left_behind(docker_host, ended, 1)
    left_behind(docker_host, running.number, running.fence - 1)
    healthy = left_behind(docker_host, running.number, running.fence)

    assert container.remove_idle() == 2

    assert [one.id for one in containers()] == [healthy.id]
    assert container.remove_idle() == 0


def test_without_a_container_action_no_engine_is_asked(monkeypatch, transactional_db):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")

    assert container.remove_idle() == 0


def test_the_container_of_a_lost_worker_is_removed_before_the_job_runs_again(
    submitted, run_job, containers, docker_host, jobs
):
    number = submitted("echo again")
    left_behind(docker_host, number, 0)

    assert run_job(number).status == "COMPLETED"

    assert containers() == []


def test_a_run_also_removes_what_other_ended_jobs_left_and_nothing_else(run, containers, docker_host, jobs):
    ended, running = jobs.ended(), jobs.running()
    left_behind(docker_host, ended, 1)
    left_behind(docker_host, running.number, running.fence - 1)
    healthy = left_behind(docker_host, running.number, running.fence)
    foreign = left_behind(docker_host, ended, 1, installation="somebody else's")

    assert run("true").status == "COMPLETED"

    assert {one.id for one in containers()} == {healthy.id, foreign.id}


def test_a_worker_that_has_lost_the_job_starts_no_container(submitted, run_job, containers, docker_host, jobs):
    number = submitted("echo never")
    newer = left_behind(docker_host, number, 7)

    job = run_job(number)

    assert job.status == "RUNNING"  # the worker that holds it now will end it
    assert [one.id for one in containers()] == [newer.id]
    assert said(job) == []


def raises(*args, **options):
    raise requests.exceptions.ReadTimeout("the engine is busy")


def test_a_job_completes_even_if_its_container_cannot_be_removed(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(docker.api.client.APIClient, "remove_container", raises)

        assert run("true").status == "COMPLETED"


@pytest.mark.slow
def test_a_container_that_cannot_be_stopped_is_removed_and_its_job_times_out(run, containers, monkeypatch):
    monkeypatch.setattr(Container, "stop", raises)

    job = run("echo begun; sleep 600", timeout="1s")

    assert (job.status, job.failure_kind) == ("FAILED", "TIMEOUT")
    assert containers() == []


@pytest.mark.slow
def test_a_container_whose_output_is_lost_runs_to_its_end(run, monkeypatch):
    def breaks(self, **options):
        raise_at_once = iter(())

        def broken():
            yield from raise_at_once
            raise ConnectionResetError("the stream broke")

        return broken()

    monkeypatch.setattr(Container, "attach", breaks)

    job = run("sleep 1; exit 4")

    assert job.error["message"] == f"{engine.IMAGE} ended with status 4"
    assert "the output of the container is lost from here on: the stream broke" in said(job)[0][2]


@pytest.mark.slow
def test_a_job_is_retried_if_the_registry_is_unreachable(run):
    job = run("true", image="127.0.0.1:1/nobody:9")

    assert (job.status, job.error["type"]) == ("PENDING", "NoEngine")
    assert "127.0.0.1:1/nobody:9" in job.error["message"]


def test_a_silent_registry_costs_no_more_than_the_time_limit(run):
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        job = run("true", image=f"127.0.0.1:{silent.getsockname()[1]}/nobody:9", timeout="1s")
        took = time.monotonic() - began

    assert (job.status, job.failure_kind) == ("FAILED", "TIMEOUT")
    assert took < 20


def test_a_job_is_retried_if_the_engine_is_unreachable(submitted, run_job, monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody")

    job = run_job(submitted("true"))

    assert (job.status, job.error["type"]) == ("PENDING", "NoEngine")
    assert f"unix://{tmp_path}/nobody" in job.error["message"]


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("busybox", ("busybox", "latest")),
        ("busybox:1.36", ("busybox", "1.36")),
        ("localhost:5000/tools/busybox", ("localhost:5000/tools/busybox", "latest")),
        ("localhost:5000/busybox:2", ("localhost:5000/busybox", "2")),
        ("busybox@sha256:abc", ("busybox@sha256:abc", None)),
    ],
)
def test_one_tag_of_an_image_is_pulled_not_all(image, parts):
    assert images._repository(image) == parts


def test_only_the_platform_may_define_containers(alice_principal, define):
    program = from_mapping(
        {"code": "mine", "action": [{"kind": "container", "image": "busybox"}]}, where="t", queues=["default"]
    )
    with pytest.raises(Forbidden, match="only the platform's operators may define container actions"):
        registration.load(alice_principal, [program])

    assert define(action=[{"kind": "container", "image": "busybox"}]).timeout_seconds == 30
    with pytest.raises(DefinitionError, match="timeout: expected at most 1h"):
        define(action=[{"kind": "container", "image": "busybox"}], timeout="2h")
