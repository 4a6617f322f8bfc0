"""A worker manager's limit holds for all its workers together, at every moment."""

from jobsite.programs.models import Job
from tests.flows.jobs import effects, history
from tests.flows.processes import until


def test_two_workers_of_one_manager_never_run_more_than_it_allows(define, submit, start_worker, manager, folder):
    define(target="tests.sample_actions:work")
    workers = [start_worker("default", manager=manager.name, concurrency=2, wait=False) for _ in range(2)]
    for worker in workers:
        worker.wait_until_ready()

    jobs = [submit("sample", {"folder": str(folder), "seconds": 0.3}) for _ in range(12)]
    samples: list[int] = []

    def ended() -> bool:
        samples.append(Job.objects.filter(status="RUNNING").count())
        return Job.objects.filter(status="COMPLETED").count() == len(jobs)

    until(ended, "the jobs have ended", seconds=30)

    assert max(samples) == 2
    assert len(samples) > 20
    assert sorted(effects(folder)) == [(job.number, 1) for job in jobs]
    assert [history(job) for job in jobs] == [["SUCCESS"]] * 12
    by_worker = {attempt.worker for job in jobs for attempt in job.attempt_rows.all()}
    assert by_worker <= {"w1@flows", "w2@flows"}
