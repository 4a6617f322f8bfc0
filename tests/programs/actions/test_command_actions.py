"""Commands: their environment, their limits and their output."""

import json
import os
import sys
import time
from pathlib import Path

import psycopg
import pytest

from jobsite.programs.context.job_log import JobLog
from jobsite.programs.definitions import DefinitionError
from jobsite.programs.models import JobLogEntry
from jobsite.programs.submission import submit_as

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(define, operator, run_job):
    """Run a command once."""

    def run(*argv, parameters=None, timeout="30s", **keys):
        action = {"kind": "command", "argv": list(argv), **keys}
        define(action=[action], timeout=timeout)
        return run_job(submit_as(operator, "sample", parameters or {}).number)

    return run


def said(job):
    entries = JobLogEntry.objects.filter(job_number=job.number).order_by("sequence")
    return list(entries.values_list("stream", "message"))


def test_a_command_gets_no_other_variables_of_the_worker_than_the_named_ones(run, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")

    job = run(sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))", env={"YEAR": "2026"})

    [(_, line)] = said(job)
    seen = json.loads(line)
    assert (seen["YEAR"], seen["PATH"]) == ("2026", os.environ["PATH"])
    assert set(seen) <= {"YEAR", "PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"}


def test_a_command_runs_in_its_cwd_or_in_a_folder_of_its_own(run, tmp_path):
    assert said(run("pwd", cwd=str(tmp_path))) == [("stdout", str(tmp_path))]

    [(_, folder)] = said(run("pwd"))
    assert "jobsite-command-" in folder
    assert not Path(folder).exists()


def test_shell_syntax_is_left_to_the_shell(run):
    script = "(cd ../; echo ${HOME:+there}) # " + "long " * 3_000

    assert said(run("sh", "-c", script)) == [("stdout", "there")]
    assert said(run("sh", "-c", "(cd ../; echo {{ parameters.a }})", parameters={"a": "b"})) == [("stdout", "b")]


def test_memory_is_limited(run):
    eat = ("-c", "print(len(bytearray(400 * 2**20)))")

    assert run(sys.executable, *eat, memory="2GiB").status == "COMPLETED"
    job = run(sys.executable, *eat, memory="200MiB")

    assert (job.status, job.failure_kind) == ("FAILED", "PERMANENT")
    assert job.error["message"] == f"{sys.executable} ended with status 1: MemoryError"


def test_cpu_time_is_limited(run):
    began = time.monotonic()

    job = run("sh", "-c", "echo begun; while :; do :; done", cpu_time="1s")

    assert job.error["message"] == "sh was ended by SIGXCPU after it used up its 1 s of CPU time: begun"
    assert time.monotonic() - began < 30
    assert said(job) == [("stdout", "begun")]


@pytest.mark.parametrize("memory", ["64", 64, "64MB", "1KiB", "-1MiB", "9999999999GiB"])
def test_an_invalid_size_is_refused(define, memory):
    with pytest.raises(DefinitionError, match='memory: expected a size of 1MiB or more, such as "64MiB" or "2GiB"'):
        define(action=[{"kind": "command", "argv": ["true"], "memory": memory}])


def test_a_line_that_is_too_long_is_cut_with_a_mark(run):
    [(_, line), last] = said(run(sys.executable, "-c", "print('x' * 100_000); print('after')"))

    assert line.startswith("x" * 8_000)
    assert line.endswith(" bytes cut)")
    assert len(line) <= 8 * 1024
    assert last == ("stdout", "after")


def test_a_command_does_not_fail_if_its_log_cannot_be_written(run, monkeypatch):
    flush, failures = JobLog.flush, []

    def fails_once(self, cursor):
        if not failures:
            failures.append(1)
            raise psycopg.OperationalError("the server is restarting")
        flush(self, cursor)

    monkeypatch.setattr(JobLog, "flush", fails_once)

    job = run("seq", "1", "3000")

    assert (job.status, failures) == ("COMPLETED", [1])
    lines = [message for stream, message in said(job) if stream == "stdout"]
    assert lines == [str(number) for number in range(1, 3001)]


def test_a_hundred_thousand_lines_are_all_logged_in_order(run):
    job = run("seq", "1", "100000")

    assert job.status == "COMPLETED"
    assert [message for _, message in said(job)] == [str(number) for number in range(1, 100_001)]
