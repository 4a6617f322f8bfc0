"""The jobs of one message between the thread that runs them and the watcher: each taken once, each ending kept."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from jobsite.programs.execution import group as group_module
from jobsite.programs.execution.group import BUDGET_SECONDS, FLUSH_JOBS, Ended, Group, boot_time
from tests.programs.conftest import SUCCESS, a_claimed


def a_group(count=3, *, travels_alone=False, age=0.0):
    moment = datetime.now(UTC)
    claimed = [a_claimed(number=number, claimed_at=moment) for number in range(1, count + 1)]
    return Group(claimed, worker="w@here", claimed_at=boot_time() - age, travels_alone=travels_alone)


def end(group, held):
    group.end(Ended(held, SUCCESS, None))


# ---- turns -----------------------------------------------------------------------------------------------


def test_jobs_are_taken_in_order_and_each_starts_later_than_the_one_before():
    group = a_group(20)

    taken = [group.take() for _ in range(20)]

    assert [job.number for job, _ in taken] == list(range(1, 21))
    starts = [held.started_at for _, held in taken]
    assert starts == sorted(starts)
    assert all(held.started_at >= job.claimed_at for job, held in taken)
    assert all((held.number, held.token) == (job.number, job.token) for job, held in taken)
    assert group.take() is None


def test_no_job_starts_before_the_claim_of_any_other():
    moment = datetime.now(UTC)
    claimed = [a_claimed(number=n, claimed_at=moment + timedelta(seconds=2 - n)) for n in (1, 2)]
    group = Group(claimed, worker="w@here", claimed_at=boot_time(), travels_alone=False)

    starts = [group.take()[1].started_at for _ in range(2)]

    assert starts == sorted(starts)
    assert starts[0] >= max(one.claimed_at for one in claimed)


def test_a_job_that_travels_alone_starts_with_its_claim():
    group = a_group(1, travels_alone=True)

    job, held = group.take()

    assert held.started_at == job.claimed_at


def test_the_only_claimed_job_of_a_message_of_several_starts_when_it_is_taken():
    group = a_group(1, age=1.0)

    job, held = group.take()

    assert held.started_at > job.claimed_at


def test_a_job_that_was_taken_is_known_as_started_before_it_runs():
    group = a_group()
    assert group.started is None

    _, held = group.take()

    assert (group.started, group.running) == (held, None)


def test_nothing_is_taken_from_a_group_that_the_watcher_has_closed():
    group = a_group(3)
    group.take()

    unstarted = group.close()

    assert [held.number for held in unstarted] == [2, 3]
    assert {held.started_at for held in unstarted} == {None}
    assert group.take() is None
    assert group.close() == unstarted  # until they are given back
    group.returned()
    assert group.close() == []


def test_a_job_whose_lock_may_have_run_out_is_not_started(settings):
    settings.JOBSITE_LOCK_SECONDS = 8

    assert a_group(age=5.9).take() is not None
    assert a_group(age=6.1).take() is None


def test_the_time_of_a_group_is_up_two_hundred_milliseconds_after_its_claim():
    assert 0 < a_group().seconds_left <= BUDGET_SECONDS
    assert a_group(age=BUDGET_SECONDS).seconds_left <= 0


def test_between_two_threads_each_job_is_taken_or_given_back_never_both():
    for _ in range(200):
        group = a_group(50)
        taken, barrier = [], threading.Barrier(2)

        def run(group=group, taken=taken, barrier=barrier):
            barrier.wait()
            while (one := group.take()) is not None:
                taken.append(one[0].number)

        thread = threading.Thread(target=run)
        thread.start()
        barrier.wait()
        returned = [held.number for held in group.close()]
        thread.join()

        assert taken + returned == list(range(1, 51))


# ---- endings ---------------------------------------------------------------------------------------------


def test_endings_are_to_be_written_when_fifty_wait_or_one_for_twenty_milliseconds(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(group_module, "boot_time", lambda: now[0])
    group = a_group(FLUSH_JOBS + 1)
    assert not group.is_to_flush

    end(group, group.take()[1])
    assert not group.is_to_flush
    now[0] += 0.019
    end(group, group.take()[1])
    assert not group.is_to_flush
    now[0] += 0.0011
    assert group.is_to_flush

    assert len(group.take_ended()[0]) == 2
    for _ in range(FLUSH_JOBS - 1):
        end(group, group.take()[1])
    assert not group.is_to_flush
    end(group, group.started)
    assert group.is_to_flush


def test_endings_that_could_not_be_written_come_first_the_next_time_and_are_unsure_once():
    group = a_group(3)
    first, second, third = (group.take()[1] for _ in range(3))
    end(group, first)
    end(group, second)
    ended, was_unsure = group.take_ended()
    assert not was_unsure
    end(group, third)

    group.put_back(ended)

    again, was_unsure = group.take_ended()
    assert ([one.held for one in again], was_unsure) == ([first, second, third], True)
    assert group.take_ended() == ([], False)


def test_between_two_threads_each_ending_is_taken_once():
    group = a_group(2_000)
    seen, done = [], threading.Event()

    def write():
        while True:
            was_done = done.is_set()
            with group.flushing:
                ended, _ = group.take_ended()
            seen.extend(one.held.number for one in ended)
            if was_done:
                return

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while (taken := group.take()) is not None:
        end(group, taken[1])
    done.set()
    for writer in writers:
        writer.join()

    assert sorted(seen) == list(range(1, 2_001))


@pytest.mark.parametrize("count", [1, 50])
def test_a_group_belongs_to_the_queue_of_its_jobs(count):
    assert a_group(count).queue_id == 1
