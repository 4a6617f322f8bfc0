"""Acts on all that match in the admin: counted and confirmed beside the list, watched and stopped on a page."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test.utils import CaptureQueriesContext

from jobsite.programs import operations
from jobsite.programs.models import BulkAct, Job
from jobsite.programs.operations import bulk
from jobsite.programs.upkeep import sweeps
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry, Tenant
from tests.programs.admin.test_job_pages import JOBS, connection, logged_in, messages_of
from tests.programs.conftest import FAILURE, Jobs

pytestmark = pytest.mark.django_db

ACTS = "/admin/jobsite_programs/bulkact/"


def all_url(name: str, query: str = "") -> str:
    return f"{JOBS}all/{name}/{query}"


def page_of(row: BulkAct) -> str:
    return f"{ACTS}{row.pk}/change/"


@pytest.fixture
def begun(jobs: Jobs, bob: User, tenant: Tenant) -> BulkAct:
    """An act of Bob's on three jobs, of which nothing is done yet."""
    found = bulk.Match("cancel", jobs.many(3), [])
    return bulk.begin(
        principals.of_user(bob, tenant, door="admin"), found, reason="wrong year", filter="status PENDING"
    )


def test_the_list_leads_to_all_that_match_with_its_filters(bob: User, vera: User, jobs: Jobs) -> None:
    jobs.pending()

    for_bob = logged_in(bob).get(f"{JOBS}?status=PENDING").content.decode()
    for_vera = logged_in(vera).get(f"{JOBS}?status=PENDING").content.decode()

    assert f'href="{all_url("cancel")}?status=PENDING"' in for_bob
    assert "All that match" not in for_vera


def test_what_matches_is_counted_and_nothing_done_before_it_is_confirmed(bob: User, define: Any, jobs: Jobs) -> None:
    held = jobs.many(2, hold_by="alice")
    jobs.many(3, define("other"))

    page = logged_in(bob).get(all_url("cancel", "?status=HELD")).content.decode()

    assert "2 jobs" in page and "pending: held" in page
    assert all(f"#{number}<" in page for number in held)
    assert not BulkAct.objects.exists()
    assert set(jobs.statuses().values()) == {"PENDING"}


def test_a_confirmed_act_is_begun_and_done_in_the_background(bob: User, jobs: Jobs) -> None:
    numbers = jobs.many(3)
    client = logged_in(bob)
    asked = client.get(all_url("cancel", "?status=PENDING"))
    later = jobs.pending()

    order = {"confirm": "1", "reason": "wrong year", "newest": dict(asked.context["hidden"])["newest"]}
    done = client.post(all_url("cancel", "?status=PENDING"), order, follow=True)

    row = BulkAct.objects.get()
    assert done.request["PATH_INFO"] == page_of(row)
    assert (row.numbers, row.state, row.actor, row.door) == (numbers, "RUNNING", "bob", "admin")
    assert (row.filter, row.order["reason"]) == ("status PENDING", "wrong year")
    assert set(jobs.statuses().values()) == {"PENDING"}
    assert 'http-equiv="refresh"' in done.content.decode()

    bulk.work_off(row.pk, limit=10, seconds=60)
    ended = client.get(page_of(row)).content.decode()

    assert jobs.statuses() == dict.fromkeys(numbers, "CANCELED") | {later: "PENDING"}
    assert 'http-equiv="refresh"' not in ended and "ENDED" in ended and "wrong year" in ended
    assert f"act/{row.pk}/stop" not in ended


@pytest.mark.django_db(transaction=True)
def test_the_sweep_does_what_was_begun_here(bob: User, jobs: Jobs, broker: Any) -> None:
    numbers = jobs.many(3)
    logged_in(bob).post(all_url("hold"), {"confirm": "1", "until": "2030-01-01T00:00"})

    sweeps.run_all()

    assert [(jobs.row(one).hold_by, jobs.row(one).hold_until.year) for one in numbers] == [("bob", 2030)] * 3


def test_refusals_are_shown_on_the_page(bob: User, begun: BulkAct, jobs: Jobs, operator: Any) -> None:
    operations.jobs.cancel(operator, begun.numbers[1])
    bulk.work_off(begun.pk, limit=10, seconds=60)

    page = logged_in(bob).get(page_of(begun)).content.decode()

    assert f"#{begun.numbers[1]}</a>" in page
    assert "Cannot cancel a job with status &quot;CANCELED&quot;" in page


def test_a_retry_of_all_asks_for_a_status_and_then_runs_as_whoever_asked(bob: User, jobs: Jobs) -> None:
    failed = jobs.ended(FAILURE)
    client = logged_in(bob)

    refused = client.get(all_url("retry"), follow=True)
    client.post(all_url("retry", "?status=FAILED"), {"confirm": "1"})
    bulk.work_off(BulkAct.objects.get().pk, limit=10, seconds=60)

    assert messages_of(refused)[0].startswith("Name a status, such as FAILED")
    assert Job.objects.get(retry_of=failed).context.content["submitted_by"] == "bob"


def test_too_many_are_refused_with_what_to_do(bob: User, jobs: Jobs) -> None:
    jobs.many(bulk.MAX_JOBS + 1)

    response = logged_in(bob).get(all_url("cancel"), follow=True)

    assert messages_of(response) == ["More than 10,000 jobs match; narrow the filter, by program or by time."]


def test_where_nothing_matches_there_is_nothing_to_confirm(bob: User, jobs: Jobs) -> None:
    jobs.in_status("COMPLETED")
    client = logged_in(bob)

    assert "Nothing that matches needs this" in client.get(all_url("cancel")).content.decode()
    assert messages_of(client.post(all_url("cancel"), {"confirm": "1"}, follow=True)) == ["No job matches."]
    assert not BulkAct.objects.exists()


def test_a_user_who_sees_several_tenants_chooses_one(
    superuser: User, tenant: Tenant, other_tenant: Tenant, jobs: Jobs
) -> None:
    jobs.pending()
    client = logged_in(superuser)

    assert messages_of(client.get(all_url("cancel"), follow=True)) == [
        "Choose a tenant first: an act is done in one tenant."
    ]
    assert client.get(all_url("cancel", "?tenant=acme")).context["count"] == 1
    assert client.get(all_url("cancel", "?tenant=umbrella")).context["count"] == 0


def test_viewers_are_refused_and_an_unknown_act_is_404(vera: User, bob: User, begun: BulkAct) -> None:
    client = logged_in(vera)

    assert client.get(all_url("cancel")).status_code == 403
    assert client.post(all_url("cancel"), {"confirm": "1"}).status_code == 403
    assert logged_in(bob).get(all_url("explode")).status_code == 404
    assert logged_in(bob).get(all_url("cancel", "?status=NONSENSE")).status_code == 302
    page = client.get(page_of(begun))
    assert page.status_code == 200 and "/stop/" not in page.content.decode()


def test_a_button_stops_an_act(bob: User, vera: User, begun: BulkAct, jobs: Jobs) -> None:
    bulk.work_off(begun.pk, limit=1, seconds=60)
    stop = f"{ACTS}{begun.pk}/stop/"
    logged_in(vera).post(stop)
    logged_in(bob).get(stop)
    begun.refresh_from_db()
    assert begun.state == "RUNNING"
    client = logged_in(bob)
    assert stop in client.get(page_of(begun)).content.decode()

    stopped = client.post(stop, follow=True)

    assert messages_of(stopped) == ["Stopped; 2 of 3 jobs are left as they were."]
    assert "stopped by bob" in stopped.content.decode()
    assert AuditEntry.objects.filter(action="stop cancel all", actor="bob").exists()
    assert "stop cancel all" in client.get(f"{ACTS}{begun.pk}/history/").content.decode()
    assert messages_of(client.post(stop, follow=True)) == [f"Act {begun.pk} is STOPPED already."]


def test_a_stranger_gets_404(charlie: User, begun: BulkAct, jobs: Jobs) -> None:
    client = logged_in(charlie)

    for key in (begun.pk, 999_999):
        assert client.get(f"{ACTS}{key}/change/").status_code == 404
        assert client.post(f"{ACTS}{key}/stop/").status_code == 404
    assert list(client.get(ACTS).context["cl"].result_list) == []
    assert client.get(all_url("cancel")).context["count"] == 0
    begun.refresh_from_db()
    assert begun.state == "RUNNING"


def test_the_list_of_acts_reads_no_numbers_and_runs_no_query_per_row(bob: User, begun: BulkAct, jobs: Jobs) -> None:
    client = logged_in(bob)
    with CaptureQueriesContext(connection) as one:
        assert "Cancel 3 jobs" in client.get(ACTS).content.decode()
    for _ in range(3):
        BulkAct.objects.create(
            tenant=begun.tenant,
            act="hold",
            order={},
            numbers=[1],
            total=1,
            kind="LOCAL",
            actor="a",
            door="cli",
            scopes=[],
        )

    with CaptureQueriesContext(connection) as four:
        client.get(ACTS)

    assert len(four) == len(one)
    assert not any('"numbers"' in query["sql"] for query in four)
