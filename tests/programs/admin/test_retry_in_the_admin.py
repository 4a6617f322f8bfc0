"""Retry and acknowledge in the admin: a form with the parameters, errors beside them, links both ways."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from jobsite.programs.models import Job
from jobsite.tenants.models import AuditEntry
from tests.programs.admin.test_job_pages import JOBS, act_url, logged_in, messages_of, page_of
from tests.programs.conftest import FAILURE, Jobs

pytestmark = pytest.mark.django_db

SCHEMA = {
    "type": "object",
    "properties": {"student": {"type": "integer"}, "is_final": {"enum": [1, True]}},
    "required": ["student"],
    "additionalProperties": False,
}


@pytest.fixture
def failed(jobs: Jobs, define: Any) -> int:
    """A failed job of a program with a schema."""
    parameters = '{"student": 7, "is_final": 1}'
    return jobs.ended(FAILURE, program=define("scores", parameters=SCHEMA), parameters=parameters)


def test_the_form_shows_the_parameters_and_unchanged_they_are_carried(bob: User, jobs: Jobs, failed: int) -> None:
    client = logged_in(bob)

    asked = client.post(act_url("retry"), {"number": failed, "back": "job"})
    form = asked.context["form"]
    assert json.loads(form["parameters"].value()) == {"student": 7, "is_final": 1}

    order = {"number": failed, "back": "job", "confirm": "1", "parameters": form["parameters"].value(), "reason": "x"}
    done = client.post(act_url("retry"), order, follow=True)

    new = Job.objects.get(retry_of=failed)
    assert new.parameters == {"student": 7, "is_final": 1}
    assert new.context.content["submitted_by"] == "bob"
    assert messages_of(done) == ["Retried 1 job."]
    assert AuditEntry.objects.get(action="retry").after == {"retry": new.number, "is_edited": False}
    assert f'<a href="{page_of(new.number)}">#{new.number}</a>' in done.content.decode()
    assert f'<a href="{page_of(failed)}">#{failed}</a>' in client.get(page_of(new.number)).content.decode()


@pytest.mark.parametrize("text", ['{"student": 8}', '{"student": 7, "is_final": true}'])
def test_edited_parameters_go_with_the_new_job(bob: User, jobs: Jobs, failed: int, text: str) -> None:
    logged_in(bob).post(act_url("retry"), {"number": failed, "confirm": "1", "parameters": text})

    stored = Job.objects.get(retry_of=failed).parameters
    assert json.dumps(stored, sort_keys=True) == json.dumps(json.loads(text), sort_keys=True)
    assert AuditEntry.objects.get(action="retry").after["is_edited"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"student": "eight"}', "/student: "),
        ("{}", "student"),
        ("{", "This is not JSON"),
        ("[]", "a JSON object, in braces"),
        ("", "This field is required"),
    ],
)
def test_errors_are_shown_beside_the_parameters_which_are_kept(
    bob: User, jobs: Jobs, failed: int, text: str, words: str
) -> None:
    response = logged_in(bob).post(act_url("retry"), {"number": failed, "confirm": "1", "parameters": text})

    assert response.status_code == 200
    assert words in " ".join(response.context["form"].errors["parameters"])
    assert response.context["form"]["parameters"].value() == text
    assert not Job.objects.filter(retry_of=failed).exists()


def test_several_are_retried_as_they_were(bob: User, jobs: Jobs, failed: int) -> None:
    another, running = jobs.in_status("CANCELED"), jobs.running().number
    numbers = [failed, another, running]
    client = logged_in(bob)

    assert "parameters" not in client.post(act_url("retry"), {"number": numbers}).context["form"].fields
    done = client.post(act_url("retry"), {"number": numbers, "confirm": "1"}, follow=True)

    assert messages_of(done) == [f'Retried 2 jobs; 1 refused: Cannot retry a job with status "RUNNING" (#{running}).']
    assert set(Job.objects.exclude(retry_of=None).values_list("retry_of", flat=True)) == {failed, another}


def test_a_second_retry_is_refused_with_the_number_of_the_first(bob: User, jobs: Jobs, failed: int) -> None:
    order = {"number": failed, "confirm": "1", "parameters": '{"student": 7}'}
    client = logged_in(bob)
    client.post(act_url("retry"), order, follow=True)

    again = client.post(act_url("retry"), order, follow=True)

    first = Job.objects.get(retry_of=failed).number
    assert messages_of(again) == [
        f"Nothing was changed; 1 refused: job {failed} is being retried by job {first} already, which is PENDING"
        f" (#{failed})."
    ]


def test_failed_jobs_are_found_acknowledged_and_gone_from_the_list(bob: User, jobs: Jobs, failed: int) -> None:
    healthy = jobs.in_status("COMPLETED")
    client = logged_in(bob)
    assert [row.pk for row in client.get(f"{JOBS}?status=REVIEW").context["cl"].result_list] == [failed]

    done = client.post(
        act_url("acknowledge"), {"number": [failed, healthy], "confirm": "1", "reason": "seen"}, follow=True
    )

    assert messages_of(done) == [f"Acknowledged 1 job; 1 refused: needs no review, left alone (#{healthy})."]
    assert list(client.get(f"{JOBS}?status=REVIEW").context["cl"].result_list) == []
    assert jobs.row(failed).reviewed_by == "bob"


@pytest.mark.parametrize("name", ["retry", "acknowledge"])
def test_a_stranger_gets_404(charlie: User, jobs: Jobs, failed: int, name: str) -> None:
    order = {"confirm": "1", "parameters": '{"student": 7}'}
    client = logged_in(charlie)

    for number in (failed, 999_999_999):
        assert client.post(act_url(name), order | {"number": number}).status_code == 404

    assert jobs.row(failed).needs_review
    assert not Job.objects.filter(retry_of=failed).exists()
