"""jobsite jobs retry and acknowledge: what they print, their refusals, their exit statuses."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from jobsite.tenants.models import Membership, Role, Tenant
from programs.models import AuditEntry, Job
from tests.cli.conftest import Answer
from tests.programs.conftest import FAILURE, Jobs

Run = Callable[..., Answer]

SCHEMA = {
    "type": "object",
    "properties": {"student": {"type": "integer"}, "term": {"type": "string"}},
    "required": ["student"],
    "additionalProperties": False,
}


@pytest.fixture
def ended(run: Run, define: Any) -> int:
    """The number of a canceled job."""
    define("scores", parameters=SCHEMA)
    number = int(run("submit", "scores", "-p", "student=7", "-p", "term=winter", "--hold").out)
    run("jobs", "cancel", number)
    return number


@pytest.fixture
def failed(define: Any) -> Iterator[int]:
    """The number of a failed job."""
    program = define("scores", parameters=SCHEMA)
    with connection.cursor() as cursor:
        yield Jobs(cursor, define).ended(FAILURE, program=program, parameters='{"student": 7}')


def test_a_retry_prints_the_new_number(run: Run, ended: int) -> None:
    answer = run("jobs", "retry", ended, "--reason", "it works now")

    new = Job.objects.get(number=int(answer.out))
    assert (answer.status, new.retry_of_id, new.parameters) == (0, ended, {"student": 7, "term": "winter"})
    assert AuditEntry.objects.get(action="retry").reason == "it works now"


def test_single_parameters_are_edited_by_their_types(run: Run, ended: int) -> None:
    answer = run("jobs", "retry", ended, "-p", "student=8", "--json")

    assert answer.json["parameters"] == {"student": 8, "term": "winter"}
    assert answer.json["retry_of"] == ended


def test_all_parameters_are_replaced(run: Run, ended: int, tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({"student": 9}))

    assert run("jobs", "retry", ended, "--parameters", f"@{file}", "--json").json["parameters"] == {"student": 9}


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("-p", "student=eight"), 2, "student"),
        (("-p", "nonsense=1"), 2, "nonsense"),
        (("--parameters", "{}"), 2, "student"),
        (("--parameters", "[1]"), 2, "--parameters must be a JSON object"),
        (("--as", "nobody"), 2, "no user nobody"),
        (("--as", "charlie"), 3, "user charlie is no active member of tenant acme"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_makes_no_job(
    run: Run, ended: int, charlie: User, options: tuple[str, ...], status: int, words: str
) -> None:
    answer = run("jobs", "retry", ended, "--tenant", "acme", *options)

    assert (answer.status, answer.out) == (status, "")
    assert words in answer.err and answer.err.count("\n") == 1
    assert Job.objects.count() == 1


def test_a_retry_is_as_the_user_who_is_named(run: Run, ended: int, bob: User) -> None:
    assert run("jobs", "retry", ended, "--as", "bob", "--json").json["submitted_by"] == "bob"

    Membership.objects.filter(user=bob).update(role=Role.VIEWER)
    refused = run("jobs", "retry", ended, "--as", "bob")

    assert (refused.status, refused.err) == (3, "jobsite: bob lacks jobs:write in tenant acme\n")


def test_a_second_retry_is_refused_with_the_number_of_the_first(run: Run, ended: int) -> None:
    first = int(run("jobs", "retry", ended).out)

    again, open_one = run("jobs", "retry", ended), run("jobs", "retry", first)

    sentence = f"job {ended} is being retried by job {first} already, which is PENDING"
    assert (again.status, again.err) == (3, f"jobsite: {sentence}\n")
    assert (open_one.status, open_one.err) == (3, 'jobsite: Cannot retry a job with status "PENDING"\n')


def test_a_retry_can_be_waited_for(run: Run, ended: int) -> None:
    answer = run("jobs", "retry", ended, "--wait", "--wait-timeout", "0.2", "--json")

    assert (answer.status, answer.json["retry_of"], answer.json["status"]) == (5, ended, "PENDING")


def test_both_jobs_name_each_other(run: Run, ended: int) -> None:
    first = int(run("jobs", "retry", ended).out)
    run("jobs", "cancel", first)
    second = int(run("jobs", "retry", ended).out)

    assert f"retried by    #{first}, #{second}" in run("jobs", "show", ended).out
    assert f"retry of      #{ended}" in run("jobs", "show", second).out


def test_acknowledging_says_what_was_done_and_what_needed_nothing(run: Run, failed: int) -> None:
    completed = int(run("submit", "scores", "-p", "student=1", "--hold").out)
    assert "jobsite jobs acknowledge" in run("jobs", "show", failed).out

    answer = run("jobs", "acknowledge", failed, completed, "--reason", "seen")

    assert answer.out == f"#{failed} is acknowledged\n#{completed} needs no review; left alone\n"
    assert run("jobs", "show", failed, "--json").json["needs_review"] is False
    assert AuditEntry.objects.get(action="acknowledge").reason == "seen"


def test_one_job_that_is_not_there_leaves_all_as_they_are(run: Run, failed: int) -> None:
    answer = run("jobs", "acknowledge", failed, 10**9)

    assert (answer.status, answer.err) == (2, f"jobsite: no job {10**9}\n")
    assert Job.objects.get(number=failed).needs_review


@pytest.mark.parametrize("command", ["retry", "acknowledge"])
def test_a_job_of_another_tenant_is_not_there(run: Run, failed: int, other_tenant: Tenant, command: str) -> None:
    answer = run("jobs", command, failed, "--tenant", "umbrella")

    assert (answer.status, answer.err) == (2, f"jobsite: no job {failed}\n")
