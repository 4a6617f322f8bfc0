"""jobsite doctor --invariants: violations in a damaged database, none in a healthy one, as text and as JSON."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from jobsite.programs import schedules, submission
from jobsite.programs.inspection import diagnosis
from jobsite.programs.models import Program, Schedule
from jobsite.programs.schedules import Wanted
from jobsite.tenants.models import Tenant
from jobsite.tenants.principals import Principal
from tests.cli.conftest import Answer

Run = Callable[..., Answer]


@pytest.fixture
def damaged(define: Callable[..., Program], tenant: Tenant) -> list[int]:
    """Three damaged jobs: one has an impossible status, one an impossible attempt, one an impossible lock."""
    define()
    numbers = [submission.submit(tenant=tenant, program="sample").number for _ in range(3)]
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE jobsite_job DISABLE TRIGGER USER")
        cursor.execute("UPDATE jobsite_job SET status = 'DREAMING' WHERE number = %s", numbers[:1])
        cursor.execute(
            "INSERT INTO jobsite_jobattempt (tenant_id, job_id, fence, token, worker, claimed_at, ended_at, result)"
            " VALUES (%s, %s, 1, gen_random_uuid(), 'w', now(), now(), 'SUCCESS')",
            [tenant.pk, numbers[1]],
        )
        cursor.execute("UPDATE jobsite_job SET lock_token = gen_random_uuid() WHERE number = %s", numbers[2:])
    return numbers


def test_the_doctor_names_the_violations_in_a_damaged_database(run: Run, damaged: list[int]) -> None:
    answer = run("doctor", "--invariants")

    one, two, three = damaged
    said = " ".join(answer.out.split())
    assert answer.status == 1
    assert f"I3 A job has one of the statuses that there are job {one} has status DREAMING" in said
    assert f"job {two} is PENDING, its SUCCESS attempts: 1" in said
    assert f"job {two} counts attempts 0 and losses 0, its rows say 1 and 0" in said
    assert f"I3 Only a RUNNING job has a lock job {three} is PENDING with lock_token" in said
    assert re.search(r"\n5 of \d+ rules are broken \(jobs 3, attempts 1, \d", answer.out)


def test_a_script_reads_the_violations_as_one_document(run: Run, damaged: list[int]) -> None:
    answer = run("doctor", "--invariants", "--json")

    found = answer.json["violations"]
    assert (answer.status, answer.json["holds"], answer.json["jobs"]) == (1, False, 3)
    assert [(one["invariant"], one["jobs"], one["count"]) for one in found] == [
        ("I2", [damaged[1]], 1),
        ("I3", [damaged[0]], 1),
        ("I3", [damaged[2]], 1),
        ("I4", [damaged[1]], 1),
        ("I4", [damaged[1]], 1),
    ]


def test_the_doctor_says_that_the_invariants_hold(run: Run, define: Callable[..., Program], tenant: Tenant) -> None:
    define()
    submission.submit(tenant=tenant, program="sample")

    answer = run("doctor", "--invariants")

    assert answer.status == 0
    assert re.fullmatch(r"All invariants hold \(\d+ rules, jobs 1, attempts 0, [\d.]+ m?s\)\.\n", answer.out)


def test_at_rest_a_job_that_waits_is_a_violation(run: Run, define: Callable[..., Program], tenant: Tenant) -> None:
    define()
    number = submission.submit(tenant=tenant, program="sample").number

    answer = run("doctor", "--invariants", "--at-rest")

    assert answer.status == 1
    assert f"job {number} is PENDING" in answer.out


def test_a_check_that_cannot_be_made_is_refused_in_one_line(run: Run, settings: Any) -> None:
    settings.JOBSITE_BROKER_URLS = dict.fromkeys(settings.JOBSITE_QUEUES, "redis://127.0.0.1:1/0")

    bare, unreachable = run("doctor", "--at-rest"), run("doctor", "--invariants", "--at-rest")

    assert (bare.status, bare.out, bare.err) == (2, "", "jobsite: --at-rest goes with --invariants\n")
    assert (unreachable.status, unreachable.out) == (3, "")
    assert unreachable.err.startswith("jobsite: redis://127.0.0.1:1/0: ")
    assert unreachable.err.count("\n") == 1


@pytest.mark.django_db(transaction=True)
def test_the_doctor_says_when_dead_rows_pile_up(
    run: Run, define: Callable[..., Program], tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "DEAD_ROWS", 9)
    define()
    submission.submit_many(tenant=tenant, jobs=[{"program": "sample"}] * 100)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM jobsite_job")
        before = run("doctor").out
        cursor.execute("UPDATE jobsite_job SET progress = '{}'")
        cursor.execute("SELECT pg_stat_force_next_flush()")
    after = run("doctor").out

    assert "✓ vacuum" in before
    assert re.search(r"✗ vacuum +\d+ dead rows among the jobs", after)
    assert "check that autovacuum is on" in " ".join(after.split())


def test_the_doctor_says_which_schedules_are_late_or_cannot_fire(
    define: Callable[..., Program], operator: Principal
) -> None:
    def finding() -> tuple[bool, str]:
        [found] = [one for one in diagnosis.examine() if one.what == "schedules"]
        return found.is_good, found.said

    define()
    schedules.create(operator, "tick", Wanted("sample", minute="*"))
    assert finding() == (True, "none is late")

    past = timezone.now() - timedelta(minutes=5)
    Schedule.objects.update(next_at=past, due_at=past)
    assert finding() == (False, "1 late")
    Schedule.objects.update(problem="owner left")
    assert finding() == (False, "1 late, 1 cannot fire")
