"""Children: spawned once, whatever becomes of the run; counted, bounded, nobody's but the tenant's."""

import asyncio
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from jobsite.database import prepared_cursor
from jobsite.errors import Conflict, Invalid, NotFound, TooMany
from jobsite.tenants.models import Membership
from programs import (
    children,
    explain,
    presentation,
    principals,
    program_cache,
    queries,
    resolution,
    steering,
    storable,
    submission,
    sweeps,
    workers,
)
from programs.actions import Step
from programs.context import Context
from programs.lifecycle import AttemptResult, Outcome, Status
from programs.models import Job, Program
from programs.stops import LockLost
from programs.transitions import cancel, finish
from programs.transitions import spawn as transition
from tests.programs.conftest import FAILURE, SUCCESS, held, new_worker, refused

pytestmark = pytest.mark.django_db(transaction=True)


def python(target, **keys):
    return {"kind": "python", "target": f"tests.sample_actions:{target}"} | keys


def family(number):
    return list(Job.objects.filter(parent=number).order_by("number"))


def statuses(number):
    return [child.status for child in family(number)]


@pytest.fixture
def child(define):
    return define("child", target="tests.sample_actions:echo")


@pytest.fixture
def spawning(jobs, define, child):
    """A pending job whose action spawns a child for each of these parameters."""

    def make(*parameters, target="spawn_each", program="child", keys=None, user=None, **more):
        parent = define("parent", action=[python(target, name="spawn")], **(keys or {}))
        given = json.dumps({"program": program, "children": parameters, **more})
        context = {} if user is None else {"context": principals.of_user(user, parent.tenant).captured}
        return jobs.pending(parent, parameters=given, **context)

    return make


@pytest.fixture
def at_work(jobs, define, child, monkeypatch, cursor):
    """The context of a parent's run that is under way in this process, as its action has it."""
    monkeypatch.setattr(workers, "_registered", new_worker(cursor))

    def make(claimed=None, *, program=None):
        claimed = claimed or jobs.running(program or define("parent"))
        captured = program_cache.read_context(cursor, key=claimed.context_key)
        context = Context(
            claimed,
            principals.running_as(captured, tenant_id=claimed.tenant_id),
            deadline=time.monotonic() + 60,
            cancel_grace=10.0,
            captured=captured,
        )
        context._step = Step("spawn", "python", {}, 60.0)
        return context

    return make


def end(jobs, number, ending=SUCCESS):
    """A child ends, and what follows from that."""
    jobs.queue(number)
    claimed = jobs.claim(number)
    finish.finish(jobs.cursor, held(claimed), ending)
    follow(number)


def follow(*numbers):
    with prepared_cursor() as cursor:
        resolution.follow(cursor, numbers)


# ---- who waits, who ends ---------------------------------------------------------------------------------------


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
def test_what_a_failed_child_does_to_its_parent_says_the_program(jobs, spawning, run_job, policy, expected):
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

    steering.cancel(operator, family(number)[0].number)

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


# ---- the callback ----------------------------------------------------------------------------------------------


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


def test_a_job_began_with_its_actions_not_with_its_callback(jobs, spawning, run_job):
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


def test_the_warning_of_an_action_is_that_of_the_job_after_its_callback(jobs, spawning, run_job):
    number = run_job(spawning(target="spawn_and_warn", keys={"callback": python("add_up")})).number

    assert (run_job(number).status, jobs.row(number).outcome) == ("COMPLETED", "WARNING")


def test_a_program_that_lost_its_callback_meanwhile_gives_what_its_actions_gave(jobs, spawning, run_job, define):
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


# ---- spawned once ----------------------------------------------------------------------------------------------


def test_a_later_run_finds_its_children_in_whatever_order_it_asks(jobs, at_work):
    context = at_work()
    first = [context.spawn("child", {"value": n}) for n in (1, 2, 1)]
    jobs.cursor.execute(
        "UPDATE jobsite_job SET lock_expires_at = now() - interval '1 s' WHERE number = %s", [context.job_number]
    )
    sweeps.run_all()
    jobs.queue(context.job_number)

    again = at_work(jobs.claim(context.job_number))
    second = [again.spawn("child", {"value": n}) for n in (2, 1, 3, 1)]

    assert [second[0], second[1], second[3]] == [first[1], first[0], first[2]]
    assert len(family(context.job_number)) == 4


def test_one_key_is_one_child_and_another_under_it_is_refused(at_work):
    context = at_work()

    numbers = {context.spawn("child", {"value": 1}, key="only") for _ in range(2)}
    with pytest.raises(ValueError, match='child key "only" was used in this run for another program'):
        context.spawn("child", {"value": 2}, key="only")

    [child] = family(context.job_number)
    assert numbers == {child.number}
    assert (child.child_key, child.parameters) == ("only", {"value": 1})


def test_a_later_run_gets_the_child_of_a_key_whatever_it_asks_for_now(jobs, at_work):
    context = at_work()
    number = context.spawn("child", {"at": "noon"}, key="only")
    jobs.expire_lock(context.job_number)
    sweeps.run_all()
    jobs.queue(context.job_number)

    assert at_work(jobs.claim(context.job_number)).spawn("child", {"at": "one"}, key="only") == number


def test_a_child_is_seen_when_the_actions_transaction_commits_and_not_before(jobs, at_work, other):
    context = at_work()

    with transaction.atomic():
        number = context.spawn("child")
        assert other.execute("SELECT 1 FROM jobsite_job WHERE number = %s", [number]).fetchone() is None

    assert jobs.status(number) in ("PENDING", "QUEUED")


@pytest.mark.parametrize("key", [None, "mine"])
def test_a_child_that_was_rolled_back_is_spawned_again(at_work, key):
    context = at_work()
    with pytest.raises(ValueError, match="undone"), transaction.atomic():
        context.spawn("child", key=key)
        raise ValueError("undone")

    number = context.spawn("child", key=key)

    assert [one.number for one in family(context.job_number)] == [number]
    assert not family(context.job_number)[0].child_key.endswith(":2")


def test_alike_children_of_a_part_that_was_rolled_back_are_spawned_again_and_no_other(jobs, at_work):
    context = at_work()
    kept = [context.spawn("child"), context.spawn("child")]
    with transaction.atomic():
        kept.append(context.spawn("child"))
        with pytest.raises(ValueError, match="a part"), transaction.atomic():
            context.spawn("child")
            context.spawn("child", key="mine")
            raise ValueError("a part")
        kept.append(context.spawn("child"))
        kept.append(context.spawn("child", key="mine"))
    with pytest.raises(ValueError, match="all"), transaction.atomic():
        context.spawn("child")
        raise ValueError("all")
    kept.append(context.spawn("child"))

    assert [one.number for one in family(context.job_number)] == kept
    keys = [one.child_key.partition(":")[2].partition(":")[2] for one in family(context.job_number)]
    assert keys == ["", "2", "3", "4", "", "5"]


def test_a_later_run_whose_transaction_is_tried_again_finds_its_children_again(jobs, at_work):
    context = at_work()
    first = [context.spawn("child") for _ in range(3)]
    jobs.expire_lock(context.job_number)
    sweeps.run_all()
    jobs.queue(context.job_number)
    again = at_work(jobs.claim(context.job_number))

    with pytest.raises(ValueError, match="deadlock"), transaction.atomic():
        [again.spawn("child") for _ in range(3)]
        raise ValueError("deadlock")
    with transaction.atomic():
        second = [again.spawn("child") for _ in range(3)]

    assert second == first
    assert len(family(context.job_number)) == 3


def test_many_alike_children_cost_a_statement_each(at_work, monkeypatch):
    context = at_work()
    context.spawn("child")
    asked = []
    monkeypatch.setattr(children, "prepared_cursor", lambda: asked.append(1) or prepared_cursor())

    with transaction.atomic():
        numbers = {context.spawn("child") for _ in range(50)}

    assert (len(numbers), len(asked)) == (50, 50)


def test_a_child_of_which_no_answer_came_is_a_child(jobs, spawning, run_job, monkeypatch):
    """The commit was applied, and the action swallows the error."""
    real, lost = transition.spawn, []

    def loses_the_first_answer(*args, **kwargs):
        answer = real(*args, **kwargs)
        if not lost:
            lost.append(answer)
            raise OperationalError("the answer was lost")
        return answer

    monkeypatch.setattr(transition, "spawn", loses_the_first_answer)
    job = run_job(spawning({"value": 1}, {"value": 2}, target="spawn_in_spite_of_errors"))

    assert (job.status, job.result) == ("WAITING", 1)
    assert len(family(job.number)) == 2
    assert lost[0].number == family(job.number)[0].number


def test_a_child_of_which_no_answer_came_is_found_when_it_is_asked_for_again(at_work, monkeypatch):
    real, context = transition.spawn, at_work()

    def loses_the_answer(*args, **kwargs):
        real(*args, **kwargs)
        raise OperationalError("the answer was lost")

    with monkeypatch.context() as patch, pytest.raises(OperationalError):
        patch.setattr(transition, "spawn", loses_the_answer)
        context.spawn("child")
    first, second = context.spawn("child"), context.spawn("child")

    assert [one.number for one in family(context.job_number)] == [first, second]


@pytest.mark.parametrize("target", ["spawn_in_a_step_and_beside", "spawn_beside_a_step"])
def test_a_run_that_does_not_come_to_all_places_again_finds_the_child_of_each(jobs, spawning, run_job, target):
    number = spawning(target=target)

    assert [run_job(number).status for _ in range(2)] == ["PENDING", "WAITING"]

    assert len(set(jobs.row(number).result)) == len(family(number)) == 2


def test_each_action_has_its_own_children(jobs, define, child, run_job):
    given = {"program": "child", "children": [{"value": 1}]}
    program = define("parent", action=[python("spawn_one", name="first"), python("spawn_one_then_fail", name="second")])
    number = jobs.pending(program, parameters=json.dumps(given))

    assert [run_job(number).status for _ in range(2)] == ["PENDING", "WAITING"]

    assert len(family(number)) == 2


def test_a_callback_spawns_anew_what_the_action_has_spawned(jobs, spawning, run_job):
    number = run_job(spawning({"value": 1}, keys={"callback": python("spawn_each_once_more")})).number
    run_job(family(number)[0].number)

    again = run_job(number)

    assert (len(family(number)), again.status in ("WAITING", "PENDING", "QUEUED")) == (2, True)


def test_who_lost_the_lock_spawns_nothing(jobs, at_work):
    context = at_work()
    jobs.expire_lock(context.job_number)
    sweeps.run_all()

    with pytest.raises(LockLost):
        context.spawn("child")

    assert family(context.job_number) == []


def test_who_loses_the_lock_before_the_commit_spawns_nothing(jobs, at_work, other):
    """Nor is anything else committed that the transaction did."""
    context = at_work()

    with pytest.raises(IntegrityError, match="does not run under fence 1 any more"), transaction.atomic():
        context.spawn("child")
        other.execute("UPDATE jobsite_job SET lock_expires_at = now() - interval '1 s' WHERE status = 'RUNNING'")
        sweeps.run_all()

    assert family(context.job_number) == []


def test_a_parent_that_ends_while_a_child_is_committed_sees_it(jobs, at_work, other, race):
    """The commit of the child and the finish of its parent wait for each other."""
    context = at_work()
    with transaction.atomic():
        context.spawn("child")
        connection.check_constraints()  # what the commit does, which now holds the parent
        with pytest.raises(Exception, match="lock timeout"):
            other.execute("SET lock_timeout = '200ms'")
            with other.cursor() as cursor:
                finish.finish(cursor, held(context.claimed), SUCCESS)

    assert context.family.looked_at() == (True, True)


def test_a_child_runs_as_its_parent_does(jobs, spawning, run_job, bob):
    number = run_job(spawning({}, user=bob)).number

    [child] = family(number)
    assert child.context_id == jobs.row(number).context_id
    assert child.context.content["submitted_by"] == "bob"


def test_who_may_no_longer_submit_has_no_children(jobs, spawning, run_job, bob, tenant):
    number = spawning({}, user=bob)
    Membership.objects.filter(user=bob).update(role="VIEWER")

    job = run_job(number)

    assert (job.status, job.failure_kind) == ("FAILED", "REFUSED")
    assert job.error["message"] == "bob lacks the permission jobs:write"
    assert family(number) == []


def test_a_program_of_another_tenant_is_not_there(define, at_work, other_tenant):
    charlies = define("charlies")
    charlies.actions.all().delete()
    Program.objects.filter(pk=charlies.pk).update(tenant=other_tenant)

    with pytest.raises(NotFound, match="no program charlies in tenant acme"):
        at_work().spawn("charlies")


def test_wrong_parameters_of_a_child_name_their_pointer(define, at_work):
    define("strict", parameters={"type": "object", "required": ["cohort"]})

    with refused(Invalid, "invalid_parameters"):
        at_work().spawn("strict", {})


def test_a_program_that_was_edited_meanwhile_is_read_again(define, at_work):
    context = at_work()
    context.spawn("child", {"value": 1})
    define("child", parameters={"type": "object", "required": ["cohort"]})

    with refused(Invalid, "invalid_parameters"):
        context.spawn("child", {"value": 2})


def test_a_child_is_born_where_its_program_and_its_time_say(jobs, at_work, define):
    Program.objects.filter(pk=define("paused", queue="content", priority=7).pk).update(status="PAUSED")
    context = at_work()

    paused = jobs.row(context.spawn("paused"))
    later = jobs.row(context.spawn("child", scheduled_at="2027-03-01T09:00:00Z", priority=-3))

    assert (paused.blocked, paused.queue.name, paused.priority) == ("PAUSED", "content", 7)
    assert (later.blocked, later.priority, later.due_at.isoformat()) == ("SCHEDULED", -3, "2027-03-01T09:00:00+00:00")


# ---- bounds ----------------------------------------------------------------------------------------------------


def test_the_tenth_generation_has_no_children(jobs, at_work, define):
    number = at_work().spawn("child")
    for _ in range(9):
        jobs.queue(number)
        number = at_work(jobs.claim(number)).spawn("child")
    jobs.queue(number)

    with pytest.raises(children.SpawnRefused, match=f"nested 10 deep, and job {number} is that deep already"):
        at_work(jobs.claim(number)).spawn("child")


def test_a_job_has_no_more_children_than_it_may(at_work, monkeypatch):
    monkeypatch.setattr(children, "MAX_CHILDREN", 2)
    context = at_work()
    for value in (1, 2):
        context.spawn("child", {"value": value})

    with pytest.raises(children.SpawnRefused, match="has 2 children, the most that a job may have"):
        context.spawn("child", {"value": 3})


def test_a_queue_key_of_an_ancestor_is_refused(jobs, at_work, define):
    own = define("one.by.one", overlap="QUEUE")
    context = at_work(jobs.running(own, overlap_policy="QUEUE", overlap_key="{}"))
    middle = context.spawn("child")
    jobs.queue(middle)

    with pytest.raises(children.SpawnRefused, match=f"job {context.job_number}, of which this would be a child"):
        at_work(jobs.claim(middle)).spawn("one.by.one")


def test_a_duplicate_of_a_reject_key_names_the_other(jobs, at_work, define):
    program = define("once", overlap="REJECT")
    holder = jobs.pending(program, overlap_policy="REJECT", overlap_key="{}")

    with refused(Conflict, "duplicate_job"):
        at_work().spawn("once")

    assert jobs.status(holder) == "PENDING"


def test_a_quota_lets_the_parent_run_again_uncounted(jobs, spawning, run_job, tenant, operator):
    tenant.pending_quota = 1
    tenant.save()
    job = run_job(spawning({"value": 1}, {"value": 2}))

    assert (job.status, job.blocked, jobs.attempts(job.number)) == ("PENDING", "SCHEDULED", ["RETURNED"])
    assert (job.attempts, "pending jobs" in job.error["message"]) == (0, True)
    [reason] = explain.why(operator, job.number)
    assert reason.message.endswith(f"; the last run said TooMany: {job.error['message']}")
    for _ in range(5):
        run_job(job.number)
    assert jobs.row(job.number).attempts == 0
    assert TooMany("x", code="x", retry_after=7).retry_after == 7


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "auto:1", 7])
def test_a_wrong_key_is_refused_in_words(at_work, key):
    with pytest.raises(ValueError, match="a child's key is text of 1 to 200 printable characters"):
        at_work().spawn("child", key=key)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, "/at"),
        ({"mean": float("nan")}, "/mean"),
        ({"bad": "\ud800"}, "/bad"),
        ({1: 2}, "parameters of child"),
    ],
    ids=["moment", "nan", "surrogate", "key"],
)
def test_parameters_that_are_no_json_are_refused_with_their_pointer(at_work, parameters, words):
    with refused(Invalid, "invalid_parameters") as refusal:
        at_work().spawn("child", parameters)

    assert words in str(refusal.value)


@pytest.mark.parametrize(("program", "parameters"), [(7, None), ("child", [1]), ("child", "x")])
def test_what_is_no_program_and_no_parameters_is_said(at_work, program, parameters):
    with pytest.raises(TypeError, match="spawn takes a program's code and its parameters"):
        at_work().spawn(program, parameters)


def test_a_child_that_was_refused_is_not_counted_among_alike_ones(at_work, define, jobs):
    program = define("once", overlap="REJECT")
    holder = jobs.pending(program, overlap_policy="REJECT", overlap_key="{}")
    context = at_work()
    with refused(Conflict, "duplicate_job"):
        context.spawn("once")
    jobs.set(holder, "status = 'CANCELED', finished_at = clock_timestamp()")

    context.spawn("once")

    assert family(context.job_number)[0].child_key.count(":") == 1


def test_a_key_that_holds_a_secret_is_refused(jobs, define, run_job):
    schema = {"type": "object", "properties": {"secret": {"type": "string", "writeOnly": True}}}
    parent = define("hand.on", target="tests.sample_actions:spawn_for", parameters=schema)
    job = submission.submit(tenant=parent.tenant, program="hand.on", parameters={"secret": "opensesame"})

    ended = run_job(job.number)

    assert (ended.status, ended.error["type"], family(job.number)) == ("FAILED", "NotStorable", [])


def test_a_spawn_that_is_refused_costs_no_quota(at_work, define, tenant):
    tenant.submissions_per_minute = 1
    tenant.save()
    define("strict", parameters={"type": "object", "required": ["cohort"]})
    context = at_work()
    for _ in range(2):
        with refused(Invalid, "invalid_parameters"):
            context.spawn("strict", {})

    assert context.spawn("child")


def test_another_transactions_child_of_the_same_key_is_not_waited_for_without_an_end(jobs, at_work, other, monkeypatch):
    monkeypatch.setattr(transition, "SPAWN", transition.SPAWN.replace("'10s'", "'300ms'"))
    context = at_work()
    with other.transaction():
        other.execute(
            """INSERT INTO jobsite_job (tenant_id, program_id, queue_id, trigger, parameters, context_id, scheduled_at,
                                        due_at, rank, parent_id, child_key, parent_fence)
               SELECT tenant_id, program_id, queue_id, 'CHILD', '{}', context_id, now(),
                      now(), now(), number, 'a', fence
               FROM jobsite_job WHERE number = %s""",
            [context.job_number],
        )
        with pytest.raises(OperationalError, match="lock timeout"):
            context.spawn("child", key="a")


def test_two_coroutines_threads_may_spawn_at_once_and_leave_the_environment_as_it_was(monkeypatch):
    monkeypatch.delenv(children.ASYNC_UNSAFE, raising=False)
    both, seen = threading.Barrier(2), []

    async def within():
        with children.in_coroutines_too():
            both.wait(10)
            seen.append(os.environ.get(children.ASYNC_UNSAFE))
            both.wait(10)

    threads = [threading.Thread(target=lambda: asyncio.run(within())) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(10)

    assert (seen, os.environ.get(children.ASYNC_UNSAFE)) == (["true", "true"], None)


def test_the_time_limit_does_not_ring_while_children_are_read(at_work):
    context = at_work()
    context.spawn("child")
    inside = []

    @contextmanager
    def uninterrupted():
        inside.append(1)
        yield

    read = context.family.children(uninterrupted)

    assert ([*iter(read)], len(read), read.counts["total"], len(inside)) == ([], 0, 1, 3)


def test_a_family_is_followed_in_bounded_parts(jobs, spawning, run_job, monkeypatch):
    monkeypatch.setattr(resolution, "MOST", 2)
    monkeypatch.setattr(cancel, "CANCEL_CHILDREN", cancel.CANCEL_CHILDREN.replace("LIMIT 500", "LIMIT 1"))
    number = run_job(spawning(*({"value": n} for n in range(5)))).number
    cancel.cancel(jobs.cursor, number=number, tenant_id=jobs.row(number).tenant_id, by="bob", reason="")

    follow(number)
    assert statuses(number).count("CANCELED") == 2
    for _ in range(3):
        sweeps.run_all()

    assert statuses(number) == ["CANCELED"] * 5


def test_parents_whose_children_were_all_asked_keep_no_other_from_the_sweep(jobs, spawning, run_job, monkeypatch):
    monkeypatch.setattr(cancel, "FORSAKEN", cancel.FORSAKEN.replace("LIMIT 500", "LIMIT 1"))
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


def test_a_callback_whose_context_cannot_be_made_has_its_tries_left(jobs, spawning, run_job, monkeypatch):
    keys = {"retry": {"max_attempts": 2}, "callback": python("add_up")}
    number = spawning(keys=keys, target="fail_then_spawn")
    assert [run_job(number).attempts for _ in range(2)] == [1, 2]

    def is_away(*args, **kwargs):
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(principals, "running_as", is_away)
        assert run_job(number).status == "PENDING"

    assert run_job(number).status in ("COMPLETED", "WAITING")


def test_a_child_is_spawned_on_the_thread_of_the_action_alone(at_work):
    context = at_work()
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(RuntimeError, match="is called only on the thread that runs the action"),
    ):
        pool.submit(context.spawn, "child").result()


def test_a_coroutine_spawns_too(jobs, spawning, run_job):
    job = run_job(spawning({"value": 1}, {"value": 2}, target="spawn_in_a_coroutine"))

    assert (job.status, job.result) == ("WAITING", 2)
    assert [one.child_key for one in family(job.number)] == ["child 0", "child 1"]


# ---- what the children tell ------------------------------------------------------------------------------------


def test_children_are_told_in_pages_in_the_order_of_their_birth(jobs, at_work, monkeypatch):
    monkeypatch.setattr(children, "PAGE", 2)
    context = at_work()
    numbers = [context.spawn("child", {"value": n}, key=f"k{n}" if n else None) for n in range(5)]
    for number in reversed(numbers[:4]):
        end(jobs, number, FAILURE if number == numbers[1] else SUCCESS)

    told = list(context.children)

    assert [one.number for one in told] == numbers[:4]
    assert [one.key for one in told] == ["", "k1", "k2", "k3"]
    assert [one.status for one in told] == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]
    assert (told[1].error["message"], told[0].result, told[0].program) == ("no", {"scored": 3}, "child")
    assert len(context.children) == 4
    assert context.children.counts == {"completed": 3, "failed": 1, "canceled": 0, "total": 5}


def test_liquid_of_a_callback_knows_how_many_children_there_were(jobs, spawning, run_job):
    callback = {"kind": "command", "argv": ["echo", "{{ children.failed }} of {{ children.total }}"]}
    number = run_job(spawning({"value": 1}, {"value": 2}, keys={"callback": callback})).number
    for place, one in enumerate(family(number)):
        end(jobs, one.number, SUCCESS if place else FAILURE)

    assert run_job(number).result == {"exit_code": 0}
    assert "1 of 2" in [line.message for line in queries.log_entries(jobs.row(number))]


# ---- cancel ----------------------------------------------------------------------------------------------------


def test_to_cancel_a_waiting_parent_cancels_its_children(jobs, spawning, run_job, bobs_hand):
    number = run_job(spawning({"value": 1}, {"value": 2})).number
    done, open_ = (one.number for one in family(number))
    end(jobs, done)

    assert steering.cancel(bobs_hand, number, reason="wrong") == "CANCELED"

    assert statuses(number) == ["COMPLETED", "CANCELED"]
    child = jobs.row(open_)
    assert (child.cancel_requested_by, child.cancel_reason) == ("system", f"its parent, job {number}, is CANCELED")


def test_a_running_child_of_a_canceled_parent_is_asked_to_stop(jobs, spawning, run_job, bobs_hand):
    number = run_job(spawning({})).number
    child = family(number)[0].number
    jobs.queue(child)
    jobs.claim(child)

    steering.cancel(bobs_hand, number)

    assert (jobs.status(child), jobs.row(child).cancel_requested_by) == ("RUNNING", "system")


def test_a_parent_that_was_asked_to_stop_does_not_wait(jobs, at_work):
    context = at_work()
    context.spawn("child")
    cancel.cancel(jobs.cursor, number=context.job_number, tenant_id=context.claimed.tenant_id, by="bob", reason="")
    ending = finish.Ending(Status.WAITING, AttemptResult.SUCCESS, outcome=Outcome.WARNING)

    finish.finish(jobs.cursor, held(context.claimed), ending)
    follow(context.job_number)

    assert (jobs.status(context.job_number), jobs.row(context.job_number).outcome) == ("CANCELED", "NORMAL")
    assert statuses(context.job_number) == ["CANCELED"]


@pytest.mark.parametrize(("takes_along", "expected"), [(True, "CANCELED"), (False, "PENDING")])
def test_whether_a_failed_parent_takes_its_children_along_says_the_program(
    jobs, spawning, run_job, takes_along, expected
):
    job = run_job(spawning({}, target="spawn_then_fail", keys={"cancel_children_on_failure": takes_along}))

    assert job.status == "FAILED"
    assert statuses(job.number)[0] in (expected, "QUEUED" if expected == "PENDING" else expected)


def test_the_sweep_finds_what_nobody_saw_to(jobs, spawning, run_job, define):
    waiting, canceled = (run_job(spawning({"value": n})).number for n in range(2))
    for number in (waiting, canceled):
        jobs.queue(family(number)[0].number)
    claimed = jobs.claim(family(waiting)[0].number)
    finish.finish(jobs.cursor, held(claimed), SUCCESS)
    cancel.cancel(jobs.cursor, number=canceled, tenant_id=jobs.row(canceled).tenant_id, by="bob", reason="")

    assert sweeps.run_all()["families"] == 2

    assert (jobs.status(waiting), statuses(canceled)) == ("COMPLETED", ["CANCELED"])
    assert sweeps.run_all()["families"] == 0


def test_two_last_children_that_end_at_once_end_their_parent_once(jobs, spawning, run_job, race):
    for _ in range(5):
        number = run_job(spawning(*({"value": n} for n in range(4)))).number
        numbers = [one.number for one in family(number)]
        jobs.queue(*numbers)
        claimed = [jobs.claim(one) for one in numbers]

        def ends(job):
            def step(cursor):
                finish.finish(cursor, held(job), SUCCESS)
                resolution.follow(cursor, [job.number])

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


def test_what_waits_for_a_parents_key_goes_when_the_parent_ends(jobs, define, run_job, child):
    program = define("one", target="tests.sample_actions:spawn_each", overlap="QUEUE")
    given = json.dumps({"program": "child", "children": [{}]})
    keys = {"parameters": given, "overlap_policy": "QUEUE", "overlap_key": "{}"}
    first, second = jobs.pending(program, **keys), jobs.pending(program, **keys)
    jobs.set(first, "blocked = NULL")
    assert run_job(first).status == "WAITING"
    assert jobs.row(second).blocked == "OVERLAP"

    end(jobs, family(first)[0].number)

    assert (jobs.status(first), jobs.row(second).blocked) == ("COMPLETED", None)


def test_a_secret_goes_only_where_it_is_one(jobs, define, run_job):
    define("open", target="tests.sample_actions:echo")
    schema = {"type": "object", "properties": {"secret": {"type": "string", "writeOnly": True}}}
    parent = define("hand.on", target="tests.sample_actions:hand_on", parameters=schema)
    job = submission.submit(tenant=parent.tenant, program="hand.on", parameters={"secret": "opensesame"})
    ended = run_job(job.number)

    assert (ended.status, ended.error["type"]) == ("FAILED", storable.NotStorable.__name__)
    assert "opensesame" not in json.dumps(ended.error)
    assert family(job.number) == []
