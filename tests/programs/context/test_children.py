"""Children: spawned once, whatever becomes of the run; limited in number, and always of the same tenant."""

import asyncio
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction

from jobsite.database import prepared_cursor
from jobsite.errors import Conflict, Invalid, NotFound, TooMany
from jobsite.programs import submission
from jobsite.programs.context import children, coroutines, spawning
from jobsite.programs.inspection import explain
from jobsite.programs.models import Program
from jobsite.programs.rules.stops import LockLost
from jobsite.programs.transitions import finish
from jobsite.programs.transitions import spawn as transition
from jobsite.programs.upkeep import sweeps
from jobsite.tenants.models import Membership
from jobsite.values import storable
from tests.programs.conftest import FAILURE, SUCCESS, end, family, held, python, refused

pytestmark = pytest.mark.django_db(transaction=True)

# ---- spawned once ------------------------------------------------------------------------------------------------


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


def test_equal_children_of_a_part_that_was_rolled_back_are_spawned_again_and_no_others(jobs, at_work):
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


def test_many_equal_children_cost_one_statement_each(at_work, monkeypatch):
    context = at_work()
    context.spawn("child")
    asked = []
    monkeypatch.setattr(spawning, "prepared_cursor", lambda: asked.append(1) or prepared_cursor())

    with transaction.atomic():
        numbers = {context.spawn("child") for _ in range(50)}

    assert (len(numbers), len(asked)) == (50, 50)


def test_a_child_whose_answer_was_lost_is_a_child(jobs, spawning, run_job, monkeypatch):
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


def test_a_child_whose_answer_was_lost_is_found_when_it_is_asked_for_again(at_work, monkeypatch):
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
def test_a_later_run_that_skips_some_places_finds_the_child_of_each(jobs, spawning, run_job, target):
    number = spawning(target=target)

    assert [run_job(number).status for _ in range(2)] == ["PENDING", "WAITING"]

    assert len(set(jobs.row(number).result)) == len(family(number)) == 2


def test_each_action_has_its_own_children(jobs, define, child, run_job):
    given = {"program": "child", "children": [{"value": 1}]}
    program = define("parent", action=[python("spawn_one", name="first"), python("spawn_one_then_fail", name="second")])
    number = jobs.pending(program, parameters=json.dumps(given))

    assert [run_job(number).status for _ in range(2)] == ["PENDING", "WAITING"]

    assert len(family(number)) == 2


def test_a_callback_spawns_new_children_for_the_same_request(jobs, spawning, run_job):
    number = run_job(spawning({"value": 1}, keys={"callback": python("spawn_each_once_more")})).number
    run_job(family(number)[0].number)

    again = run_job(number)

    assert (len(family(number)), again.status in ("WAITING", "PENDING", "QUEUED")) == (2, True)


def test_a_run_that_lost_the_lock_spawns_nothing(jobs, at_work):
    context = at_work()
    jobs.expire_lock(context.job_number)
    sweeps.run_all()

    with pytest.raises(LockLost):
        context.spawn("child")

    assert family(context.job_number) == []


def test_a_run_that_loses_the_lock_before_the_commit_spawns_nothing(jobs, at_work, other):
    """The rest of the transaction is rolled back too."""
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
        connection.check_constraints()  # the commit does this, and then holds the parent's row
        with pytest.raises(Exception, match="lock timeout"):
            other.execute("SET lock_timeout = '200ms'")
            with other.cursor() as cursor:
                finish.finish(cursor, held(context.claimed), SUCCESS)

    assert context.family.has_children() == (True, True)


def test_a_child_runs_as_its_parent_does(jobs, spawning, run_job, bob):
    number = run_job(spawning({}, user=bob)).number

    [child] = family(number)
    assert child.context_id == jobs.row(number).context_id
    assert child.context.content["submitted_by"] == "bob"


def test_a_user_who_may_no_longer_submit_spawns_nothing(jobs, spawning, run_job, bob, tenant):
    number = spawning({}, user=bob)
    Membership.objects.filter(user=bob).update(role="VIEWER")

    job = run_job(number)

    assert (job.status, job.failure_kind) == ("FAILED", "REFUSED")
    assert job.error["message"] == "bob lacks the permission jobs:write"
    assert family(number) == []


def test_a_program_of_another_tenant_is_not_found(define, at_work, other_tenant):
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


def test_a_child_gets_the_queue_and_time_of_its_program_and_arguments(jobs, at_work, define):
    Program.objects.filter(pk=define("paused", queue="content", priority=7).pk).update(status="PAUSED")
    context = at_work()

    paused = jobs.row(context.spawn("paused"))
    later = jobs.row(context.spawn("child", scheduled_at="2027-03-01T09:00:00Z", priority=-3))

    assert (paused.blocked, paused.queue.name, paused.priority) == ("PAUSED", "content", 7)
    assert (later.blocked, later.priority, later.due_at.isoformat()) == ("SCHEDULED", -3, "2027-03-01T09:00:00+00:00")


# ---- from which thread -------------------------------------------------------------------------------------------


def test_two_coroutines_threads_may_spawn_at_once_and_leave_the_environment_as_it_was(monkeypatch):
    monkeypatch.delenv(coroutines.ASYNC_UNSAFE, raising=False)
    both, seen = threading.Barrier(2), []

    async def within():
        with coroutines.in_coroutines_too():
            both.wait(10)
            seen.append(os.environ.get(coroutines.ASYNC_UNSAFE))
            both.wait(10)

    threads = [threading.Thread(target=lambda: asyncio.run(within())) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(10)

    assert (seen, os.environ.get(coroutines.ASYNC_UNSAFE)) == (["true", "true"], None)


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


# ---- bounds and bad input ----------------------------------------------------------------------------------------


def test_the_tenth_generation_has_no_children(jobs, at_work, define):
    number = at_work().spawn("child")
    for _ in range(9):
        jobs.queue(number)
        number = at_work(jobs.claim(number)).spawn("child")
    jobs.queue(number)

    with pytest.raises(spawning.SpawnRefused, match=f"nested 10 deep, and job {number} is that deep already"):
        at_work(jobs.claim(number)).spawn("child")


def test_a_job_has_no_more_children_than_it_may(at_work, monkeypatch):
    monkeypatch.setattr(spawning, "MAX_CHILDREN", 2)
    context = at_work()
    for value in (1, 2):
        context.spawn("child", {"value": value})

    with pytest.raises(spawning.SpawnRefused, match="has 2 children, the most that a job may have"):
        context.spawn("child", {"value": 3})


def test_a_queue_key_of_an_ancestor_is_refused(jobs, at_work, define):
    own = define("one.by.one", overlap="QUEUE")
    context = at_work(jobs.running(own, overlap_policy="QUEUE", overlap_key="{}"))
    middle = context.spawn("child")
    jobs.queue(middle)

    with pytest.raises(spawning.SpawnRefused, match=f"job {context.job_number}, an ancestor of this child"):
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
    assert reason.message.endswith(f"; the last run ended with TooMany: {job.error['message']}")
    for _ in range(5):
        run_job(job.number)
    assert jobs.row(job.number).attempts == 0
    assert TooMany("x", code="x", retry_after=7).retry_after == 7


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "auto:1", 7])
def test_a_wrong_key_is_refused_with_a_message(at_work, key):
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
def test_parameters_that_are_not_json_are_refused_with_their_pointer(at_work, parameters, words):
    with refused(Invalid, "invalid_parameters") as refusal:
        at_work().spawn("child", parameters)

    assert words in str(refusal.value)


@pytest.mark.parametrize(("program", "parameters"), [(7, None), ("child", [1]), ("child", "x")])
def test_arguments_that_are_no_program_or_parameters_are_named(at_work, program, parameters):
    with pytest.raises(TypeError, match="spawn takes a program's code and its parameters"):
        at_work().spawn(program, parameters)


def test_a_child_that_was_refused_is_not_counted_among_equal_ones(at_work, define, jobs):
    program = define("once", overlap="REJECT")
    holder = jobs.pending(program, overlap_policy="REJECT", overlap_key="{}")
    context = at_work()
    with refused(Conflict, "duplicate_job"):
        context.spawn("once")
    jobs.set(holder, "status = 'CANCELED', finished_at = clock_timestamp()")

    context.spawn("once")

    assert family(context.job_number)[0].child_key.count(":") == 1


def test_a_spawn_that_is_refused_costs_no_quota(at_work, define, tenant):
    tenant.submissions_per_minute = 1
    tenant.save()
    define("strict", parameters={"type": "object", "required": ["cohort"]})
    context = at_work()
    for _ in range(2):
        with refused(Invalid, "invalid_parameters"):
            context.spawn("strict", {})

    assert context.spawn("child")


def test_the_wait_for_another_transactions_child_of_the_same_key_is_limited(jobs, at_work, other, monkeypatch):
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


# ---- secrets -----------------------------------------------------------------------------------------------------


def test_a_secret_is_passed_only_where_the_child_declares_it_as_one(jobs, define, run_job):
    define("open", target="tests.sample_actions:echo")
    schema = {"type": "object", "properties": {"secret": {"type": "string", "writeOnly": True}}}
    parent = define("hand.on", target="tests.sample_actions:hand_on", parameters=schema)
    job = submission.submit(tenant=parent.tenant, program="hand.on", parameters={"secret": "opensesame"})
    ended = run_job(job.number)

    assert (ended.status, ended.error["type"]) == ("FAILED", storable.NotStorable.__name__)
    assert "opensesame" not in json.dumps(ended.error)
    assert family(job.number) == []


def test_a_key_that_holds_a_secret_is_refused(jobs, define, run_job):
    schema = {"type": "object", "properties": {"secret": {"type": "string", "writeOnly": True}}}
    parent = define("hand.on", target="tests.sample_actions:spawn_for", parameters=schema)
    job = submission.submit(tenant=parent.tenant, program="hand.on", parameters={"secret": "opensesame"})

    ended = run_job(job.number)

    assert (ended.status, ended.error["type"], family(job.number)) == ("FAILED", "NotStorable", [])


# ---- what the parent sees of its children ------------------------------------------------------------------------


def test_children_are_read_in_pages_in_the_order_of_their_numbers(jobs, at_work, monkeypatch):
    monkeypatch.setattr(children, "PAGE", 2)
    context = at_work()
    numbers = [context.spawn("child", {"value": n}, key=f"k{n}" if n else None) for n in range(5)]
    for number in reversed(numbers[:4]):
        end(jobs, number, FAILURE if number == numbers[1] else SUCCESS)

    seen = list(context.children)

    assert [one.number for one in seen] == numbers[:4]
    assert [one.key for one in seen] == ["", "k1", "k2", "k3"]
    assert [one.status for one in seen] == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]
    assert (seen[1].error["message"], seen[0].result, seen[0].program) == ("no", {"scored": 3}, "child")
    assert len(context.children) == 4
    assert context.children.counts == {"completed": 3, "failed": 1, "canceled": 0, "total": 5}


def test_the_time_limit_does_not_ring_while_children_are_read(at_work, monkeypatch):
    context = at_work()
    context.spawn("child")
    inside = []

    @contextmanager
    def uninterrupted():
        inside.append(1)
        yield

    monkeypatch.setattr(children, "uninterrupted", uninterrupted)
    read = context.children

    assert ([*iter(read)], len(read), read.counts["total"], len(inside)) == ([], 0, 1, 3)
