"""Families: a parent waits for its children, runs its callback, and cancels its children where its end does."""

import json

import pytest
from django.db import OperationalError

from jobsite.programs import families, operations
from jobsite.programs.inspection import presentation, queries
from jobsite.programs.models import Job, Program
from jobsite.programs.transitions import cancel, finish
from jobsite.programs.upkeep import sweeps
from jobsite.tenants import principals
from tests.programs.conftest import FAILURE, SUCCESS, end, family, follow, held, python, statuses

pytestmark = pytest.mark.django_db(transaction=True)

# ---- who waits, who ends -----------------------------------------------------------------------------------------


def test_a_parent_waits_for_its_children_and_ends_with_the_last(jobs, spawning, run_job):
    number = run_job(spawning({"value": 1}, {"value": 2})).number
    assert (jobs.status(number), jobs.attempts(number)) == ("WAITING", ["SUCCESS"])
    first, second = (one.number for one in family(number))

    end(jobs, second)
    assert jobs.status(number) == "WAITING"
    end(jobs, first)

    job = jobs.row(number)
    assert (job.status, job.outcome, job.result) == ("COMPLETED", "NORMAL", {"spawned": 2})
    assert job.finished_at >= jobs.row(first).finished_at


def test_a_job_without_children_does_not_wait(jobs, spawning, run_job):
    job = run_job(spawning())

    assert (job.status, jobs.attempts(job.number)) == ("COMPLETED", ["SUCCESS"])


def test_a_warning_of_a_parent_that_waits_is_kept(jobs, spawning, run_job):
    waiting = run_job(spawning({}, target="spawn_and_warn"))
    assert (waiting.status, waiting.outcome) == ("WAITING", "WARNING")

    end(jobs, family(waiting.number)[0].number)

    assert (jobs.status(waiting.number), jobs.row(waiting.number).outcome) == ("COMPLETED", "WARNING")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("WARN", ("COMPLETED", "WARNING")), ("IGNORE", ("COMPLETED", "NORMAL")), ("FAIL", ("FAILED", "ERROR"))],
)
def test_the_program_says_what_a_failed_child_does_to_its_parent(jobs, spawning, run_job, policy, expected):
    number = run_job(spawning({}, {"value": 2}, keys={"on_child_failure": policy})).number
    failed, fine = (one.number for one in family(number))

    end(jobs, failed, FAILURE)
    end(jobs, fine)

    job = jobs.row(number)
    assert (job.status, job.outcome) == expected
    if policy == "FAIL":
        assert job.error == {
            "type": "ChildrenFailed",
            "message": f"1 of 2 children did not complete: job {failed} FAILED",
            "step": None,
        }
        assert (job.failure_kind, job.needs_review) == ("PERMANENT", True)


def test_a_canceled_child_counts_as_one_that_failed(jobs, spawning, run_job, operator):
    number = run_job(spawning({})).number

    operations.jobs.cancel(operator, family(number)[0].number)

    assert (jobs.status(number), jobs.row(number).outcome) == ("COMPLETED", "WARNING")


def test_the_message_names_three_children_and_counts_the_others(jobs, spawning, run_job, operator):
    number = run_job(spawning(*({"value": n} for n in range(5)), keys={"on_child_failure": "FAIL"})).number
    numbers = [one.number for one in family(number)]

    for one in numbers:
        end(jobs, one, FAILURE)

    named = ", ".join(f"job {one} FAILED" for one in numbers[:3])
    assert jobs.row(number).error["message"] == f"5 of 5 children did not complete: {named} and 2 more"


def test_failures_of_parents_count_in_a_row(jobs, spawning, run_job):
    keys = {"on_child_failure": "FAIL", "max_consecutive_failures": 3}
    number = run_job(spawning({}, keys=keys)).number

    end(jobs, family(number)[0].number, FAILURE)

    assert jobs.row(number).program.consecutive_failures == 1


def test_two_last_children_that_end_at_once_end_their_parent_once(jobs, spawning, run_job, race):
    for _ in range(5):
        number = run_job(spawning(*({"value": n} for n in range(4)))).number
        numbers = [one.number for one in family(number)]
        jobs.queue(*numbers)
        claimed = [jobs.claim(one) for one in numbers]

        def ends(job):
            def step(cursor):
                finish.finish(cursor, held(job), SUCCESS)
                families.follow(cursor, [job.number])

            return step

        assert race(*map(ends, claimed)) == [None] * 4

        assert (jobs.status(number), jobs.attempts(number)) == ("COMPLETED", ["SUCCESS"])


def test_grandparents_end_with_the_last_of_all(jobs, spawning, run_job, define):
    define("middle", target="tests.sample_actions:spawn_each")
    number = run_job(spawning({"program": "child", "children": [{}]}, program="middle")).number
    middle = run_job(family(number)[0].number).number
    assert (jobs.status(number), jobs.status(middle)) == ("WAITING", "WAITING")

    end(jobs, family(middle)[0].number)

    assert (jobs.status(middle), jobs.status(number)) == ("COMPLETED", "COMPLETED")


def test_jobs_that_wait_for_a_parents_key_go_when_the_parent_ends(jobs, define, run_job, child):
    program = define("one", target="tests.sample_actions:spawn_each", overlap="QUEUE")
    given = json.dumps({"program": "child", "children": [{}]})
    keys = {"parameters": given, "overlap_policy": "QUEUE", "overlap_key": "{}"}
    first, second = jobs.pending(program, **keys), jobs.pending(program, **keys)
    jobs.set(first, "blocked = NULL")
    assert run_job(first).status == "WAITING"
    assert jobs.row(second).blocked == "OVERLAP"

    end(jobs, family(first)[0].number)

    assert (jobs.status(first), jobs.row(second).blocked) == ("COMPLETED", None)


# ---- the callback ------------------------------------------------------------------------------------------------


def test_the_callback_sees_every_child_with_its_end(jobs, spawning, run_job):
    number = run_job(spawning({"value": 1}, {}, {}, keys={"callback": python("add_up")})).number
    assert jobs.attempts(number) == ["PARKED"]
    done, failed, canceled = (one.number for one in family(number))
    run_job(done)
    end(jobs, failed, FAILURE)
    assert jobs.status(number) == "WAITING"
    cancel.cancel(jobs.cursor, number=canceled, tenant_id=jobs.row(canceled).tenant_id, by="alice", reason="")
    follow(canceled)
    assert (jobs.status(number), jobs.row(number).queued_at is None) in (("QUEUED", False), ("PENDING", True))

    job = run_job(number)

    assert (job.status, job.outcome, jobs.attempts(number)) == ("COMPLETED", "WARNING", ["PARKED", "SUCCESS"])
    assert job.result == {
        "statuses": ["COMPLETED", "FAILED", "CANCELED"],
        "results": [1, None, None],
        "errors": [None, "no", None],
        "attempt": 1,
        "before": {"spawn": {"spawned": 3}},
    }


def test_a_callback_runs_also_where_there_are_no_children(jobs, spawning, run_job):
    number = run_job(spawning(keys={"callback": python("add_up")})).number

    assert run_job(number).result["results"] == []


def test_a_job_starts_with_its_actions_not_with_its_callback(jobs, spawning, run_job):
    number = run_job(spawning({"value": 1}, keys={"callback": python("add_up")})).number
    first = jobs.row(number).started_at
    assert jobs.row(number).result is None
    run_job(family(number)[0].number)
    job = run_job(number)

    row = Job.objects.select_related("program", "queue", "context").get(number=number)
    assert job.started_at > first
    assert presentation.jobs([row])[0]["started_at"] == presentation.moment(first)
    assert job.result["results"] == [1]


def test_a_callback_is_not_run_where_a_failed_child_fails_its_parent(jobs, spawning, run_job):
    number = run_job(spawning({}, keys={"callback": python("add_up"), "on_child_failure": "FAIL"})).number

    end(jobs, family(number)[0].number, FAILURE)

    assert (jobs.status(number), jobs.attempts(number)) == ("FAILED", ["PARKED"])


def test_a_callback_has_a_budget_of_its_own(jobs, spawning, run_job):
    """The actions used up both attempts that the program allows."""
    keys = {"retry": {"max_attempts": 2}, "callback": python("fail_first_callback")}
    number = spawning(keys=keys, target="fail_then_spawn")
    assert [run_job(number).status for _ in range(2)] == ["PENDING", "QUEUED"]

    assert [run_job(number).status for _ in range(2)] == ["PENDING", "COMPLETED"]

    job = jobs.row(number)
    assert (job.attempts, job.result) == (4, 2)
    assert jobs.attempts(number) == ["TRANSIENT", "PARKED", "TRANSIENT", "SUCCESS"]


def test_a_lost_callback_counts_its_own_losses(jobs, spawning, run_job, define):
    keys = {"max_worker_losses": 2, "callback": python("add_up")}
    number = spawning(keys=keys)
    jobs.queue(number)
    jobs.claim(number)
    jobs.expire_lock(number)
    sweeps.run_all()
    assert jobs.row(number).losses == 1
    assert run_job(number).parked_fence == 2

    for expected in ("PENDING", "FAILED"):
        jobs.queue(number)
        jobs.claim(number)
        jobs.expire_lock(number)
        sweeps.run_all()
        assert jobs.status(number) in (expected, "QUEUED" if expected == "PENDING" else "FAILED")

    assert jobs.attempts(number) == ["LOST", "PARKED", "LOST", "LOST"]


def test_a_callback_that_hangs_counts_its_own_time_outs(jobs, spawning, run_job):
    keys = {"retry": {"max_attempts": 2}, "retry_on_timeout": True, "callback": python("add_up")}
    number = spawning(keys=keys, target="fail_then_spawn")
    assert [run_job(number).attempts for _ in range(2)] == [1, 2]

    ends = []
    for _ in range(2):
        jobs.queue(number)
        jobs.claim(number)
        jobs.set(number, "stuck_at = clock_timestamp() - interval '1 second'")
        sweeps.run_all()
        ends.append(jobs.status(number))

    assert (ends[0] in ("PENDING", "QUEUED"), ends[1]) == (True, "FAILED")
    assert jobs.attempts(number) == ["TRANSIENT", "PARKED", "TIMEOUT", "TIMEOUT"]


def test_the_warning_of_an_action_stays_after_the_callback(jobs, spawning, run_job):
    number = run_job(spawning(target="spawn_and_warn", keys={"callback": python("add_up")})).number

    assert (run_job(number).status, jobs.row(number).outcome) == ("COMPLETED", "WARNING")


def test_the_result_is_that_of_the_actions_where_the_program_lost_its_callback_meanwhile(
    jobs, spawning, run_job, define
):
    number = run_job(spawning({}, keys={"callback": python("add_up")})).number
    define("parent", action=[python("spawn_each", name="spawn")])

    end(jobs, family(number)[0].number)

    job = run_job(number)
    assert (job.status, job.result) == ("COMPLETED", {"spawned": 1})


def test_a_step_of_a_callback_is_another_one_when_the_callback_is_called_again(jobs, define, child, run_job):
    define("chain", action=[python("succeed")], callback=python("next_link_in_steps"))
    number = jobs.pending(Program.objects.get(code="chain"), parameters='{"count": 2}')

    for turn in range(3):
        run_job(number)
        for one in family(number)[turn - 1 :] if turn else []:
            run_job(one.number)

    assert run_job(number).result == 2
    assert [one.result for one in family(number)] == [0, 1]


def test_a_callback_whose_context_cannot_be_made_keeps_its_attempts(jobs, spawning, run_job, monkeypatch):
    keys = {"retry": {"max_attempts": 2}, "callback": python("add_up")}
    number = spawning(keys=keys, target="fail_then_spawn")
    assert [run_job(number).attempts for _ in range(2)] == [1, 2]

    def is_away(*args, **kwargs):
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(principals, "running_as", is_away)
        assert run_job(number).status == "PENDING"

    assert run_job(number).status in ("COMPLETED", "WAITING")


def test_liquid_of_a_callback_knows_how_many_children_there_were(jobs, spawning, run_job):
    callback = {"kind": "command", "argv": ["echo", "{{ children.failed }} of {{ children.total }}"]}
    number = run_job(spawning({"value": 1}, {"value": 2}, keys={"callback": callback})).number
    for place, one in enumerate(family(number)):
        end(jobs, one.number, SUCCESS if place else FAILURE)

    assert run_job(number).result == {"exit_code": 0}
    assert "1 of 2" in [line.message for line in queries.log_entries(jobs.row(number))]


# ---- cancel, and what nobody saw to ------------------------------------------------------------------------------


def test_canceling_a_waiting_parent_cancels_its_children(jobs, spawning, run_job, bob_principal):
    number = run_job(spawning({"value": 1}, {"value": 2})).number
    done, open_ = (one.number for one in family(number))
    end(jobs, done)

    assert operations.jobs.cancel(bob_principal, number, reason="wrong") == "CANCELED"

    assert statuses(number) == ["COMPLETED", "CANCELED"]
    child = jobs.row(open_)
    assert (child.cancel_requested_by, child.cancel_reason) == ("system", f"its parent, job {number}, is CANCELED")


def test_a_running_child_of_a_canceled_parent_is_asked_to_stop(jobs, spawning, run_job, bob_principal):
    number = run_job(spawning({})).number
    child = family(number)[0].number
    jobs.queue(child)
    jobs.claim(child)

    operations.jobs.cancel(bob_principal, number)

    assert (jobs.status(child), jobs.row(child).cancel_requested_by) == ("RUNNING", "system")


def test_a_parent_that_was_asked_to_stop_does_not_wait(jobs, at_work):
    context = at_work()
    context.spawn("child")
    cancel.cancel(jobs.cursor, number=context.job_number, tenant_id=context.claimed.tenant_id, by="bob", reason="")
    ending = finish.Ending.waiting(has_warned=True)

    finish.finish(jobs.cursor, held(context.claimed), ending)
    follow(context.job_number)

    assert (jobs.status(context.job_number), jobs.row(context.job_number).outcome) == ("CANCELED", "NORMAL")
    assert statuses(context.job_number) == ["CANCELED"]


@pytest.mark.parametrize(("takes_along", "expected"), [(True, "CANCELED"), (False, "PENDING")])
def test_the_program_says_whether_a_failed_parent_cancels_its_children(jobs, spawning, run_job, takes_along, expected):
    job = run_job(spawning({}, target="spawn_then_fail", keys={"cancel_children_on_failure": takes_along}))

    assert job.status == "FAILED"
    assert statuses(job.number)[0] in (expected, "QUEUED" if expected == "PENDING" else expected)


def test_the_sweep_finds_families_that_nobody_followed(jobs, spawning, run_job, define):
    waiting, canceled = (run_job(spawning({"value": n})).number for n in range(2))
    for number in (waiting, canceled):
        jobs.queue(family(number)[0].number)
    claimed = jobs.claim(family(waiting)[0].number)
    finish.finish(jobs.cursor, held(claimed), SUCCESS)
    cancel.cancel(jobs.cursor, number=canceled, tenant_id=jobs.row(canceled).tenant_id, by="bob", reason="")

    assert sweeps.run_all()["families"] == 2

    assert (jobs.status(waiting), statuses(canceled)) == ("COMPLETED", ["CANCELED"])
    assert sweeps.run_all()["families"] == 0


def test_a_family_is_followed_in_bounded_parts(jobs, spawning, run_job, monkeypatch):
    monkeypatch.setattr(families, "MOST", 2)
    monkeypatch.setattr(cancel, "CANCEL_CHILDREN", cancel.CANCEL_CHILDREN.replace("LIMIT 500", "LIMIT 1"))
    number = run_job(spawning(*({"value": n} for n in range(5)))).number
    cancel.cancel(jobs.cursor, number=number, tenant_id=jobs.row(number).tenant_id, by="bob", reason="")

    follow(number)
    assert statuses(number).count("CANCELED") == 2
    for _ in range(3):
        sweeps.run_all()

    assert statuses(number) == ["CANCELED"] * 5


def test_parents_whose_children_were_all_asked_do_not_hide_others_from_the_sweep(jobs, spawning, run_job, monkeypatch):
    one_at_a_time = cancel.ENDED_WITH_OPEN_CHILDREN.replace("LIMIT 500", "LIMIT 1")
    monkeypatch.setattr(cancel, "ENDED_WITH_OPEN_CHILDREN", one_at_a_time)
    first, second = (run_job(spawning({"value": n})).number for n in range(2))
    stubborn = family(first)[0].number
    jobs.queue(stubborn)
    jobs.claim(stubborn)
    for number in (first, second):
        cancel.cancel(jobs.cursor, number=number, tenant_id=jobs.row(number).tenant_id, by="bob", reason="")

    for _ in range(2):
        sweeps.run_all()

    assert (jobs.status(stubborn), jobs.row(stubborn).cancel_requested_by) == ("RUNNING", "system")
    assert statuses(second) == ["CANCELED"]
