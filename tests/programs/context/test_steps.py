"""Steps: a completed step is not done again, whatever becomes of the run."""

import json
import time

import psycopg
import pytest

from jobsite.programs import workers
from jobsite.programs.context import steps
from jobsite.programs.inspection import presentation, queries
from jobsite.programs.models import Job, JobAttempt, JobStep, Program
from jobsite.programs.submission import submit_as

pytestmark = pytest.mark.django_db(transaction=True)
THREE = [
    {"kind": "python", "name": name, "target": f"tests.sample_actions:{name}"}
    for name in ("fetch", "reckon", "deliver")
]
SECRET = {"type": "object", "properties": {"secret": {"type": "string", "writeOnly": True}}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "effects"


@pytest.fixture
def in_steps(jobs, define, path, operator):
    """A job whose action runs these steps."""

    def make(*names, timeout="30s", **parameters):
        program = define(target="tests.sample_actions:in_steps", timeout=timeout)
        return jobs.pending(program, parameters=json.dumps({"path": str(path), "names": names, **parameters}))

    return make


def lines(path):
    return path.read_text().splitlines()


def tries(number):
    return [(one.name or one.action, one.status, one.tries) for one in queries.steps(Job.objects.get(pk=number))]


# ---- the actions of a program ------------------------------------------------------------------------------


def test_a_retry_begins_with_the_first_action_that_has_not_ended(jobs, define, run_job, path):
    program = define(action=THREE)
    number = jobs.pending(program, parameters=json.dumps({"path": str(path), "fails_until": 3}))

    assert [run_job(number).status for _ in range(3)] == ["PENDING", "PENDING", "COMPLETED"]

    assert lines(path) == ["fetch 1", "reckon 1", "deliver 1", "deliver 2", "deliver 3"]
    assert tries(number) == [("fetch", "COMPLETED", 1), ("reckon", "COMPLETED", 1), ("deliver", "COMPLETED", 3)]
    assert jobs.row(number).result == {"name": "deliver", "seen": ["fetch", "reckon"]}
    assert jobs.row(number).current_step == "deliver"


def test_each_action_sees_the_results_of_those_before_it_in_a_later_run_too(jobs, define, run_job, path):
    program = define(
        action=[
            *THREE[:2],
            {
                "kind": "command",
                "argv": [
                    "sh",
                    "-c",
                    'echo "$1"; test -e "$2"',
                    "sh",
                    "{{ steps.reckon.seen[0] }}",
                    "{{ parameters.path }}.go",
                ],
            },
        ],
        transient=["CommandFailed"],
    )
    number = jobs.pending(program, parameters=json.dumps({"path": str(path)}))

    first = run_job(number)
    path.with_name("effects.go").touch()
    second = run_job(number)

    assert (first.status, second.status) == ("PENDING", "COMPLETED")
    assert lines(path) == ["fetch 1", "reckon 1"]
    said = [
        (entry.attempt, entry.step, entry.message) for entry in queries.log_entries(second) if entry.stream == "stdout"
    ]
    assert said == [(1, "command 3", "fetch"), (2, "command 3", "fetch")]


def test_an_action_that_was_edited_is_done_again(jobs, define, run_job, path):
    number = jobs.pending(define(action=THREE), parameters=json.dumps({"path": str(path), "fails_until": 2}))
    run_job(number)
    edited = THREE[0] | {"target": "tests.sample_actions:reckon"}
    define(action=[edited, *THREE[1:]])

    assert run_job(number).status == "COMPLETED"

    assert lines(path) == ["fetch 1", "reckon 1", "deliver 1", "reckon 2", "deliver 2"]
    assert [one.result["name"] for one in JobStep.objects.order_by("id")] == ["reckon", "reckon", "deliver"]


def test_a_program_of_one_action_keeps_no_steps(jobs, define, run_job):
    number = jobs.pending(define())

    assert run_job(number).status == "COMPLETED"

    assert not JobStep.objects.exists()


def test_an_action_that_fails_is_named_in_the_error_and_in_its_step(jobs, define, run_job, path):
    program = define(action=[THREE[0], {"kind": "python", "name": "break", "target": "tests.sample_actions:refuse"}])
    number = jobs.pending(program, parameters=json.dumps({"path": str(path)}))

    job = run_job(number)

    assert job.status == "FAILED"
    assert job.error["step"] == "break"
    assert tries(number) == [("fetch", "COMPLETED", 1), ("break", "FAILED", 1)]


# ---- steps that an action makes ----------------------------------------------------------------------------


def test_a_step_that_ended_gives_its_stored_result_to_every_later_run(in_steps, run_job, jobs, path):
    number = in_steps("a", "b", fails_until=2)

    first, second = run_job(number), run_job(number)

    assert (first.status, second.status) == ("PENDING", "COMPLETED")
    assert lines(path) == ["a 1", "b 1"]
    # As stored, the first time too.
    assert second.result == {name: {"name": name, "pair": [1, 2]} for name in "ab"}
    messages = [entry.message for entry in queries.log_entries(second)]
    assert messages == [f"python 1: {name} ended in an earlier run; its result is taken from there" for name in "ab"]


def test_a_step_that_failed_is_tried_again(in_steps, run_job, jobs, define, path):
    number = in_steps("a", "b", act="fail")
    define(target="tests.sample_actions:in_steps", transient=["ValueError"])

    job = run_job(number)

    assert (job.status, job.error["step"]) == ("PENDING", "python 1: b")
    failed = JobStep.objects.get(name="b")
    assert (failed.status, failed.error["message"], failed.result) == ("FAILED", "this can never work", None)
    run_job(number)
    assert lines(path) == ["a 1", "b 1", "b 2"]
    assert tries(number) == [("a", "COMPLETED", 1), ("b", "FAILED", 2)]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("set", "result could not be stored: it is a set; use text, numbers, lists or objects"),
        ("secret", "result could not be stored: it holds a secret of the parameters"),
    ],
)
def test_a_result_that_cannot_be_kept_fails_the_job_for_good(define, operator, run_job, path, act, message):
    define(target="tests.sample_actions:in_steps", parameters=SECRET)
    given = {"path": str(path), "names": ["a"], "act": act, "secret": "hunter2-and-more"}

    job = run_job(submit_as(operator, "sample", given).number)

    assert (job.status, job.failure_kind) == ("FAILED", "PERMANENT")
    assert job.error == {"type": "NotStorable", "message": message, "step": "python 1: a"}
    assert "hunter2" not in json.dumps(list(JobStep.objects.values("result", "error")))


def test_the_innermost_step_is_named(in_steps, run_job):
    assert run_job(in_steps("outer", act="nest")).error["step"] == "python 1: inner"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a"], 'this run has called step "python 1: a" already; give each step a name of its own'),
        ([""], "a step's name is text of 1 to 100 characters, not ''"),
        ([7], "a step's name is text of 1 to 100 characters, not 7"),
        (["x" * 101], f"a step's name is text of 1 to 100 characters, not {'x' * 101!r}"),
    ],
)
def test_an_invalid_or_used_name_is_refused(define, jobs, run_job, names, message):
    number = jobs.pending(define(target="tests.sample_actions:step_named"), parameters=json.dumps({"names": names}))

    job = run_job(number)

    assert (job.status, job.error["message"]) == ("FAILED", message)


def test_a_step_inside_a_transaction_is_refused(define, jobs, run_job):
    job = run_job(jobs.pending(define(target="tests.sample_actions:step_in_a_transaction")))

    assert job.status == "FAILED"
    assert "begin the transaction inside the step" in job.error["message"]
    assert not JobStep.objects.exists()


def test_the_number_of_steps_is_limited(in_steps, run_job, monkeypatch):
    monkeypatch.setattr(steps, "MAX_STEPS", 2)

    assert run_job(in_steps("a", "b", "c")).error["message"] == "a job has at most 2 steps"


# ---- what may come in between ------------------------------------------------------------------------------


def test_a_worker_that_lost_the_job_writes_no_step(in_steps, run_job, jobs):
    number = in_steps("a", "b", act="lose the lock")

    job = run_job(number)

    assert job.status == "RUNNING"
    assert tries(number) == [("a", "COMPLETED", 1), ("b", "RUNNING", 1)]
    assert not JobAttempt.objects.exists()


def test_a_worker_that_lost_the_job_begins_no_step(define, jobs, run_job):
    job = run_job(jobs.pending(define(target="tests.sample_actions:step_without_the_lock")))

    assert (job.status, job.current_step) == ("RUNNING", "")
    assert not JobStep.objects.exists()
    assert not JobAttempt.objects.exists()


def test_a_connection_that_broke_in_a_step_is_replaced(in_steps, run_job, path):
    assert run_job(in_steps("a", "b", act="lose the database")).status == "COMPLETED"

    assert lines(path) == ["a 1", "b 1"]


class Breaks(psycopg.Cursor):
    """Loses the answer of the first statement about a step, which is executed all the same."""

    broken = 0

    def fetchall(self):
        if b"jobsite_jobstep" in (self._query.query if self._query else b"") and not Breaks.broken:
            Breaks.broken += 1
            self.connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return super().fetchall()


def test_a_step_whose_beginning_was_written_though_the_answer_is_lost_counts_one_try(in_steps, run_job, monkeypatch):
    Breaks.broken = 0
    workers.connection().cursor_factory = Breaks
    number = in_steps("a")

    assert run_job(number).status == "COMPLETED"

    assert Breaks.broken == 1
    assert tries(number) == [("a", "COMPLETED", 1)]


def test_a_time_limit_ends_the_step_that_runs(in_steps, run_job):
    number = in_steps("a", "b", act="sleep", timeout="1s")

    job = run_job(number)

    assert (job.status, job.failure_kind, job.error["step"]) == ("FAILED", "TIMEOUT", "python 1: b")
    assert tries(number) == [("a", "COMPLETED", 1), ("b", "FAILED", 1)]


def test_a_time_limit_that_comes_while_a_step_is_written_comes_after_that(in_steps, run_job, monkeypatch):
    written = steps.Steps.complete

    def slowly(self, key, result, **options):
        with workers.connection().cursor() as cursor:
            cursor.execute("SELECT pg_sleep(1.2)")
        return written(self, key, result, **options)

    monkeypatch.setattr(steps.Steps, "complete", slowly)
    number = in_steps("a", "b", timeout="1s")

    job = run_job(number)

    assert (job.status, job.failure_kind) == ("FAILED", "TIMEOUT")
    assert tries(number) == [("a", "COMPLETED", 1)]


def test_a_time_limit_that_came_while_a_failure_was_written_is_not_forgotten(define, jobs, run_job, monkeypatch):
    written = steps.Steps.fail

    def slowly(self, key, error):
        with workers.connection().cursor() as cursor:
            cursor.execute("SELECT pg_sleep(1.2)")
        return written(self, key, error)

    monkeypatch.setattr(steps.Steps, "fail", slowly)
    began = time.monotonic()

    job = run_job(jobs.pending(define(target="tests.sample_actions:shrug_and_sleep", timeout="1s")))

    assert (job.status, job.failure_kind) == ("FAILED", "TIMEOUT")
    assert time.monotonic() - began < 20


def test_a_step_is_begun_on_the_thread_of_the_action(define, jobs, run_job):
    job = run_job(jobs.pending(define(target="tests.sample_actions:step_on_another_thread")))

    assert (job.status, job.result) == (
        "COMPLETED",
        "context.step is called only on the thread that runs the action, while it runs; "
        "a coroutine calls it directly, without sync_to_async",
    )


def test_an_action_with_another_configuration_is_another_step(define, jobs, run_job, path):
    parameters = json.dumps({"path": str(path), "names": ["a"], "fails_until": 2})
    number = jobs.pending(define(target="tests.sample_actions:in_steps"), parameters=parameters)
    run_job(number)
    define(action=[{"kind": "python", "target": "tests.sample_actions:in_other_steps", "name": "python 1"}])

    assert run_job(number).result == {"a": "otherwise"}


def test_a_warning_of_a_step_that_ended_is_one_of_the_job(define, jobs, run_job, path):
    warns = {"kind": "python", "name": "warns", "target": "tests.sample_actions:warn_all"}
    number = jobs.pending(
        define(action=[warns, THREE[2]]), parameters=json.dumps({"path": str(path), "fails_until": 2})
    )

    assert [run_job(number).status for _ in range(2)] == ["PENDING", "COMPLETED"]

    assert jobs.row(number).outcome == "WARNING"
    assert list(JobStep.objects.order_by("id").values_list("warned", flat=True)) == [True, False]


def test_a_result_is_the_same_in_every_run_whatever_json_makes_of_it(define, jobs, run_job):
    number = jobs.pending(define(target="tests.sample_actions:exotic"))

    first, second = run_job(number), run_job(number)

    assert first.status == "PENDING"
    assert first.error["message"] == second.result


def test_a_name_that_holds_a_secret_is_refused(define, operator, run_job):
    define(target="tests.sample_actions:step_named", parameters=SECRET | {"additionalProperties": True})
    given = {"secret": "hunter2-and-more", "names": ["mail hunter2-and-more"]}

    job = run_job(submit_as(operator, "sample", given).number)

    assert (job.status, job.error["message"]) == ("FAILED", "a step's name holds a secret of the parameters")
    assert not JobStep.objects.exists()


def test_a_step_that_neither_ended_nor_runs_is_shown_as_interrupted(in_steps, run_job):
    job = run_job(in_steps("a", "b", act="snooze"))

    shown = [(one["name"], one["status"]) for one in (presentation.step(row, job) for row in queries.steps(job))]

    assert shown == [("a", "COMPLETED"), ("b", "INTERRUPTED")]


def test_two_actions_of_one_name_are_refused(define):
    with pytest.raises(ValueError, match='action: item 2: name: "fetch" appears twice, expected different names'):
        define(action=[THREE[0], THREE[0]])
    with pytest.raises(ValueError, match='name: "python 2" appears twice'):
        define(action=[THREE[0] | {"name": "python 2"}, {key: THREE[1][key] for key in ("kind", "target")}])
    assert not Program.objects.exists()
