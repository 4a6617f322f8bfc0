"""The admin of jobs, programs, queues, workers and the audit: who sees and does what, and what it costs."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from jobsite.admin import filters
from jobsite.programs import operations
from jobsite.programs.admin import job_list, job_page
from jobsite.programs.admin.acts import Report
from jobsite.programs.definitions import from_mapping
from jobsite.programs.definitions.registration import load
from jobsite.programs.models import Job, JobAttempt, JobStep, Program, Queue, Worker, WorkerManager
from jobsite.programs.operations import pausing
from jobsite.tenants import principals
from jobsite.tenants.models import SYSTEM, AuditEntry, Membership, Role, Tenant
from tests.programs.conftest import Jobs, new_worker, principal_of

OPERATORS = ["hold_jobs", "release_jobs", "cancel_jobs", "retry_jobs", "acknowledge_jobs"]
JOBS = "/admin/jobsite_programs/job/"
PROGRAMS = "/admin/jobsite_programs/program/"


def act_url(name: str) -> str:
    return f"{JOBS}act/{name}/"


def page_of(number: int) -> str:
    return f"{JOBS}{number}/change/"


def logged_in(user: User, *, staff: bool = True, **options: Any) -> Client:
    User.objects.filter(pk=user.pk).update(is_staff=staff)
    client = Client(**options)
    client.force_login(User.objects.get(pk=user.pk))
    return client


@pytest.fixture
def foreign_job(jobs: Jobs, other_tenant: Tenant) -> Job:
    """A job of Charlie's tenant."""
    keys = {"code": "secret.plan", "parameters": {"type": "object"}}
    action = {"action": [{"kind": "python", "target": "tests.sample_actions:succeed"}]}
    load(
        principals.local(other_tenant, login="root"),
        [from_mapping(keys | action, where="test", queues=("default",))],
    )
    return jobs.row(jobs.pending(Program.objects.get(code="secret.plan")))


def messages_of(response: Any) -> list[str]:
    return [str(one) for one in response.context["messages"]]


# ---- Who gets in ----------------------------------------------------------------------------------------------


def test_a_member_who_is_not_staff_is_sent_to_the_login(alice: User) -> None:
    response = logged_in(alice, staff=False).get(JOBS)

    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


def test_a_member_who_left_sees_nothing_any_more(alice: User, jobs: Jobs) -> None:
    number = jobs.pending()
    client = logged_in(alice)

    Membership.objects.filter(user=alice).delete()

    assert client.get(JOBS).status_code == 403
    assert client.get(page_of(number)).status_code == 404


@pytest.mark.parametrize("who", ["alice", "bob", "vera", "superuser"])
def test_members_and_superusers_see_the_jobs_of_the_tenant(
    who: str, request: pytest.FixtureRequest, jobs: Jobs
) -> None:
    number = jobs.pending()
    client = logged_in(request.getfixturevalue(who))

    assert f"#{number}" in client.get(JOBS).content.decode()
    assert client.get(page_of(number)).status_code == 200


@pytest.mark.parametrize("model", ["queue", "worker", "workermanager"])
def test_what_belongs_to_the_platform_is_for_superusers(model: str, alice: User, superuser: User, jobs: Jobs) -> None:
    address = f"/admin/jobsite_programs/{model}/"
    key = {"queue": Queue, "worker": Worker, "workermanager": WorkerManager}[model].objects.order_by("pk").first()

    assert logged_in(alice).get(address).status_code == 403
    assert logged_in(superuser).get(address).status_code == 200
    if key is not None:
        assert logged_in(alice).get(f"{address}{key.pk}/change/").status_code == 404
        assert logged_in(superuser).get(f"{address}{key.pk}/change/").status_code == 200
    assert address not in logged_in(alice).get("/admin/").content.decode()


# ---- Whose rows -----------------------------------------------------------------------------------------------


def test_a_stranger_gets_404_for_every_address_of_a_job(charlie: User, jobs: Jobs) -> None:
    number = jobs.pending()
    client = logged_in(charlie)

    assert f"#{number}<" not in client.get(JOBS).content.decode()
    for place in ("change", "history", "delete"):
        assert client.get(f"{JOBS}{number}/{place}/").status_code == 404
        assert client.get(f"{JOBS}999999999/{place}/").status_code == 404
    assert client.post(act_url("cancel"), {"number": number, "confirm": "1"}).status_code == 404
    assert client.post(act_url("clear"), {"lock": f"{number}:{uuid4()}"}).status_code == 404
    assert jobs.status(number) == "PENDING"


def test_numbers_of_other_tenants_jobs_are_ignored(charlie: User, foreign_job: Job, jobs: Jobs) -> None:
    number = jobs.pending()
    client = logged_in(charlie)

    shown = client.post(act_url("hold"), {"number": [number, foreign_job.pk]}).content.decode()
    client.post(act_url("hold"), {"number": [number, foreign_job.pk], "confirm": "1"})

    assert f"#{number}<" not in shown
    assert f"#{foreign_job.pk}<" in shown
    assert jobs.row(foreign_job.pk).hold_at is not None
    assert jobs.row(number).hold_at is None


def test_list_actions_take_only_what_the_user_sees(charlie: User, foreign_job: Job, jobs: Jobs) -> None:
    number = jobs.pending()

    response = logged_in(charlie).post(
        JOBS, {"action": "cancel_jobs", "index": "0", "_selected_action": [number, foreign_job.pk]}
    )

    assert [value for name, value in response.context["hidden"] if name == "number"] == [foreign_job.pk]


def test_a_foreign_program_in_the_address_answers_as_an_unknown_one(
    charlie: User, foreign_job: Job, jobs: Jobs
) -> None:
    jobs.pending()
    client = logged_in(charlie)

    foreign, absent = (client.get(f"{JOBS}?program={key}") for key in (jobs.program.pk, 999_999))

    assert foreign.status_code == absent.status_code == 302
    assert foreign["Location"] == absent["Location"]
    assert jobs.program.code not in client.get(JOBS).content.decode()
    assert f"value={jobs.program.pk}" not in client.get(JOBS).content.decode()


def test_search_by_a_foreign_program_or_number_finds_nothing(charlie: User, foreign_job: Job, jobs: Jobs) -> None:
    number = jobs.pending()
    client = logged_in(charlie)

    assert "Nothing matches" in client.get(f"{JOBS}?q={number}").content.decode()
    assert "Nothing matches" in client.get(f"{JOBS}?q={jobs.program.code}").content.decode()


@pytest.mark.parametrize("model, field", [("job", "program"), ("job", "tenant"), ("job", "parent")])
def test_autocompletion_stays_in_the_tenant(
    model: str, field: str, charlie: User, other_tenant: Tenant, jobs: Jobs
) -> None:
    jobs.pending()

    response = logged_in(charlie).get(
        reverse("admin:autocomplete"), {"app_label": "jobsite_programs", "model_name": model, "field_name": field}
    )

    found = [one["text"] for one in response.json()["results"]]
    assert found == ([other_tenant.code] if field == "tenant" else [])


@pytest.mark.parametrize(
    "lookup", ["program__tenant__code=acme", "error__icontains=x", "context__content__user_id=1", "tenant__name=Acme"]
)
def test_no_lookup_but_the_filters_reaches_the_database(lookup: str, alice: User) -> None:
    assert logged_in(alice).get(f"{JOBS}?{lookup}").status_code == 400


def test_the_audit_is_the_tenants_own(alice: User, charlie: User, jobs: Jobs, operator: Any) -> None:
    number = jobs.pending()
    operations.jobs.hold(operator, number, reason="marks are missing")
    entry = AuditEntry.objects.get(action="hold")
    address = f"/admin/jobsite_tenants/auditentry/{entry.pk}/change/"

    assert logged_in(charlie).get(address).status_code == 404
    assert "marks are missing" not in logged_in(charlie).get("/admin/jobsite_tenants/auditentry/").content.decode()
    assert "marks are missing" in logged_in(alice).get(address).content.decode()
    assert "marks are missing" in logged_in(alice).get(f"{JOBS}{number}/history/").content.decode()
    assert logged_in(alice).post(address, {"reason": "another"}).status_code == 403


def test_the_system_tenant_is_for_superusers_even_where_somebody_is_a_member_of_it(
    charlie: User, superuser: User, jobs: Jobs
) -> None:
    system = Tenant.objects.get(code=SYSTEM)
    Membership.objects.create(tenant=system, user=charlie, role=Role.ADMIN)

    address = f"/admin/jobsite_tenants/tenant/{system.pk}/change/"

    assert logged_in(charlie).get(address).status_code == 404
    assert logged_in(superuser).get(address).status_code == 200


def test_a_member_of_several_tenants_sees_all_of_them_and_can_choose(
    charlie: User, tenant: Tenant, foreign_job: Job, jobs: Jobs
) -> None:
    number = jobs.pending()
    Membership.objects.create(tenant=tenant, user=charlie, role=Role.VIEWER)
    client = logged_in(charlie)

    both = client.get(JOBS)
    one = client.get(f"{JOBS}?tenant=acme")

    assert [row.pk for row in both.context["cl"].result_list] == [number, foreign_job.pk]
    assert [row.pk for row in one.context["cl"].result_list] == [number]


def test_a_role_counts_in_its_tenant_alone(charlie: User, tenant: Tenant, foreign_job: Job, jobs: Jobs) -> None:
    number = jobs.pending()
    Membership.objects.create(tenant=tenant, user=charlie, role=Role.VIEWER)
    client = logged_in(charlie)

    response = client.post(act_url("hold"), {"number": [number, foreign_job.pk], "confirm": "1"}, follow=True)

    assert jobs.row(number).hold_at is None
    assert jobs.row(foreign_job.pk).hold_at is not None
    assert messages_of(response) == [f"Held 1 job; 1 refused: charlie lacks jobs:write in tenant acme (#{number})."]


# ---- What may be done -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "who, offered",
    [
        ("vera", []),
        ("bob", OPERATORS),
        ("alice", [*OPERATORS, "expire_jobs", "clear_locks"]),
    ],
)
def test_the_list_offers_what_the_role_may(
    who: str, offered: list[str], request: pytest.FixtureRequest, jobs: Jobs
) -> None:
    jobs.pending()

    form = logged_in(request.getfixturevalue(who)).get(JOBS).context["action_form"]

    names = [] if form is None else [name for name, _ in form.fields["action"].choices if name]
    assert names == offered


@pytest.mark.parametrize(
    "who, name, status",
    [
        ("vera", "hold", 403),
        ("vera", "cancel", 403),
        ("vera", "retry", 403),
        ("vera", "acknowledge", 403),
        ("bob", "retry", 200),
        ("bob", "acknowledge", 200),
        ("bob", "hold", 200),
        ("bob", "expire", 403),
        ("bob", "clear", 403),
        ("alice", "expire", 200),
        ("superuser", "clear", 200),
    ],
)
def test_an_act_is_confirmed_by_those_who_may(
    who: str, name: str, status: int, request: pytest.FixtureRequest, jobs: Jobs
) -> None:
    number = jobs.pending()

    response = logged_in(request.getfixturevalue(who)).post(act_url(name), {"number": number})

    assert response.status_code == status


def test_an_act_needs_the_token_against_forged_requests(bob: User, jobs: Jobs) -> None:
    number = jobs.pending()
    client = logged_in(bob, enforce_csrf_checks=True)

    forged = client.post(act_url("hold"), {"number": number, "confirm": "1"})
    page = client.get(page_of(number)).content.decode()
    token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[-1]
    genuine = client.post(act_url("hold"), {"number": number, "confirm": "1", "csrfmiddlewaretoken": token})

    assert forged.status_code == 403
    assert genuine.status_code == 302
    assert jobs.row(number).hold_at is not None


def test_nothing_is_done_by_get_or_before_it_is_confirmed(bob: User, jobs: Jobs) -> None:
    number = jobs.pending()
    client = logged_in(bob)

    assert client.get(act_url("cancel"), {"number": number, "confirm": "1"}).status_code == 302
    assert client.post(act_url("cancel"), {"number": number}).status_code == 200

    assert jobs.status(number) == "PENDING"


def test_hold_with_a_reason_and_an_end_then_release(bob: User, jobs: Jobs) -> None:
    number = jobs.pending()
    client = logged_in(bob)
    until = (timezone.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    order = {"number": number, "confirm": "1", "reason": "marks are missing", "back": "job"}

    held = client.post(act_url("hold"), order | {"until": until}, follow=True)

    row = jobs.row(number)
    assert (row.hold_by, row.hold_reason, row.hold_until is not None) == ("bob", "marks are missing", True)
    assert held.request["PATH_INFO"] == page_of(number)
    assert messages_of(held) == ["Held 1 job."]
    assert "It is held by bob since " in held.content.decode()
    entry = AuditEntry.objects.get(action="hold")
    assert (entry.actor, entry.door, entry.reason) == ("bob", "admin", "marks are missing")

    client.post(act_url("release"), {"number": number, "confirm": "1"})

    assert jobs.row(number).hold_at is None


def test_a_hold_cannot_end_in_the_past(bob: User, jobs: Jobs) -> None:
    number = jobs.pending()

    response = logged_in(bob).post(act_url("hold"), {"number": number, "confirm": "1", "until": "2020-01-01T00:00"})

    assert response.status_code == 200
    assert "lies in the past" in response.content.decode()
    assert jobs.row(number).hold_at is None


def test_refusals_are_reported_and_the_rest_is_done(bob: User, jobs: Jobs) -> None:
    waiting = jobs.many(3)
    running = jobs.running().number

    response = logged_in(bob).post(act_url("hold"), {"number": [*waiting, running], "confirm": "1"}, follow=True)

    assert messages_of(response) == [f'Held 3 jobs; 1 refused: Cannot hold a job with status "RUNNING" (#{running}).']
    assert all(jobs.row(number).hold_at for number in waiting)


def test_each_of_several_refusals_has_its_message(bob: User, jobs: Jobs) -> None:
    done, running = jobs.in_status("COMPLETED"), jobs.running().number

    response = logged_in(bob).post(act_url("hold"), {"number": [done, running], "confirm": "1"}, follow=True)

    assert messages_of(response) == [
        "Nothing was changed; 2 refused.",
        f'#{done}: Cannot hold a job with status "COMPLETED"',
        f'#{running}: Cannot hold a job with status "RUNNING"',
    ]


def test_a_report_of_many_refusals_stays_short() -> None:
    report = Report(refused=[(number, "no") for number in range(50)])

    assert len(report.details) == 21
    assert report.details[-1] == "… and 30 more"


def test_canceled_jobs_are_reported_apart_from_those_asked_to_stop(bob: User, jobs: Jobs) -> None:
    waiting, running = jobs.pending(), jobs.running().number

    response = logged_in(bob).post(
        act_url("cancel"), {"number": [waiting, running], "confirm": "1", "reason": "wrong year"}, follow=True
    )

    assert messages_of(response) == ["Canceled 1 job, asked 1 job to stop."]
    assert jobs.status(waiting) == "CANCELED"
    assert jobs.row(running).cancel_reason == "wrong year"


def test_expire_touches_only_what_is_stuck(alice: User, jobs: Jobs) -> None:
    healthy, stuck = jobs.running().number, jobs.running().number
    jobs.set(stuck, "stuck_at = clock_timestamp() - interval '1 minute'")

    response = logged_in(alice).post(
        act_url("expire"), {"number": [healthy, stuck], "confirm": "1", "policy": "FAIL"}, follow=True
    )

    assert messages_of(response) == [f"Expired 1 job; 1 refused: not past its time limit, left alone (#{healthy})."]
    assert jobs.status(healthy) == "RUNNING"
    assert jobs.status(stuck) == "FAILED"


def test_a_stale_lock_is_cleared_and_a_healthy_one_left_alone(alice: User, jobs: Jobs) -> None:
    healthy, stale = jobs.running(), jobs.running()
    jobs.expire_lock(stale.number)
    locks = [f"{one.number}:{one.token}" for one in (healthy, stale)]

    response = logged_in(alice).post(act_url("clear"), {"lock": locks, "confirm": "1", "back": "locks"}, follow=True)

    assert response.request["PATH_INFO"] == f"{JOBS}locks/"
    assert messages_of(response)[0].startswith("Cleared the lock of 1 job; 1 refused: its lock is not stale")
    assert jobs.status(healthy.number) == "RUNNING"
    assert jobs.status(stale.number) == "PENDING"


def test_a_lock_taken_anew_since_it_was_shown_is_left_alone(alice: User, jobs: Jobs) -> None:
    shown = jobs.running()
    jobs.expire_lock(shown.number)
    client = logged_in(alice)
    page = client.post(act_url("clear"), {"number": shown.number}).content.decode()
    assert f'value="{shown.number}:{shown.token}"' in page

    jobs.set(shown.number, "lock_token = %s", [uuid4()])
    client.post(act_url("clear"), {"lock": f"{shown.number}:{shown.token}", "confirm": "1"})

    assert jobs.status(shown.number) == "RUNNING"


@pytest.mark.parametrize(
    "data", [{"number": "x"}, {"number": "-1"}, {"number": "9" * 30}, {"lock": "17"}, {"lock": "17:x"}]
)
def test_invalid_input_is_a_bad_request(data: dict[str, str], alice: User) -> None:
    assert logged_in(alice).post(act_url("clear"), data).status_code == 400


@pytest.mark.parametrize(
    "data",
    [
        {"action": "cancel_jobs", "index": "0", "_selected_action": "x"},
        {"action": "cancel_jobs", "index": "0", "_selected_action": "1", "select_across": "1"},
    ],
)
def test_the_list_takes_the_jobs_of_a_page_and_nothing_else(data: dict[str, str], alice: User, jobs: Jobs) -> None:
    number = jobs.pending()

    assert logged_in(alice).post(JOBS, data).status_code == 400
    assert jobs.status(number) == "PENDING"


def test_a_confirmation_names_fifty_and_counts_all(bob: User, jobs: Jobs) -> None:
    numbers = jobs.many(60)

    response = logged_in(bob).post(
        f"{JOBS}?status=PENDING",
        {
            "action": "hold_jobs",
            "index": "0",
            "_selected_action": numbers,
        },
    )

    page = response.content.decode()
    assert "60 jobs" in page
    assert "and 10 more" in page
    assert page.count('class="jobsite-badge') == 50
    assert page.count('name="number"') == 60
    assert response.context["back_url"] == f"{JOBS}?status=PENDING"


def test_an_act_on_nothing_says_so(alice: User) -> None:
    response = logged_in(alice).post(act_url("clear"), {"back": "locks"}, follow=True)

    assert response.request["PATH_INFO"] == f"{JOBS}locks/"
    assert messages_of(response) == ["Nothing was chosen, nothing was changed."]


# ---- The list -------------------------------------------------------------------------------------------------


def queries_of(client: Client, address: str) -> list[str]:
    client.get(address)  # content types and the like are remembered
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200
    return [query["sql"] for query in captured.captured_queries]


@pytest.mark.parametrize("who", ["alice", "superuser"])
def test_the_list_costs_the_same_queries_for_one_job_or_a_hundred(
    who: str, request: pytest.FixtureRequest, jobs: Jobs
) -> None:
    client = logged_in(request.getfixturevalue(who))
    jobs.pending()
    few = queries_of(client, JOBS)

    jobs.many(150)
    for _ in range(5):
        jobs.running()
    many = queries_of(client, JOBS)

    assert len(many) == len(few) <= 8
    assert not [sql for sql in many if "COUNT(" in sql.upper()]


def test_pages_follow_each_other_by_number(alice: User, jobs: Jobs) -> None:
    numbers = jobs.many(205)
    client = logged_in(alice)

    first = client.get(JOBS).context["cl"]
    second = client.get(JOBS + first.older_link).context["cl"]
    third = client.get(JOBS + second.older_link).context["cl"]

    shown = [row.pk for page in (first, second, third) for row in page.result_list]
    assert shown == sorted(numbers, reverse=True)
    assert (first.has_older, second.has_older, third.has_older) == (True, True, False)


@pytest.mark.parametrize(
    "query", ["before=x", "before=" + "9" * 30, "status=BUSY", "trigger=x", "program=x", "queue=x"]
)
def test_a_wrong_address_leads_back_to_the_list(query: str, alice: User, jobs: Jobs) -> None:
    jobs.pending()

    response = logged_in(alice).get(f"{JOBS}?{query}")

    assert response.status_code == 302
    assert response["Location"] == f"{JOBS}?e=1"


def test_the_list_has_no_other_order(alice: User, jobs: Jobs) -> None:
    numbers = jobs.many(3)

    rows = logged_in(alice).get(f"{JOBS}?o=3.1").context["cl"].result_list

    assert [row.pk for row in rows] == sorted(numbers, reverse=True)


def shown(client: Client, query: str) -> list[int]:
    return [row.pk for row in client.get(f"{JOBS}?{query}").context["cl"].result_list]


def test_filters_and_searches_find_what_they_name(alice: User, superuser: User, jobs: Jobs, operator: Any) -> None:
    failed, done = jobs.in_status("FAILED"), jobs.in_status("COMPLETED")
    held, pending = jobs.many(2)
    operations.jobs.hold(operator, held)
    other = jobs.pending(jobs.define("other.work"))
    program, queue = Program.objects.get(code="other.work").pk, Queue.objects.get(name="default").pk

    for client in (logged_in(alice), logged_in(superuser)):
        assert shown(client, "status=FAILED") == [failed]
        assert shown(client, "status=REVIEW") == [failed]
        assert shown(client, "status=HELD") == [held]
        assert shown(client, "status=OPEN") == [other, pending, held]
        assert shown(client, "outcome=ERROR") == [failed]
        assert shown(client, f"program={program}") == [other]
        assert shown(client, f"program={program}&status=FAILED") == []
        assert shown(client, f"queue={queue}&status=COMPLETED") == [done]
        assert shown(client, "trigger=CHILD") == []
        assert shown(client, f"q={pending}") == shown(client, f"q=%23{pending}") == [pending]
        assert shown(client, "q=other.work") == shown(client, "q=program:other.work") == [other]
        assert shown(client, "q=other.work&status=FAILED") == []
        assert shown(client, f"q=other.work&before={other}") == []
        assert shown(client, "q=nonsense") == shown(client, "q=" + "9" * 30) == []


def test_a_filter_without_an_index_says_how_far_it_looks(
    alice: User, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_list, "WINDOW", 2)
    jobs.in_status("CANCELED")
    jobs.many(3)
    client = logged_in(alice)

    response = client.get(f"{JOBS}?status=CANCELED")

    assert response.context["cl"].result_list == []
    assert "look through the newest" in response.content.decode()
    assert len(shown(client, "status=OPEN")) == 3


def test_an_empty_list_says_what_to_do_next(alice: User) -> None:
    page = logged_in(alice).get(JOBS).content.decode()

    assert "No jobs yet: submit one with <code>jobsite submit PROGRAM</code>." in page


def test_more_programs_than_a_filter_holds_are_found_by_search(
    alice: User, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "CHOICES_LIMIT", 1)
    number, other = jobs.pending(), jobs.pending(jobs.define("other.work"))
    client = logged_in(alice)

    page = client.get(JOBS)

    assert "program" not in {spec.parameter_name for spec in page.context["cl"].filter_specs}
    assert shown(client, f"program={jobs.program.pk}") == [number]
    assert shown(client, "q=other.work") == [other]


# ---- One job --------------------------------------------------------------------------------------------------


def test_the_page_of_a_job_shows_all_that_is_known(alice: User, jobs: Jobs) -> None:
    number = jobs.in_status("FAILED", parameters='{"note": "<script>", "key": {"$secret": "gAAAA"}}')
    JobAttempt.objects.filter(job_id=number).update(traceback="Traceback: here")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO jobsite_joblogentry (at, tenant_id, job_number, sequence, attempt, step, stream, severity,"
            " message) SELECT now(), %s, %s, n, 1, '', 'log', 'INFO', 'line ' || n FROM generate_series(1, 230) n",
            [jobs.row(number).tenant_id, number],
        )

    client = logged_in(alice)
    response = client.get(page_of(number))
    page = response.content.decode()

    assert "ValueError" in page
    assert "&lt;script&gt;" in page
    assert "gAAAA" not in page
    assert "••••" in page
    assert "<summary>Traceback</summary>" in page
    assert [line.sequence for line in response.context["lines"]] == list(range(31, 231))
    earlier = client.get(f"{page_of(number)}?log_before={response.context['earlier']}")
    assert [line.sequence for line in earlier.context["lines"]] == list(range(1, 31))
    assert client.get(f"{page_of(number)}?log_before=x").status_code == 404


def test_the_page_of_a_job_shows_its_steps_and_says_where_the_others_are(alice: User, jobs: Jobs) -> None:
    number = jobs.in_status("FAILED")
    job, now = jobs.row(number), timezone.now()
    columns = {
        "job": job,
        "tenant_id": job.tenant_id,
        "action": "fetch",
        "digest": uuid4(),
        "fence": 1,
        "started_at": now,
    }
    error = {"type": "ValueError", "message": "<b>no</b>", "step": "fetch: page 2"}
    JobStep.objects.create(name="page 1", status="COMPLETED", tries=1, ended_at=now, result={"rows": 7}, **columns)
    JobStep.objects.create(name="page 2", status="FAILED", tries=3, ended_at=now, error=error, **columns)
    JobStep.objects.bulk_create(
        JobStep(name=f"page {n}", status="RUNNING", tries=1, **columns) for n in range(3, job_page.STEPS + 2)
    )

    response = logged_in(alice).get(page_of(number))
    page = response.content.decode()

    steps = response.context["steps"]
    assert [one["shown"] for one in steps[:3]] == ["fetch: page 1", "fetch: page 2", "fetch: page 3"]
    assert "jobsite-interrupted" in steps[2]["badge"]
    assert (len(steps), f"jobsite jobs show {number} --json" in page) == (job_page.STEPS, True)
    assert "{&quot;rows&quot;: 7}" in page
    assert "&lt;b&gt;no&lt;/b&gt;" in page


def test_the_page_of_a_job_shows_its_children_and_counts_them(
    alice: User, charlie: User, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_page, "CHILDREN", 2)
    parent = jobs.in_status("WAITING")
    done, failed, open_ = (jobs.in_status(status) for status in ("COMPLETED", "FAILED", "PENDING"))
    for number, key in ((done, "auto:1"), (failed, "<b>"), (open_, "2026")):
        jobs.set(number, "parent_id = %s, child_key = %s, parent_fence = 1, trigger = 'CHILD'", [parent, key])

    response = logged_in(alice).get(page_of(parent))
    page = response.content.decode()

    shown = response.context["children"]
    assert [one["key"] for one in shown["rows"]] == ["<b>", "2026"]
    assert (shown["more"], f"jobsite jobs show {parent} --json" in page) == (1, True)
    assert "&lt;b&gt;" in page and "<td><b></td>" not in page
    assert f"/job/{failed}/change/" in page
    assert logged_in(charlie).get(page_of(parent)).status_code == 404


@pytest.mark.parametrize(("status", "says_why"), [("PENDING", True), ("QUEUED", True), ("RUNNING", False)])
def test_the_page_of_a_job_that_waits_says_why(
    status: str, says_why: bool, alice: User, superuser: User, tenant: Tenant, jobs: Jobs
) -> None:
    number = jobs.in_status(status)
    until = datetime(2030, 5, 17, 8, 30, tzinfo=UTC)
    pausing.pause_queue(principal_of(superuser, tenant), "default", whole=True, reason="the broker moves", until=until)

    page = logged_in(alice).get(page_of(number)).content.decode()
    queue = Queue.objects.get(name="default")
    shown = logged_in(superuser).get(reverse("admin:jobsite_programs_queue_change", args=[queue.pk])).content.decode()

    sentence = " until 2030-05-17 08:30:00 UTC: the broker moves."
    assert (sentence in page) is says_why
    assert ("Queue default is paused by " in page) is says_why
    assert ": the broker moves" in shown and "2030-05-17" in shown


def test_nobody_can_edit_a_job(superuser: User, jobs: Jobs) -> None:
    number = jobs.pending()
    client = logged_in(superuser)

    assert client.post(page_of(number), {"status": "COMPLETED"}).status_code == 403
    assert client.post(f"{JOBS}{number}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(f"{JOBS}add/").status_code == 403
    assert jobs.status(number) == "PENDING"


def offered_to(user: User, number: int) -> list[str]:
    return [act.name for act, _ in logged_in(user).get(page_of(number)).context["acts"]]


@pytest.mark.parametrize("status", ["PENDING", "QUEUED", "RUNNING", "WAITING", "COMPLETED", "FAILED", "CANCELED"])
def test_the_page_offers_what_fits_the_status(status: str, alice: User, vera: User, jobs: Jobs) -> None:
    number = jobs.in_status(status)

    offered = offered_to(alice, number)

    expected = {
        "PENDING": ["hold", "cancel"],
        "QUEUED": ["hold", "cancel"],
        "RUNNING": ["cancel"],
        "WAITING": ["cancel"],
        "FAILED": ["retry", "acknowledge"],
    }
    assert offered == expected.get(status, ["retry"])
    assert offered_to(vera, number) == []


def test_a_stuck_job_with_a_stale_lock_can_be_expired_and_cleared(alice: User, bob: User, jobs: Jobs) -> None:
    number = jobs.running().number
    jobs.expire_lock(number)
    jobs.set(number, "stuck_at = clock_timestamp() - interval '1 minute'")

    assert offered_to(alice, number) == ["cancel", "expire", "clear"]
    assert offered_to(bob, number) == ["cancel"]


def test_the_locks_are_those_of_the_users_own_tenants(alice: User, charlie: User, superuser: User, jobs: Jobs) -> None:
    stale, healthy = jobs.running().number, jobs.running().number
    jobs.expire_lock(stale)

    rows = logged_in(alice).get(f"{JOBS}locks/").context["rows"]

    assert {row["lock"].job: row["lock"].is_stale for row in rows} == {stale: True, healthy: False}
    assert logged_in(charlie).get(f"{JOBS}locks/").context["rows"] == []
    assert len(logged_in(superuser).get(f"{JOBS}locks/").context["rows"]) == 2


def test_no_page_needs_more_than_the_content_security_policy_allows(superuser: User, jobs: Jobs) -> None:
    number = jobs.in_status("FAILED")
    client = logged_in(superuser)
    addresses = ["/admin/", JOBS, page_of(number), f"{JOBS}locks/", PROGRAMS, f"{PROGRAMS}{jobs.program.pk}/change/"]

    for address in addresses:
        response = client.get(address)
        page = response.content.decode()
        assert "default-src 'self'" in response["Content-Security-Policy"]
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page), address


# ---- Programs, queues, workers --------------------------------------------------------------------------------


def program_form(**fields: object) -> dict[str, object]:
    empty = {"actions-TOTAL_FORMS": 0, "actions-INITIAL_FORMS": 0}
    return {"names": '{"en": "Sample"}', "description": "", "priority": 0} | empty | fields


def test_an_admin_changes_the_harmless_fields_of_a_program_and_nothing_else(alice: User, jobs: Jobs) -> None:
    program = jobs.program
    Program.objects.filter(pk=program.pk).update(consecutive_failures=2)

    response = logged_in(alice).post(
        f"{PROGRAMS}{program.pk}/change/", program_form(priority=7, timeout_seconds=1, code="other", queue=3)
    )

    program.refresh_from_db()
    assert response.status_code == 302
    assert (program.priority, program.code, program.consecutive_failures) == (7, "sample", 2)
    assert program.timeout_seconds != 1
    entry = AuditEntry.objects.get(action="program updated")
    assert (entry.actor, entry.target) == ("alice", "sample")
    assert entry.after is not None
    assert entry.after["priority"] == 7


@pytest.mark.parametrize("fields", [{"priority": 101}, {"names": "{}"}, {"names": '{"english!": "x"}'}, {"names": "x"}])
def test_a_wrong_value_is_an_error_of_its_field(fields: dict[str, object], alice: User, jobs: Jobs) -> None:
    response = logged_in(alice).post(f"{PROGRAMS}{jobs.program.pk}/change/", program_form(**fields))

    assert response.status_code == 200
    assert list(response.context["adminform"].form.errors) == list(fields)


@pytest.mark.parametrize("who, status", [("bob", 403), ("vera", 403), ("charlie", 404)])
def test_others_change_no_program(who: str, status: int, request: pytest.FixtureRequest, jobs: Jobs) -> None:
    client = logged_in(request.getfixturevalue(who))

    assert client.post(f"{PROGRAMS}{jobs.program.pk}/change/", program_form(priority=7)).status_code == status
    assert client.get(f"{PROGRAMS}{jobs.program.pk}/change/").status_code == (404 if who == "charlie" else 200)
    assert client.get(f"{PROGRAMS}add/").status_code == 403


def test_the_page_of_a_program_shows_its_schema_and_actions(vera: User, jobs: Jobs) -> None:
    page = logged_in(vera).get(f"{PROGRAMS}{jobs.program.pk}/change/").content.decode()

    assert "tests.sample_actions:succeed" in page
    assert "defined in program files" in page
    assert "<textarea" not in page


def test_a_superuser_limits_a_worker_manager_and_the_audit_of_the_system_says_so(superuser: User, jobs: Jobs) -> None:
    manager = WorkerManager.objects.get(name="default")
    address = f"/admin/jobsite_programs/workermanager/{manager.pk}/change/"

    logged_in(superuser).post(address, {"max_running": 4, "name": "other"})

    manager.refresh_from_db()
    assert (manager.max_running, manager.name) == (4, "default")
    entry = AuditEntry.objects.get(action="worker manager updated")
    assert (entry.tenant.code, entry.after) == (SYSTEM, {"max_running": 4})


def test_living_workers_come_first(superuser: User, worker: Any, define: Callable[..., Program]) -> None:
    Worker.objects.update(status="LOST", name="a@gone")
    with connection.cursor() as cursor:
        new_worker(cursor, "z@here")
    client = logged_in(superuser)

    rows = client.get("/admin/jobsite_programs/worker/").context["cl"].result_list
    queues = client.get("/admin/jobsite_programs/queue/").context["cl"].result_list

    assert [row.name for row in rows] == ["z@here", "a@gone"]
    assert {row.name: row.living_workers for row in queues}["default"] == 1
