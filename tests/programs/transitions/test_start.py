"""RUNNING stays RUNNING: the job of a group that goes on alone is known to have started."""

from datetime import timedelta
from uuid import uuid4

import pytest

from jobsite.programs.transitions.finish import Held, finish
from jobsite.programs.transitions.reap import reap_expired
from jobsite.programs.transitions.start import start
from tests.programs.conftest import SUCCESS, claim_all, held

pytestmark = pytest.mark.django_db


@pytest.fixture
def claimed(jobs):
    """A job of a group of two."""
    return claim_all(jobs.cursor, [jobs.queued(), jobs.queued()], jobs.worker)[0]


def later(claimed, token=None):
    return Held(claimed.number, token or claimed.token, "w@here", claimed.claimed_at + timedelta(milliseconds=150))


def test_a_job_of_a_group_starts_in_the_workers_memory_and_is_then_known_to_have_started(jobs, claimed):
    assert jobs.row(claimed.number).started_at is None

    start(jobs.cursor, later(claimed))

    job = jobs.row(claimed.number)
    assert (job.status, job.started_at, job.lock_token) == ("RUNNING", later(claimed).started_at, claimed.token)


def test_only_the_holder_records_that_a_job_has_started(jobs, claimed):
    start(jobs.cursor, later(claimed, token=uuid4()))

    assert jobs.row(claimed.number).started_at is None


def test_a_job_starts_once(jobs, claimed):
    start(jobs.cursor, held(claimed))

    start(jobs.cursor, later(claimed))

    assert jobs.row(claimed.number).started_at == claimed.claimed_at


def test_a_job_that_has_ended_does_not_start(jobs, claimed):
    jobs.expire_lock(claimed.number)
    reap_expired(jobs.cursor)

    start(jobs.cursor, later(claimed))

    assert (jobs.status(claimed.number), jobs.row(claimed.number).started_at) == ("PENDING", None)


def test_the_end_keeps_the_start(jobs, claimed):
    start(jobs.cursor, later(claimed))

    finish(jobs.cursor, later(claimed), SUCCESS)

    assert jobs.row(claimed.number).started_at == later(claimed).started_at
