"""Jobs of a paused program come back when it goes on."""

import pytest

from jobsite.programs.models import Program
from jobsite.programs.transitions import pause

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("status", "blocked"), [("ACTIVE", None), ("TERMINATED", None), ("PAUSED", "PAUSED")])
def test_the_jobs_of_a_program_that_goes_on_come_back(jobs, status, blocked):
    Program.objects.filter(pk=jobs.program.pk).update(status="PAUSED")
    number = jobs.pending()
    Program.objects.filter(pk=jobs.program.pk).update(status=status)

    pause.unblock(jobs.cursor)

    assert jobs.row(number).blocked == blocked


def test_the_jobs_of_one_program_come_back_by_themselves(jobs, define):
    numbers = [jobs.pending(define(code)) for code in ("one", "two")]
    jobs.cursor.execute("UPDATE jobsite_job SET blocked = 'PAUSED'")
    one = Program.objects.get(code="one")

    assert pause.unblock(jobs.cursor, program_id=one.pk) == [(numbers[0], one.queue_id)]

    assert jobs.row(numbers[1]).blocked == "PAUSED"
