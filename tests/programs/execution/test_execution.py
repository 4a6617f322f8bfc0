"""Running the jobs of a message where the process is asked to end, or an answer is lost."""

import json
from uuid import UUID

import psycopg
import pytest

from jobsite.programs import execution, workers
from jobsite.programs.execution import completion
from jobsite.programs.models import JobLogEntry
from tests.programs.conftest import new_worker

MESSAGE = UUID(int=7)
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def group(jobs, cursor, define, monkeypatch):
    """The numbers of QUEUED jobs with these acts, in a process of a worker."""
    monkeypatch.setattr(workers, "_registered", new_worker(cursor))

    def make(*acts):
        program = define(target="tests.sample_actions:perform")
        return [jobs.queued(program, parameters=json.dumps({"act": act})) for act in acts]

    return make


def test_when_the_process_is_asked_to_end_finished_runs_are_written_and_no_other_starts(jobs, group):
    numbers = group("warn", "fail", "interrupt", "succeed")

    with pytest.raises(KeyboardInterrupt):
        execution.run(numbers, message=MESSAGE)

    assert [jobs.status(number) for number in numbers] == ["COMPLETED", "FAILED", "RUNNING", "RUNNING"]
    assert [jobs.attempts(number) for number in numbers] == [["SUCCESS"], ["PERMANENT"], [], []]
    assert JobLogEntry.objects.get(job_number__in=numbers).job_number == numbers[0]


def test_the_last_try_takes_a_new_connection_and_never_hides_why_the_process_ends(jobs, group, monkeypatch):
    numbers = group("succeed", "interrupt")
    monkeypatch.setattr(completion, "settle_once", fails)

    with pytest.raises(KeyboardInterrupt):
        execution.run(numbers, message=MESSAGE)

    assert [jobs.status(number) for number in numbers] == ["RUNNING", "RUNNING"]


def fails(cursor, group):
    raise ConnectionError("the database is away")


class LosesTheAnswer(psycopg.Cursor):
    """The statement is executed and committed; its answer never arrives."""

    def fetchall(self):
        self.connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")


@pytest.mark.parametrize("acts", [["succeed"], ["succeed", "fail"]], ids=["alone", "group"])
def test_a_claim_whose_answer_was_lost_is_read_back(jobs, group, acts):
    numbers = group(*acts)
    workers.connection().cursor_factory = LosesTheAnswer

    assert execution.run(numbers, message=MESSAGE) == len(numbers)

    results = {"succeed": "SUCCESS", "fail": "PERMANENT"}
    assert [jobs.attempts(number) for number in numbers] == [[results[act]] for act in acts]
    assert {jobs.row(number).fence for number in numbers} == {1}
