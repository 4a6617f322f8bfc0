"""PENDING -> QUEUED: who comes first, how many, and that nothing ready is ever forgotten."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from jobsite.programs.models import Job, Lane, Program, Queue, Worker, WorkerManager
from jobsite.programs.sql.window import BRISK_SECONDS
from jobsite.programs.transitions import dispatch as transition
from jobsite.programs.transitions.cancel import cancel
from jobsite.programs.transitions.dispatch import (
    ADVISORY_CLASS,
    Dispatched,
    dispatch,
    is_wanted,
    offer,
    requeue,
    wake,
)
from jobsite.programs.transitions.finish import finish
from jobsite.programs.transitions.submit import insert, insert_and_offer
from jobsite.tenants.models import Tenant
from tests.programs.conftest import LOCK_SECONDS, SUCCESS, claim_all, held, new_worker, queue_row, until

pytestmark = pytest.mark.django_db

WINDOW_WITHOUT_WORKERS = 2


def send(jobs, cursor=None, queue_id=None):
    """Dispatch once; the numbers in the order in which their messages go out."""
    moved = dispatch(cursor or jobs.cursor, queue_id=queue_id or jobs.queue_id, lock_seconds=LOCK_SECONDS)
    return [one.number for one in moved]


def send_one(jobs, number, cursor=None):
    offered = offer(cursor or jobs.cursor, number=number, lock_seconds=LOCK_SECONDS)
    return offered if isinstance(offered, Dispatched) else None


@pytest.fixture
def ready(jobs):
    """PENDING jobs whose lane is awake."""

    def make(count=1, program=None, **fields):
        numbers = jobs.many(count, program, **fields)
        wake(jobs.cursor, numbers)
        return numbers

    return make


@pytest.fixture
def wide(jobs, cursor):
    """A window that is never full."""
    new_worker(cursor, children=10_000)


def consume(jobs, numbers):
    """As if they had been run: they leave the window."""
    for number in numbers:
        cancel(jobs.cursor, number=number, tenant_id=jobs.row(number).tenant_id, by="test", reason="")


# ---- order -----------------------------------------------------------------------------------------------


def test_a_dispatched_job_is_queued_and_returned_with_its_queue_and_time_limit(jobs, define, ready):
    [number] = ready(1, define("slow", queue="content", timeout="7s"))

    [moved] = dispatch(jobs.cursor, queue_id=queue_row("content").pk, lock_seconds=LOCK_SECONDS)

    assert (moved.number, moved.queue, moved.timeout_seconds) == (number, "content", 7.0)
    job = jobs.row(number)
    assert (job.status, job.queued_at >= job.created_at) == ("QUEUED", True)


def test_jobs_of_one_moment_go_in_the_order_of_their_numbers(jobs, ready, wide):
    numbers = ready(20)
    jobs.cursor.execute("UPDATE jobsite_job SET due_at = now(), rank = now()")

    assert send(jobs) == numbers


def test_the_earlier_due_goes_first(jobs, ready, wide):
    late, early = ready(1)[0], ready(1)[0]
    jobs.make_due(early, -60)

    assert send(jobs) == [early, late]


@pytest.mark.parametrize(
    ("priority", "younger_by", "first"),
    [(1, 59, "urgent"), (1, 61, "old"), (10, 599, "urgent"), (10, 601, "old"), (-1, -59, "old"), (-1, -61, "urgent")],
)
def test_one_step_of_priority_is_worth_one_minute_of_waiting(jobs, ready, wide, priority, younger_by, first):
    old, urgent = ready(1)[0], ready(1, priority=priority)[0]
    jobs.make_due(old, -10_000)
    jobs.make_due(urgent, -10_000 + younger_by)

    assert send(jobs)[0] == {"old": old, "urgent": urgent}[first]


def test_an_urgent_job_does_not_wait_behind_the_window(jobs, ready):
    ready(50)
    send(jobs)
    [urgent] = ready(1, priority=100)

    consume(jobs, Job.objects.filter(status="QUEUED").values_list("number", flat=True)[:1])

    assert send(jobs) == [urgent]


# ---- the window ------------------------------------------------------------------------------------------


def test_while_no_worker_is_known_two_messages_are_out(jobs, ready):
    ready(10)

    assert len(send(jobs)) == WINDOW_WITHOUT_WORKERS
    assert send(jobs) == []


@pytest.mark.parametrize(
    ("workers", "window"),
    [
        ([{"children": 1}], 2),
        ([{"children": 4}], 5),
        ([{"children": 4}, {"children": 3}], 8),
        ([{"children": 4}, {"children": 3, "queues": ("content",)}], 5),
        ([{"children": 3, "queues": ("content", "default")}], 4),
        ([{"children": 3, "queues": ("content",)}], 2),
    ],
)
def test_the_window_is_one_message_for_each_idle_child_and_one_more(jobs, ready, cursor, workers, window):
    for place, worker in enumerate(workers):
        new_worker(cursor, f"w{place}@here", **worker)
    ready(20)

    assert len(send(jobs)) == window


@pytest.mark.parametrize(
    "change",
    [
        {"status": "STOPPING"},
        {"status": "STOPPED"},
        {"status": "LOST"},
        {"last_seen_at": datetime.now(UTC) - timedelta(seconds=LOCK_SECONDS + 20)},
    ],
    ids=["stopping", "stopped", "lost", "silent"],
)
def test_a_worker_that_stops_or_is_silent_makes_no_room(jobs, ready, worker, change):
    Worker.objects.update(children=8, **change)
    ready(20)

    assert len(send(jobs)) == WINDOW_WITHOUT_WORKERS


def test_children_that_work_are_not_idle(jobs, ready, cursor):
    worker = new_worker(cursor, children=4)
    for _ in range(3):
        jobs.running(worker=worker)
    ready(20)

    assert len(send(jobs)) == 2


def test_a_group_keeps_one_child_busy(jobs, ready, cursor):
    worker = new_worker(cursor, children=3)
    claim_all(cursor, [jobs.queued() for _ in range(5)], worker)
    ready(6)

    assert len(send(jobs)) == 3, "two idle children, and one more"


def test_a_worker_that_is_busy_throughout_has_one_message_waiting(jobs, ready, cursor):
    worker = new_worker(cursor, children=2)
    for _ in range(2):
        jobs.running(worker=worker)
    ready(20)

    assert len(send(jobs)) == 1
    assert send(jobs) == []


@pytest.mark.parametrize(("limit", "running", "window"), [(None, 0, 9), (8, 0, 9), (3, 0, 4), (3, 2, 2), (3, 3, 1)])
def test_a_managers_limit_bounds_the_idle_children(jobs, ready, cursor, limit, running, window):
    WorkerManager.objects.create(name="small", max_running=limit)
    worker = new_worker(cursor, manager="small", children=8)
    for _ in range(running):
        jobs.running(worker=worker)
    ready(20)

    assert len(send(jobs)) == window


@pytest.mark.parametrize(
    ("runs", "mean", "window"),
    [
        (0, None, 3),
        (19, 0.01, 3),  # a few lucky runs fill no window
        (20, 0.3, 3),
        (20, 0.018, 10),  # 2 children x 100 ms / (18 + 2 ms around it)
        (5_000, 0.001, 40),  # at most 20 a child
    ],
)
def test_short_jobs_make_the_window_as_deep_as_a_tenth_of_a_second(jobs, ready, cursor, runs, mean, window):
    new_worker(cursor, children=2)
    ready(60)
    Program.objects.update(measured_runs=runs, mean_seconds=mean, travels_in_groups=False)

    assert len(send(jobs)) == window


def test_short_jobs_that_are_queued_count_against_the_tenth_of_a_second(jobs, ready, cursor):
    new_worker(cursor, children=2)
    ready(60)
    Program.objects.update(measured_runs=20, mean_seconds=0.018)
    numbers = send(jobs)

    consume(jobs, numbers[:4])

    assert len(send(jobs)) == 4


def test_no_short_job_is_dispatched_behind_a_long_one(jobs, define, ready, cursor):
    new_worker(cursor, children=2)
    short, long = define("short"), define("long")
    Program.objects.update(measured_runs=20, mean_seconds=0.001)
    Program.objects.filter(code="long").update(mean_seconds=60)
    first = ready(10, short, priority=2)
    ready(1, long, priority=1)
    ready(10, short)

    assert sorted(send(jobs)) == first


# ---- groups ----------------------------------------------------------------------------------------------


def groups(jobs):
    """Dispatch once; the group of each job that went out."""
    moved = dispatch(jobs.cursor, queue_id=jobs.queue_id, lock_seconds=LOCK_SECONDS)
    return {one.number: one.group for one in moved}


@pytest.mark.parametrize(
    ("program", "job", "is_grouped"),
    [
        ({}, {}, True),
        ({"mean_seconds": 0.004}, {}, True),
        ({"mean_seconds": 0.0041}, {}, False),
        ({"measured_runs": 19}, {}, False),
        ({"travels_in_groups": False}, {}, False),
        ({}, {"alone": True}, False),
        ({}, {"losses": 1, "attempts": 1, "fence": 1}, False),
    ],
)
def test_only_short_jobs_without_a_loss_share_a_message(jobs, ready, wide, program, job, is_grouped):
    numbers = ready(3)
    Program.objects.update(**{"measured_runs": 20, "mean_seconds": 0.001} | program)
    Job.objects.filter(number=numbers[1]).update(**job)

    sent = groups(jobs)

    of_program = jobs.program.pk if is_grouped or job else None
    assert sent == dict(zip(numbers, [of_program, jobs.program.pk if is_grouped else None, of_program], strict=True))


def test_a_child_of_another_job_shares_no_message(jobs, ready, wide):
    parent, child = ready(2)
    Program.objects.update(measured_runs=20, mean_seconds=0.001)
    Job.objects.filter(number=child).update(parent_id=parent, child_key="one", parent_fence=1, trigger="CHILD")

    assert groups(jobs) == {parent: jobs.program.pk, child: None}


@pytest.mark.parametrize(
    ("children", "mean", "expected"),
    [
        (2, 0.0008, [40, 160]),  # 200: 2 children x 100 ms / (0.8 + 0.2 ms around it)
        (1, 0.0008, [20, 80]),
        (2, 0.0038, [40, 10]),
        (1, 0.0, [20, 100, 380]),
    ],
)
def test_a_tenth_of_a_second_holds_many_jobs_of_a_group(jobs, ready, cursor, children, mean, expected):
    new_worker(cursor, children=children)
    ready(600)
    Program.objects.update(measured_runs=20, mean_seconds=mean)

    # To read as much as a window may hold costs more than many a job: what is out grows fivefold until it is full.
    assert [len(send(jobs)) for _ in expected] == pytest.approx(expected, abs=1)


def test_each_job_says_how_many_are_queued_for_how_many_children(jobs, ready, cursor):
    new_worker(cursor, children=2)
    ready(30)
    Program.objects.update(measured_runs=20, mean_seconds=0.001)

    moved = dispatch(cursor, queue_id=jobs.queue_id, lock_seconds=LOCK_SECONDS)

    assert {(one.queued, one.children) for one in moved} == {(30, 2)}


# ---- what is not dispatched ------------------------------------------------------------------------------


def pause_queue(queue_id):
    Queue.objects.filter(pk=queue_id).update(paused_at=datetime.now(UTC))


@pytest.mark.parametrize(
    "stop",
    [
        lambda jobs: pause_queue(jobs.queue_id),
        lambda jobs: Lane.objects.update(paused_at=datetime.now(UTC)),
        lambda jobs: Tenant.objects.filter(code="acme").update(status="SUSPENDED"),
    ],
    ids=["queue", "lane", "tenant"],
)
def test_a_paused_job_is_not_dispatched_until_the_pause_ends(jobs, ready, stop):
    [number] = ready(1)
    stop(jobs)

    assert send(jobs) == []
    assert send_one(jobs, number) is None

    Queue.objects.update(paused_at=None)
    Lane.objects.update(paused_at=None)
    Tenant.objects.update(status="ACTIVE")
    assert send(jobs) == [number]


@pytest.mark.parametrize(
    "fields",
    [{"hold_by": "alice"}, {"scheduled_at": datetime.now(UTC) + timedelta(hours=1)}],
    ids=["held", "future"],
)
def test_what_is_blocked_is_not_dispatched(jobs, ready, fields):
    [number] = ready(1, **fields)

    assert send(jobs) == []
    assert send_one(jobs, number) is None


def test_a_paused_programs_jobs_do_not_block_others(jobs, define, ready):
    paused = define("paused")
    Program.objects.filter(pk=paused.pk).update(status="PAUSED")
    ready(100, paused, priority=100)
    [number] = ready(1)

    assert send(jobs) == [number]


def test_the_jobs_of_other_queues_are_left_to_their_own_dispatch(jobs, define, ready):
    [theirs] = ready(1, define("other", queue="content"))
    [ours] = ready(1)

    assert send(jobs) == [ours]
    assert send(jobs, queue_id=queue_row("content").pk) == [theirs]


def test_a_queue_that_does_not_exist_dispatches_nothing(jobs):
    assert send(jobs, queue_id=10**6) == []


# ---- fairness --------------------------------------------------------------------------------------------


@pytest.fixture
def program_of(define):
    """A program of another tenant, made when first asked for: `program_of("umbrella", weight=3)`."""

    def make(code, **tenant):
        program = Program.objects.get(pk=define(f"of-{code}").pk)
        program.pk, program.tenant = None, Tenant.objects.create(code=code, name=code, **tenant)
        program.save(force_insert=True)
        return program

    return make


def test_the_first_job_of_a_tenant_does_not_wait_for_anothers_flood(jobs, ready, program_of):
    ready(1_000)
    [theirs] = ready(1, program_of("umbrella"))

    assert theirs in send(jobs)


def test_the_first_job_of_a_tenant_does_not_wait_for_a_flood_that_has_been_served_for_long(jobs, ready, program_of):
    ready(200, program_of("umbrella"))
    ready(200)
    for _ in range(30):
        consume(jobs, send(jobs))

    [theirs] = ready(1, program_of("tyrell"))

    assert theirs in send(jobs)


def test_a_tenant_does_not_save_up_service_while_it_has_no_jobs(jobs, ready, program_of):
    others = [program_of("umbrella"), program_of("tyrell")]
    for program in others:
        ready(300, program)
    for _ in range(50):
        consume(jobs, send(jobs))
    ready(300)

    served = tenants_of(jobs, batches=30)

    assert 18 <= served["acme"] <= 22  # a third of sixty


def tenants_of(jobs, *, batches):
    """Whose jobs went out in so many batches of two."""
    served = Counter()
    for _ in range(batches):
        numbers = send(jobs)
        served.update(Job.objects.filter(number__in=numbers).values_list("tenant__code", flat=True))
        consume(jobs, numbers)
    return served


def test_tenants_are_served_by_their_weights(jobs, ready, program_of):
    ready(200)
    ready(200, program_of("umbrella", weight=3))

    served = tenants_of(jobs, batches=60)

    assert sum(served.values()) == 120
    assert served["umbrella"] / served["acme"] == pytest.approx(3, abs=0.3)


def test_priority_orders_a_tenants_own_jobs_and_does_not_affect_other_tenants(jobs, ready, program_of):
    ready(50, priority=100)
    ready(50, program_of("umbrella"), priority=-100)

    served = tenants_of(jobs, batches=20)

    assert served["umbrella"] == served["acme"] == 20


def test_an_empty_lane_does_not_cost_another_its_turn(jobs, ready, program_of):
    for code in ("umbrella", "tyrell", "cyberdyne"):
        consume(jobs, ready(1, program_of(code)))  # their lanes are still awake
    [number] = ready(1, program_of("last"))

    assert send(jobs) == [number]


# ---- the quota of a tenant -------------------------------------------------------------------------------


def quota(jobs, number):
    Tenant.objects.filter(pk=jobs.program.tenant_id).update(running_quota=number)


@pytest.mark.parametrize(
    ("running", "queued", "sent"), [(0, 0, 4), (1, 0, 3), (1, 2, 1), (2, 2, 0), (4, 0, 0), (9, 0, 0)]
)
def test_no_more_jobs_are_dispatched_than_a_tenant_may_run(jobs, ready, wide, running, queued, sent):
    for _ in range(running):
        jobs.running()
    for _ in range(queued):
        jobs.queued()
    numbers = ready(8)
    quota(jobs, 4)

    assert send(jobs) == numbers[:sent]


def test_a_tenant_over_its_quota_does_not_block_others(jobs, ready, wide, program_of):
    mine = ready(3)
    others = ready(3, program_of("b"))
    quota(jobs, 0)

    assert send(jobs) == others

    quota(jobs, None)
    assert send(jobs) == mine, "its lane stayed awake"


@pytest.mark.parametrize(("limit", "is_sent"), [(1, False), (2, True), (None, True)])
def test_the_fast_path_keeps_to_the_quota_and_wakes_the_lane(jobs, wide, limit, is_sent):
    jobs.running()
    quota(jobs, limit)
    number = jobs.pending()

    assert bool(send_one(jobs, number)) is is_sent

    assert is_sent or Lane.objects.get().is_waiting


# ---- lanes -----------------------------------------------------------------------------------------------


def lane(jobs):
    return Lane.objects.get(queue_id=jobs.queue_id, tenant__code="acme")


def test_a_lane_sleeps_once_dispatch_found_nothing_in_it(jobs, ready):
    ready(1)
    assert lane(jobs).is_waiting

    send(jobs)
    send(jobs)

    assert not lane(jobs).is_waiting


def test_a_sleeping_lane_is_woken_by_the_next_job(jobs, ready):
    consume(jobs, ready(1))
    send(jobs)

    [number] = ready(1)

    assert send(jobs) == [number]


@pytest.mark.parametrize("status", ["QUEUED", "RUNNING", "COMPLETED", "CANCELED"])
def test_only_ready_jobs_wake_a_lane(jobs, status):
    wake(jobs.cursor, [jobs.in_status(status), jobs.pending(hold_by="alice")])

    assert not Lane.objects.exists()


def test_a_lane_is_not_closed_over_a_job_that_came_since_dispatch_looked(jobs, ready, connect_more):
    submitter, dispatcher = connect_more(), connect_more()
    consume(jobs, ready(1))  # an empty lane that is awake: the next dispatch closes it
    new = jobs.new()

    with ThreadPoolExecutor(1) as pool:
        with submitter.transaction(), submitter.cursor() as cursor:
            [row] = insert(cursor, [new])
            wake(cursor, [row.number])
            looked = pool.submit(send, jobs, dispatcher.cursor())
            until(lambda: is_blocked(jobs.cursor, dispatcher))
        assert looked.result(10) == []

    assert lane(jobs).is_waiting
    assert send(jobs) == [row.number]


@pytest.mark.parametrize(
    ("waiting", "queued", "enough", "expected"),
    [(1, 0, 0, True), (1, 0, 2, True), (1, 1, 2, True), (1, 2, 2, False), (1, 3, 2, False), (1, 3, 0, True),
     (0, 0, 0, False), (0, 0, 2, False)],
)  # fmt: skip
def test_a_dispatch_is_wanted_where_a_lane_is_awake_and_too_few_are_queued(
    jobs, ready, define, waiting, queued, enough, expected
):
    if waiting:
        ready(waiting)
    elsewhere = define("elsewhere", queue="content")
    for _ in range(queued):
        jobs.queued()
        jobs.queued(elsewhere)  # which counts for its own queue alone

    assert is_wanted(jobs.cursor, queue_id=jobs.queue_id, enough=enough) is expected


@pytest.fixture
def empty_lane(jobs, ready):
    """Awake, with nothing in it: the next dispatch closes it."""
    consume(jobs, ready(1))
    assert lane(jobs).is_waiting


def fill_window(jobs):
    return [jobs.in_status("QUEUED") for _ in range(WINDOW_WITHOUT_WORKERS)]


@pytest.mark.usefixtures("empty_lane")
def test_a_lane_stays_awake_for_a_submission_that_saw_it_awake(jobs, connect_more):
    submitter, dispatcher = connect_more(), connect_more()
    sent, new = fill_window(jobs), jobs.new()

    with submitter.transaction(), submitter.cursor() as cursor:
        row = insert_and_offer(cursor, new, lock_seconds=LOCK_SECONDS)
        assert (row.is_queued, row.is_expected) == (False, True)
        consume(jobs, sent)
        assert send(jobs, dispatcher.cursor()) == []  # the row is not in sight yet

    assert lane(jobs).is_waiting
    assert send(jobs) == [row.number]


@pytest.mark.usefixtures("empty_lane")
def test_a_submission_waits_for_a_dispatch_that_closes_its_lane_and_sees_it_closed(jobs, connect_more):
    submitter, dispatcher = connect_more(), connect_more()
    new = jobs.new()

    with ThreadPoolExecutor(1) as pool:
        with dispatcher.transaction(), dispatcher.cursor() as cursor:
            assert send(jobs, cursor) == []
            fill_window(jobs)
            offered = pool.submit(insert_and_offer, submitter.cursor(), new, lock_seconds=LOCK_SECONDS)
            until(lambda: is_blocked(jobs.cursor, submitter))
        assert (offered.result(10).is_queued, offered.result().is_expected) == (False, False)


@pytest.fixture
def short(jobs, cursor):
    """A program of short runs with a worker whose children are all idle."""
    Program.objects.filter(pk=jobs.program.pk).update(measured_runs=20, mean_seconds=0.001)
    return new_worker(cursor, children=4)


def test_a_short_job_waits_for_one_that_has_just_begun(jobs, short, ready):
    [first, second, third] = ready(3)
    send_one(jobs, first)
    claim_all(jobs.cursor, [first], short)

    assert send_one(jobs, second) is None

    # It takes long, after all.
    Job.objects.filter(number=first).update(claimed_at=datetime.now(UTC) - timedelta(seconds=BRISK_SECONDS))
    assert send_one(jobs, second)
    assert send_one(jobs, third) is None  # there is one already that waits for a child


def test_a_short_job_does_not_wait_for_one_of_another_queue(jobs, short, define, ready):
    [other] = ready(1, define("other", queue="content"))
    Program.objects.update(measured_runs=20, mean_seconds=0.001)
    [mine] = ready(1)
    send_one(jobs, other)
    claim_all(jobs.cursor, [other], short)  # its finish dispatches its own queue

    assert send_one(jobs, mine)


def test_a_finish_that_came_before_the_lane_was_awake_is_not_waited_for(jobs, short, monkeypatch):
    first, second = jobs.many(2)
    assert send_one(jobs, first)
    [claimed] = claim_all(jobs.cursor, [first], short)

    def wake_too_late(cursor, numbers):
        finish(cursor, held(claimed), SUCCESS)
        assert send(jobs) == [], "the lane sleeps, and the finish of the first passes it by"
        wake(cursor, numbers)

    monkeypatch.setattr(transition, "wake", wake_too_late)

    assert send_one(jobs, second)


def test_a_short_job_does_not_wait_for_a_long_one(jobs, short, define, ready):
    [first] = ready(1, define("long"))
    [second] = ready(1)
    send_one(jobs, first)
    claim_all(jobs.cursor, [first], short)

    assert send_one(jobs, second)


def is_blocked(cursor, connection):
    cursor.execute("SELECT cardinality(pg_blocking_pids(%s)) > 0", [connection.info.backend_pid])
    return cursor.fetchone()[0]


def test_nothing_ready_is_left_when_many_submit_and_dispatch_at_once(jobs, race, program_of):
    programs = [jobs.program, program_of("umbrella"), program_of("tyrell")]
    new = [jobs.new(program) for program in programs]
    insert(jobs.cursor, new)  # keeps their contexts

    def busy(place):
        def work(cursor):
            for turn in range(20):
                if turn % 2:
                    [row] = insert(cursor, [new[(place + turn) % 3]])
                    if send_one(jobs, row.number, cursor) is None:
                        wake(cursor, [row.number])
                        send(jobs, cursor)
                else:
                    row = insert_and_offer(cursor, new[(place + turn) % 3], lock_seconds=LOCK_SECONDS)
                    if not row.is_queued and not row.is_expected:
                        send_one(jobs, row.number, cursor)
                cursor.execute(  # the oldest message is done
                    "UPDATE jobsite_job SET status = 'CANCELED', finished_at = clock_timestamp() WHERE number ="
                    " (SELECT min(number) FROM jobsite_job WHERE status = 'QUEUED') AND status = 'QUEUED'"
                )
                send(jobs, cursor)

        return work

    assert race(*[busy(place) for place in range(6)]) == [None] * 6

    while Lane.objects.filter(is_waiting=True).exists():
        consume(jobs, Job.objects.filter(status="QUEUED").values_list("number", flat=True))
        send(jobs)
    assert Job.objects.count() == 123
    assert not Job.objects.filter(status="PENDING").exists()


# ---- one dispatcher at a time ----------------------------------------------------------------------------


def test_a_dispatcher_that_misses_the_lock_does_nothing(jobs, ready, other):
    ready(10)

    with other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(%s, %s::integer)", [ADVISORY_CLASS, jobs.queue_id])
        assert send(jobs) == []

    assert len(send(jobs)) == WINDOW_WITHOUT_WORKERS


def test_dispatchers_of_two_queues_do_not_block_each_other(jobs, define, ready, other):
    ready(1)
    [theirs] = ready(1, define("other", queue="content"))

    with other.transaction(), other.cursor() as cursor:
        send(jobs, cursor)
        assert send(jobs, queue_id=queue_row("content").pk) == [theirs]


def test_dispatchers_at_once_keep_to_the_window(jobs, ready, race):
    ready(100)
    for _ in range(10):
        race(*[lambda cursor: send(jobs, cursor)] * 6)

        queued = list(Job.objects.filter(status="QUEUED").values_list("number", flat=True))
        assert len(queued) == WINDOW_WITHOUT_WORKERS
        consume(jobs, queued)


def test_a_job_that_is_being_changed_is_left_for_the_next_round(jobs, ready, other):
    locked, free = ready(2)

    with other.transaction(), other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM jobsite_job WHERE number = %s FOR NO KEY UPDATE", [locked])
        assert send(jobs) == [free]

    assert send(jobs) == [locked]


# ---- the fast path ---------------------------------------------------------------------------------------


def test_a_new_job_goes_straight_out_while_there_is_room(jobs):
    number = jobs.pending()

    moved = send_one(jobs, number)

    assert (moved.number, moved.queue, jobs.status(number)) == (number, "default", "QUEUED")
    assert not Lane.objects.exists()


def test_a_new_job_does_not_overtake_a_better_one_of_its_lane(jobs):
    better, number = jobs.pending(), jobs.pending()

    assert send_one(jobs, number) is None
    assert send_one(jobs, better).number == better


def test_an_urgent_new_job_overtakes(jobs):
    jobs.pending()
    urgent = jobs.pending(priority=1)

    assert send_one(jobs, urgent).number == urgent


def test_another_tenants_better_job_does_not_keep_a_new_one_back(jobs, program_of):
    jobs.pending(program_of("umbrella"))
    number = jobs.pending()

    assert send_one(jobs, number).number == number


def test_without_room_a_new_job_waits(jobs):
    for _ in range(WINDOW_WITHOUT_WORKERS):
        jobs.queued()

    assert send_one(jobs, jobs.pending()) is None


@pytest.mark.parametrize("status", ["QUEUED", "RUNNING", "COMPLETED", "CANCELED"])
def test_only_a_pending_job_takes_the_fast_path(jobs, status):
    number = jobs.in_status(status)

    assert send_one(jobs, number) is None

    assert jobs.status(number) == status


def test_submissions_at_once_overfill_the_window_by_their_own_number_at_most(jobs, race):
    numbers = [jobs.pending(priority=place) for place in range(8)]

    race(*[lambda cursor, number=number: send_one(jobs, number, cursor) for number in numbers])

    queued = Job.objects.filter(status="QUEUED").count()
    assert 1 <= queued <= WINDOW_WITHOUT_WORKERS + len(numbers)


# ---- lost messages ---------------------------------------------------------------------------------------


def test_jobs_whose_message_is_lost_are_put_back_and_their_lanes_woken(jobs):
    old, young = jobs.queued(), jobs.queued()
    jobs.set(old, "queued_at = clock_timestamp() - interval '10 seconds'")

    assert requeue(jobs.cursor, queue_id=jobs.queue_id, older_than=5) == [old]

    job = jobs.row(old)
    assert (job.status, job.queued_at, jobs.status(young)) == ("PENDING", None, "QUEUED")
    assert send(jobs) == [old]


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "WAITING", "COMPLETED"])
def test_only_queued_jobs_have_a_message_to_lose(jobs, status):
    number = jobs.in_status(status)

    assert requeue(jobs.cursor, queue_id=jobs.queue_id, older_than=0) == []

    assert jobs.status(number) == status


def test_a_lost_message_that_arrives_after_all_does_no_harm(jobs, worker):
    number = jobs.queued()
    requeue(jobs.cursor, queue_id=jobs.queue_id, older_than=0)

    assert claim_all(jobs.cursor, [number], worker) == []

    jobs.queue(number)
    [claimed] = claim_all(jobs.cursor, [number], worker)
    finish(jobs.cursor, held(claimed), SUCCESS)
    assert jobs.attempts(number) == ["SUCCESS"]
