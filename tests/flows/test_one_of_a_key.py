"""With real workers, jobs of one key run one after another, in order, and duplicates are refused."""

from itertools import pairwise

import pytest

from jobsite.errors import Conflict
from jobsite.programs import operations
from jobsite.programs.models import Job
from tests.flows.jobs import all_finished, finished, history

WORKER = {"concurrency": 4}
pytestmark = pytest.mark.usefixtures("worker")
SCHEMA = {"type": "object", "properties": {"folder": {}, "seconds": {}}}


def test_jobs_of_a_key_run_one_after_another_and_those_of_another_key_at_the_same_time(define, submit, folder):
    define(target="tests.sample_actions:work", overlap="QUEUE", overlap_keys=["seconds"], parameters=SCHEMA)

    jobs = [submit("sample", {"folder": str(folder), "seconds": (0.05, 0.06)[place % 2]}) for place in range(16)]
    ended = all_finished(jobs)

    assert {(job.status, *history(job)) for job in ended} == {("COMPLETED", "SUCCESS")}
    for key in (0.05, 0.06):
        runs = [job for job in ended if job.parameters["seconds"] == key]
        assert runs == sorted(runs, key=lambda job: job.claimed_at), "in order of their numbers"
        assert all(earlier.finished_at <= later.claimed_at for earlier, later in pairwise(runs))
        # The next one starts when its predecessor ends, not with the next sweep.
        waits = [(later.claimed_at - earlier.finished_at).total_seconds() for earlier, later in pairwise(runs)]
        assert sorted(waits)[len(waits) // 2] < 0.5


def test_a_canceled_predecessor_is_not_waited_for(define, submit, operator, folder):
    define(target="tests.sample_actions:work", overlap="QUEUE", parameters=SCHEMA)
    first = submit("sample", {"folder": str(folder), "seconds": 0.3})
    second, third = (submit("sample", {"folder": str(folder)}) for _ in range(2))
    operations.jobs.cancel(operator, second.number)

    assert [job.status for job in all_finished([first, second, third])] == ["COMPLETED", "CANCELED", "COMPLETED"]


def test_a_duplicate_is_refused_until_the_first_has_ended(define, submit, folder):
    define(target="tests.sample_actions:work", overlap="REJECT", parameters=SCHEMA)
    first = submit("sample", {"folder": str(folder), "seconds": 0.5})

    with pytest.raises(Conflict) as refusal:
        submit("sample", {"folder": str(folder)})

    assert refusal.value.details["existing_job"] == first.number
    assert finished(first).status == "COMPLETED"
    assert finished(submit("sample", {"folder": str(folder)})).status == "COMPLETED"
    assert Job.objects.count() == 2
