"""Short jobs in one message: what happens to one of them does not affect the others."""

from datetime import UTC, datetime, timedelta

import pytest

from jobsite.programs import operations
from jobsite.programs.models import Job, Program, Queue
from jobsite.tenants.models import Tenant
from tests.flows.jobs import (
    all_finished,
    attempts,
    finished,
    history,
    log_of,
    queued_each,
    running,
    send_group,
)
from tests.flows.processes import until

pytestmark = pytest.mark.usefixtures("worker")

WORKER = {"concurrency": 2}
SOON = timedelta(seconds=1.5)  # a quarter of a second, with room for a busy machine


@pytest.fixture
def notes(tmp_path):
    """What `note` wrote: (number, fence, process) in the order of the runs. `.act` are its parameters."""
    return Notes(tmp_path / "notes")


class Notes:
    def __init__(self, path):
        self.path = path
        self.act = {"act": "note", "path": str(path)}

    def read(self):
        return [tuple(map(int, line.split())) for line in self.path.read_text().splitlines()]

    def runs(self):
        return [(number, fence) for number, fence, _ in self.read()]


def outcomes(jobs):
    return {(job.status, job.attempts, job.losses) for job in jobs}


def counted(job):
    """How the runs ended, without those that were given back: a slow machine may split a group."""
    return [result for result in history(job) if result != "RETURNED"]


# ---- all goes well ---------------------------------------------------------------------------------------


def test_a_group_runs_in_order_of_number_by_one_claim(group, notes):
    jobs = group(*[notes.act] * 50)

    send_group(jobs[::-1])
    ended = all_finished(jobs)

    numbers = [job.number for job in jobs]
    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    assert notes.runs() == [(number, 1) for number in numbers]
    assert len({process for _, _, process in notes.read()}) == 1
    assert len({job.external_id for job in ended}) == 1
    runs = [attempts(job) for job in ended]
    assert [[(run.result, run.fence) for run in of_job] for of_job in runs] == [[("SUCCESS", 1)]] * 50
    assert len({of_job[0].token for of_job in runs}) == 50
    starts = [job.started_at for job in ended]
    assert starts == sorted(starts)
    assert len(set(starts)) == 50
    assert all(job.claimed_at <= job.started_at <= job.finished_at for job in ended)
    assert [of_job[0].started_at for of_job in runs] == starts
    assert [job.result for job in ended] == [{"number": number} for number in numbers]
    assert [log_of(job) for job in ended] == [[f"this is {number}"] for number in numbers]


# ---- one that is slow ------------------------------------------------------------------------------------


def test_jobs_behind_a_slow_one_are_given_back_soon_and_uncounted(group, notes, operator, tmp_path):
    jobs = group({"act": "wait_for", "path": str(tmp_path / "never")}, *[notes.act] * 9, timeout="100s")
    first, others = jobs[0], jobs[1:]

    send_group(jobs)
    ended = all_finished(others)

    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    assert {tuple(history(job)) for job in ended} == {("RETURNED", "SUCCESS")}
    assert {job.alone for job in ended} == {False}
    returned = [attempts(job)[0] for job in ended]
    assert all(timedelta(seconds=0.2) <= run.ended_at - run.claimed_at < SOON for run in returned)
    assert {run.started_at for run in returned} == {None}
    assert sorted(notes.runs()) == [(job.number, 2) for job in others]
    first.refresh_from_db()
    assert (first.status, first.fence) == ("RUNNING", 1)
    assert first.started_at - first.claimed_at < timedelta(seconds=0.2)
    assert running(first).progress == {"processed": 0, "total": 1, "message": "waiting"}

    assert operations.jobs.cancel(operator, first.number) == "RUNNING"
    canceled = finished(first)

    assert (canceled.status, canceled.attempts, history(canceled)) == ("CANCELED", 1, ["CANCELED"])
    assert canceled.started_at == first.started_at


def test_jobs_that_ended_before_one_that_hangs_are_stored_while_it_hangs(group, notes):
    hang = {"act": "hang", "seconds": 60}
    jobs = group(notes.act, notes.act, hang, notes.act, timeout="3s")

    send_group(jobs)
    ended = all_finished(jobs[:2], seconds=2.5)
    hanging = running(jobs[2])

    assert {tuple(history(job)) for job in ended} == {("SUCCESS",)}
    assert [log_of(job) for job in ended] == [[f"this is {job.number}"] for job in ended]
    until(lambda: Job.objects.get(number=hanging.number).started_at, "it has started")
    assert finished(jobs[3]).status == "COMPLETED"

    timed_out = finished(hanging)
    assert (timed_out.status, timed_out.failure_kind) == ("FAILED", "TIMEOUT")
    assert (timed_out.attempts, timed_out.losses, history(timed_out)) == (1, 0, ["TIMEOUT"])
    assert (timed_out.finished_at - timed_out.started_at).total_seconds() == pytest.approx(3, abs=1)


def test_a_job_of_a_group_is_stopped_by_force_without_effect_on_the_others(group, notes, operator):
    jobs = group(notes.act, {"act": "hang", "seconds": 60}, notes.act, cancel_grace="0.5s", timeout="100s")
    send_group(jobs)
    others = all_finished([jobs[0], jobs[2]])

    operations.jobs.cancel(operator, jobs[1].number)
    canceled = finished(jobs[1])

    assert (canceled.status, canceled.attempts, history(canceled)) == ("CANCELED", 1, ["CANCELED"])
    assert outcomes(others) == {("COMPLETED", 1, 0)}


# ---- one that dies ---------------------------------------------------------------------------------------


def test_a_job_that_kills_its_process_fails_alone_and_costs_the_others_no_loss(group, notes, tmp_path):
    deadly = {"act": "die", "path": str(tmp_path / "deaths")}
    jobs = group(notes.act, notes.act, deadly, notes.act, notes.act, max_worker_losses=2)
    killer, others = jobs[2], [*jobs[:2], *jobs[3:]]

    send_group(jobs)
    failed, *ended = [finished(killer), *all_finished(others)]

    assert (failed.status, failed.failure_kind, failed.attempts, failed.losses) == ("FAILED", "WORKER_LOST", 2, 2)
    assert history(failed) == ["RETURNED", "LOST", "LOST"]
    assert (tmp_path / "deaths").read_text() == "".join(f"{killer.number} {fence}\n" for fence in (1, 2, 3))
    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    assert {(job.alone, tuple(history(job))) for job in ended} == {(True, ("RETURNED", "SUCCESS"))}
    assert len({job.external_id for job in [failed, *ended]}) == 5
    assert attempts(ended[0])[0].error["message"] == "Worker lost during execution: the child process died"


# ---- all sorts of ends -----------------------------------------------------------------------------------


def test_each_job_of_a_group_ends_in_its_own_way(group, notes, define, operator, worker):
    acts = {
        "unstorable": {"act": "unstorable"},
        "nan": {"act": "not_a_number"},
        "retried": {"act": "fail_until", "attempt": 2},
        "permanent": {"act": "refuse"},
        "snoozed": {"act": "snooze", "seconds": 3_600},
        "left": {"act": "leave", "status": 3},
        "warned": {"act": "warn"},
        "good": notes.act,
    }
    jobs = dict(zip(acts, group(*acts.values(), retry={"initial_interval": "0.1s"}), strict=True))
    elsewhere = define(code="elsewhere")
    elsewhere.actions.update(configuration={"target": "tests.sample_actions:nowhere"})
    [unknown] = queued_each(operator, elsewhere, [{}])

    send_group([*list(jobs.values())[:-1], unknown, jobs["good"]])
    all_finished([job for name, job in jobs.items() if name != "snoozed"])
    rows = {name: Job.objects.get(number=job.number) for name, job in (jobs | {"unknown": unknown}).items()}

    assert {name: (row.status, row.attempts, row.losses, counted(row)) for name, row in rows.items()} == {
        "unstorable": ("COMPLETED", 1, 0, ["SUCCESS"]),
        "nan": ("FAILED", 1, 0, ["PERMANENT"]),
        "retried": ("COMPLETED", 2, 0, ["TRANSIENT", "SUCCESS"]),
        "permanent": ("FAILED", 1, 0, ["PERMANENT"]),
        "snoozed": ("PENDING", 0, 0, []),
        "left": ("FAILED", 1, 0, ["PERMANENT"]),
        "warned": ("COMPLETED", 1, 0, ["SUCCESS"]),
        "good": ("COMPLETED", 1, 0, ["SUCCESS"]),
        "unknown": ("PENDING", 0, 0, []),
    }
    assert rows["unstorable"].result == {"nul": "a\ufffdb", "lone": "\ufffd and \ufffd", "fine": "ä€😀"}
    assert rows["nan"].error["message"].startswith("result could not be stored")
    assert (rows["left"].error["type"], rows["left"].error["message"]) == ("SystemExit", "3")
    assert (rows["snoozed"].blocked, rows["unknown"].blocked) == ("SCHEDULED", "SCHEDULED")
    assert (rows["unknown"].returns, rows["warned"].outcome) == (1, "WARNING")
    assert not worker.has_logged("group_finished_one_by_one")


# ---- acts after the message was sent -----------------------------------------------------------------------


def test_jobs_that_are_canceled_or_held_after_their_message_was_sent_do_not_run(group, notes, operator):
    jobs = group(*[notes.act] * 4)
    operations.jobs.cancel(operator, jobs[1].number)
    operations.jobs.hold(operator, jobs[2].number)

    send_group(jobs)
    all_finished([jobs[0], jobs[3]])

    assert notes.runs() == [(jobs[0].number, 1), (jobs[3].number, 1)]
    assert [Job.objects.get(number=job.number).status for job in jobs[1:3]] == ["CANCELED", "PENDING"]
    operations.jobs.release(operator, jobs[2].number)
    assert (finished(jobs[2]).status, history(jobs[2])) == ("COMPLETED", ["SUCCESS"])


@pytest.mark.parametrize(
    ("stop", "go_on"),
    [
        (lambda: Program.objects.update(status="PAUSED"), lambda: Program.objects.update(status="ACTIVE")),
        (
            lambda: Queue.objects.filter(name="default").update(paused_at=datetime.now(UTC)),
            lambda: Queue.objects.update(paused_at=None),
        ),
        (
            lambda: Tenant.objects.filter(code="acme").update(status="SUSPENDED"),
            lambda: Tenant.objects.update(status="ACTIVE"),
        ),
    ],
    ids=["program", "queue", "tenant"],
)
def test_jobs_that_are_paused_after_their_message_was_sent_wait_and_run_later(group, notes, stop, go_on):
    jobs = group(*[notes.act] * 5)
    stop()

    send_group(jobs)
    waiting = Job.objects.filter(number__in=[job.number for job in jobs], status="PENDING")
    until(lambda: waiting.count() == 5, "all have gone back")
    assert not notes.path.exists()
    go_on()
    ended = all_finished(jobs)

    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    assert {tuple(history(job)) for job in ended} == {("SUCCESS",)}


# ---- canceled while the group runs -----------------------------------------------------------------------


def test_a_job_that_is_canceled_before_its_turn_and_goes_back_never_runs(group, notes, operator):
    jobs = group({}, notes.act, notes.act)
    Job.objects.filter(number=jobs[0].number).update(
        parameters={"act": "cancel_another", "number": jobs[2].number, "seconds": 1.0}
    )

    send_group(jobs)
    ended = all_finished(jobs)

    assert [job.status for job in ended] == ["COMPLETED", "COMPLETED", "CANCELED"]
    assert (ended[2].attempts, history(ended[2])) == (0, ["RETURNED"])
    assert notes.runs() == [(jobs[1].number, 2)]


# ---- what one job leaves behind --------------------------------------------------------------------------


def test_a_transaction_that_an_action_leaves_open_does_not_lose_the_writes_of_the_next(group, tenant):
    jobs = group({"act": "forget_autocommit"}, {"act": "rename_tenant", "name": "renamed"})

    send_group(jobs)
    ended = all_finished(jobs)

    assert outcomes(ended) == {("COMPLETED", 1, 0)}
    tenant.refresh_from_db()
    assert tenant.name == "renamed"
