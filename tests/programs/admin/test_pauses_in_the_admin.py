"""Pauses in the admin: buttons that fit, a page that asks, and who may pause which program, queue and tenant."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobsite.programs.models import Lane, Program, Queue
from jobsite.programs.operations import pausing
from jobsite.programs.transitions.dispatch import wake
from jobsite.tenants import principals
from jobsite.tenants.models import SYSTEM, AuditEntry, Membership, Role, Tenant
from tests.programs.admin.test_job_pages import PROGRAMS, logged_in, messages_of, queries_of
from tests.programs.conftest import Jobs, queue_row

pytestmark = pytest.mark.django_db

LANES = "/admin/jobsite_programs/lane/"
QUEUES = "/admin/jobsite_programs/queue/"
TENANTS = "/admin/jobsite_tenants/tenant/"
SURE = {"confirm": "1"}
TERMINATED = "Program mine is terminated; the waiting jobs of its schedules are canceled."


@pytest.fixture
def program(define: Any) -> Program:
    row: Program = define("mine")
    return row


@pytest.fixture
def lane(tenant: Tenant) -> Lane:
    return Lane.objects.create(queue=queue_row(), tenant=tenant)


def act_on(row: Any, name: str) -> str:
    pages = {Program: PROGRAMS, Lane: LANES, Queue: QUEUES, Tenant: TENANTS}
    return f"{pages[type(row)]}{row.pk}/act/{name}/"


def offered(client: Client, address: str) -> list[str]:
    return [act.name for act, _ in client.get(address).context["acts"]]


def soon() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")


def entries(*fields: str) -> list[tuple[Any, ...]]:
    fields = fields or ("actor", "door", "action", "target", "reason")
    about_pauses = AuditEntry.objects.filter(action__regex="^(pause|resume|terminate|reactivate|suspend) ")
    return list(about_pauses.order_by("id").values_list(*fields))


# ---- Programs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status, acts",
    [("ACTIVE", ["pause", "terminate"]), ("PAUSED", ["resume", "terminate"]), ("TERMINATED", ["reactivate"])],
)
def test_a_programs_page_offers_what_fits_its_status_to_those_who_may(
    status: str, acts: list[str], alice: User, bob: User, vera: User, program: Program
) -> None:
    Program.objects.update(status=status)
    address = f"{PROGRAMS}{program.pk}/change/"

    assert offered(logged_in(alice), address) == acts
    assert offered(logged_in(bob), address) == offered(logged_in(vera), address) == []


def test_a_pause_is_asked_for_confirmed_and_shown(alice: User, program: Program) -> None:
    client = logged_in(alice)

    asked = client.post(act_on(program, "pause"))
    assert "Its jobs wait, and so do those that are submitted from now on." in asked.content.decode()
    assert list(asked.context["form"].fields) == ["reason", "until"]
    assert (Program.objects.get().status, entries()) == ("ACTIVE", [])
    done = client.post(act_on(program, "pause"), SURE | {"reason": "new <data>", "until": soon()}, follow=True)

    program.refresh_from_db()
    assert (program.status, program.paused_by, program.paused_reason) == ("PAUSED", "alice", "new <data>")
    assert f"{program.paused_until:%Y-%m-%dT%H:%M}" <= soon()
    assert done.request["PATH_INFO"] == f"{PROGRAMS}{program.pk}/change/"
    assert messages_of(done) == ["Program mine is paused; its jobs wait."]
    assert re.search(r"by alice since .* until .*: new &lt;data&gt;", done.content.decode())
    assert entries() == [("alice", "admin", "pause program", "mine", "new <data>")]


@pytest.mark.parametrize(
    "before, name, after, said",
    [
        ("PAUSED", "resume", "ACTIVE", "Program mine goes on."),
        ("ACTIVE", "terminate", "TERMINATED", TERMINATED),
        ("PAUSED", "terminate", "TERMINATED", TERMINATED),
        ("TERMINATED", "reactivate", "ACTIVE", "Program mine is active again."),
    ],
)
def test_the_other_acts_on_a_program(
    before: str, name: str, after: str, said: str, alice: User, program: Program
) -> None:
    Program.objects.update(status=before)
    client = logged_in(alice)

    asked = client.post(act_on(program, name))
    assert list(asked.context["form"].fields) == ["reason"]
    done = client.post(act_on(program, name), SURE | {"reason": "so it is"}, follow=True)

    assert Program.objects.get().status == after
    assert messages_of(done) == [said]
    assert entries() == [("alice", "admin", f"{name} program", "mine", "so it is")]


def test_terminating_cancels_what_schedules_made(alice: User, program: Program, jobs: Jobs) -> None:
    automatic, manual = jobs.pending(program, trigger="AUTOMATIC"), jobs.pending(program)

    logged_in(alice).post(act_on(program, "terminate"), SURE | {"reason": "wrong data"})

    assert (jobs.status(automatic), jobs.status(manual)) == ("CANCELED", "PENDING")
    assert jobs.row(automatic).cancel_reason == "wrong data"


@pytest.mark.django_db(transaction=True)
def test_jobs_in_a_paused_lane_go_on_when_it_is_resumed(
    alice: User, jobs: Jobs, alice_principal: Any, broker: Any
) -> None:
    number = jobs.pending()
    wake(jobs.cursor, [number])
    pausing.pause_queue(alice_principal, "default")

    logged_in(alice).post(act_on(Lane.objects.get(), "resume"), SURE)

    assert jobs.status(number) == "QUEUED"


# ---- Refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("pause", 'Cannot pause a program with status "TERMINATED".'),
        ("resume", 'Cannot resume a program with status "TERMINATED".'),
        ("terminate", 'Cannot terminate a program with status "TERMINATED".'),
    ],
)
def test_an_act_that_no_longer_fits_is_refused_in_one_sentence(
    name: str, sentence: str, alice: User, program: Program
) -> None:
    Program.objects.update(status="TERMINATED")
    client = logged_in(alice)

    assert "will probably be refused" in client.post(act_on(program, name)).content.decode()
    done = client.post(act_on(program, name), SURE, follow=True)

    assert messages_of(done) == [sentence]
    assert done.request["PATH_INFO"] == f"{PROGRAMS}{program.pk}/change/"
    assert (Program.objects.get().status, entries()) == ("TERMINATED", [])


@pytest.mark.parametrize(
    "given, field",
    [
        ({"until": "2020-01-01T00:00"}, "until"),
        ({"until": "2099-01-01T00:00"}, "until"),
        ({"until": "soon"}, "until"),
        ({"reason": "x" * 1_001}, "reason"),
        ({"reason": "x\0"}, "reason"),
    ],
)
def test_an_invalid_value_is_an_error_of_its_field(
    given: dict[str, str], field: str, alice: User, program: Program
) -> None:
    response = logged_in(alice).post(act_on(program, "pause"), SURE | given)

    assert list(response.context["form"].errors) == [field]
    assert (Program.objects.get().status, entries()) == ("ACTIVE", [])


def test_nothing_is_done_by_get(alice: User, program: Program) -> None:
    response = logged_in(alice).get(act_on(program, "pause"), SURE)

    assert (response.status_code, response["Location"]) == (302, f"{PROGRAMS}{program.pk}/change/")
    assert Program.objects.get().status == "ACTIVE"


def test_a_pause_needs_the_token_against_forged_requests(alice: User, program: Program) -> None:
    client = logged_in(alice, enforce_csrf_checks=True)

    forged = client.post(act_on(program, "pause"), SURE)
    page = client.get(f"{PROGRAMS}{program.pk}/change/").content.decode()
    token = re.findall(rf'action="{act_on(program, "pause")}"><input [^>]*value="(\w+)"', page)[0]
    genuine = client.post(act_on(program, "pause"), SURE | {"csrfmiddlewaretoken": token})

    assert (forged.status_code, genuine.status_code) == (403, 302)
    assert Program.objects.get().status == "PAUSED"


def test_an_unknown_row_or_act_is_404(alice: User, program: Program) -> None:
    client = logged_in(alice)

    assert client.post(act_on(program, "explode"), SURE).status_code == 404
    assert client.post(f"{PROGRAMS}{'9' * 30}/act/pause/", SURE).status_code == 404
    Program.objects.update(deleted_at=datetime.now(UTC))
    assert client.post(act_on(program, "pause"), SURE).status_code == 404


# ---- Who may pause what ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "what, name, answers",
    [
        ("program", "pause", {"alice": 302, "bob": 403, "vera": 403, "charlie": 404, "superuser": 302}),
        ("program", "terminate", {"alice": 302, "bob": 403, "vera": 403, "charlie": 404, "superuser": 302}),
        ("lane", "pause", {"alice": 302, "bob": 403, "vera": 403, "charlie": 404, "superuser": 302}),
        ("queue", "pause", {"alice": 404, "bob": 404, "vera": 404, "charlie": 404, "superuser": 302}),
        ("tenant", "suspend", {"alice": 403, "bob": 403, "vera": 403, "charlie": 404, "superuser": 302}),
    ],
)
@pytest.mark.parametrize("who", ["alice", "bob", "vera", "charlie", "superuser"])
def test_a_stranger_finds_nothing_and_a_colleague_is_forbidden(
    who: str,
    what: str,
    name: str,
    answers: dict[str, int],
    request: pytest.FixtureRequest,
    program: Program,
    lane: Lane,
) -> None:
    row = {"program": program, "lane": lane, "queue": lane.queue, "tenant": lane.tenant}[what]
    client = logged_in(request.getfixturevalue(who))

    asked, done = client.post(act_on(row, name)), client.post(act_on(row, name), SURE)

    assert done.status_code == answers[who]
    assert asked.status_code == (200 if done.status_code == 302 else answers[who])
    row.refresh_from_db()
    is_touched = row.paused_at is not None or getattr(row, "status", "ACTIVE") != "ACTIVE"
    assert is_touched is (answers[who] == 302)
    assert len(entries()) == is_touched


def test_a_colleague_may_pause_once_promoted(bob: User, program: Program) -> None:
    Membership.objects.update(role=Role.ADMIN)

    logged_in(bob).post(act_on(program, "pause"), SURE)

    assert entries("actor", "action") == [("bob", "pause program")]


def test_a_role_counts_in_its_tenant_alone(charlie: User, tenant: Tenant, lane: Lane, program: Program) -> None:
    Membership.objects.create(tenant=tenant, user=charlie, role=Role.VIEWER)
    own = Lane.objects.create(queue=lane.queue, tenant=Tenant.objects.get(code="umbrella"))
    client = logged_in(charlie)

    page = client.get(LANES).content.decode()

    assert act_on(own, "pause") in page
    assert act_on(lane, "pause") not in page
    assert client.post(act_on(lane, "pause"), SURE).status_code == 403
    assert client.post(act_on(program, "pause"), SURE).status_code == 403


# ---- Queues: a tenant's lane ----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["alice", "bob", "vera"])
def test_members_look_at_the_lanes_of_their_tenant(
    who: str, request: pytest.FixtureRequest, lane: Lane, other_tenant: Tenant, alice_principal: Any
) -> None:
    foreign = Lane.objects.create(queue=lane.queue, tenant=other_tenant)
    pausing.pause_queue(alice_principal, "default", reason="the mainframe is down")
    client = logged_in(request.getfixturevalue(who))

    listed = client.get(LANES)
    page = client.get(f"{LANES}{lane.pk}/change/").content.decode()

    assert [row.pk for row in listed.context["cl"].result_list] == [lane.pk]
    for shown in (listed.content.decode(), page):
        assert "by alice since" in shown and "the mainframe is down" in shown
        assert (act_on(lane, "resume") in shown) is (who == "alice")
        assert f"{QUEUES}{lane.queue_id}/" not in shown
    assert client.get(f"{LANES}{foreign.pk}/change/").status_code == 404
    assert client.post(f"{LANES}{lane.pk}/change/", {"is_waiting": "on"}).status_code == 403


def test_a_lane_is_paused_and_resumed_from_the_list_and_its_history_shows_it(alice: User, lane: Lane) -> None:
    client = logged_in(alice)

    asked = client.post(act_on(lane, "pause"), {"back": "list"})
    assert 'name="back" value="list"' in asked.content.decode()
    assert "Other tenants are not touched" in asked.content.decode()
    done = client.post(act_on(lane, "pause"), SURE | {"reason": "later", "until": soon(), "back": "list"}, follow=True)

    lane.refresh_from_db()
    assert (lane.paused_by, lane.paused_reason, lane.paused_until is None) == ("alice", "later", False)
    assert done.request["PATH_INFO"] == LANES
    assert messages_of(done) == ["Queue default of acme is paused; its jobs wait."]
    again = client.post(act_on(lane, "pause"), SURE, follow=True)
    assert messages_of(again) == ["Queue default is paused already."]
    resumed = client.post(act_on(lane, "resume"), SURE, follow=True)
    assert messages_of(resumed) == ["Queue default of acme goes on."]
    assert resumed.request["PATH_INFO"] == f"{LANES}{lane.pk}/change/"
    assert entries("action", "target", "tenant__code") == [
        ("pause queue", "default", "acme"),
        ("resume queue", "default", "acme"),
    ]
    history = client.get(f"{LANES}{lane.pk}/history/").context["entries"]
    assert [entry.action for entry in history] == ["resume queue", "pause queue"]


def test_a_queue_that_no_job_has_come_to_is_paused_by_its_name(alice: User, bob: User, tenant: Tenant) -> None:
    client = logged_in(alice)
    assert "No lanes yet" in client.get(LANES).content.decode()
    assert f"{LANES}pause/" in client.get(LANES).content.decode()
    assert f"{LANES}pause/" not in logged_in(bob).get(LANES).content.decode()
    assert client.get(f"{LANES}pause/").context["form"]["tenant"].value() == "acme"
    assert not Lane.objects.exists()

    order = SURE | {"tenant": "acme", "queue": "default", "reason": "later", "until": soon()}
    done = client.post(f"{LANES}pause/", order, follow=True)
    again = client.post(f"{LANES}pause/", order, follow=True)

    lane = Lane.objects.get()
    assert (lane.tenant, lane.queue.name, lane.paused_by, lane.paused_reason) == (tenant, "default", "alice", "later")
    assert messages_of(done) == ["Queue default of acme is paused; its jobs wait."]
    assert messages_of(again) == ["Queue default is paused already."]
    assert entries() == [("alice", "admin", "pause queue", "default", "later")]


@pytest.mark.parametrize("given", [{"tenant": "umbrella"}, {"tenant": "nobody"}, {"queue": "nowhere"}, {"until": "x"}])
def test_the_form_of_a_queue_takes_what_it_offers(given: dict[str, str], alice: User, other_tenant: Tenant) -> None:
    response = logged_in(alice).post(f"{LANES}pause/", SURE | {"tenant": "acme", "queue": "default"} | given)

    assert list(response.context["form"].errors) == list(given)
    assert "umbrella" not in response.content.decode()
    assert not Lane.objects.exists()


def test_only_those_who_may_pause_somewhere_are_asked_which_queue(bob: User, vera: User) -> None:
    for user in (bob, vera):
        client = logged_in(user)
        assert client.get(f"{LANES}pause/").status_code == 403
        assert client.post(f"{LANES}pause/", SURE | {"tenant": "acme", "queue": "default"}).status_code == 403
    assert not Lane.objects.exists()


# ---- Queues: the whole ----------------------------------------------------------------------------------------


def test_the_whole_queue_is_paused_by_the_platform_and_its_tenants_see_it(
    superuser: User, alice: User, lane: Lane
) -> None:
    client, address = logged_in(superuser), f"{QUEUES}{lane.queue_id}/change/"
    assert offered(client, address) == ["pause"]

    order = SURE | {"reason": "the broker moves", "until": soon()}
    done = client.post(act_on(lane.queue, "pause"), order, follow=True)

    queue = queue_row()
    assert (queue.paused_by, queue.paused_reason, queue.paused_until is None) == ("root", "the broker moves", False)
    assert Lane.objects.get().paused_at is None
    assert messages_of(done) == ["Queue default is paused for all tenants; their jobs wait."]
    assert "for all tenants by root since" in logged_in(alice).get(LANES).content.decode()
    assert offered(client, address) == ["resume"]
    resumed = client.post(act_on(lane.queue, "resume"), SURE, follow=True)
    assert messages_of(resumed) == ["Queue default goes on for all tenants."]
    assert queue_row().paused_at is None
    assert entries("action", "target", "tenant__code") == [
        ("pause whole queue", "default", SYSTEM),
        ("resume whole queue", "default", SYSTEM),
    ]
    history = client.get(f"{QUEUES}{lane.queue_id}/history/").context["entries"]
    assert [entry.action for entry in history] == ["resume whole queue", "pause whole queue"]


def test_a_tenants_lane_is_paused_from_the_queues_page(superuser: User, lane: Lane) -> None:
    client, address = logged_in(superuser), f"{QUEUES}{lane.queue_id}/change/"
    assert f'formaction="{act_on(lane, "pause")}" name="back" value="queue"' in client.get(address).content.decode()

    done = client.post(act_on(lane, "pause"), SURE | {"back": "queue"}, follow=True)

    assert done.request["PATH_INFO"] == address
    assert f'formaction="{act_on(lane, "resume")}"' in done.content.decode()
    assert queue_row().paused_at is None
    assert entries("action", "tenant__code") == [("pause queue", "acme")]


def test_a_user_who_cannot_see_the_queues_page_is_not_sent_there(alice: User, lane: Lane) -> None:
    done = logged_in(alice).post(act_on(lane, "pause"), SURE | {"back": "queue"})

    assert done["Location"] == f"{LANES}{lane.pk}/change/"


# ---- Tenants --------------------------------------------------------------------------------------------------


def test_a_tenant_is_suspended_and_resumed_by_the_platform(superuser: User, alice: User, tenant: Tenant) -> None:
    client, address = logged_in(superuser), f"{TENANTS}{tenant.pk}/change/"
    assert offered(client, address) == ["suspend"]

    done = client.post(act_on(tenant, "suspend"), SURE | {"reason": "unpaid", "until": soon()}, follow=True)

    tenant.refresh_from_db()
    assert (tenant.status, tenant.paused_by, tenant.paused_reason) == ("SUSPENDED", "root", "unpaid")
    assert messages_of(done) == ["Tenant acme is suspended; its jobs wait."]
    page = logged_in(alice).get(address)
    assert "SUSPENDED" in page.content.decode() and ": unpaid" in page.content.decode()
    assert page.context["acts"] == []
    assert offered(client, address) == ["resume"]
    resumed = client.post(act_on(tenant, "resume"), SURE, follow=True)
    assert messages_of(resumed) == ["Tenant acme goes on."]
    tenant.refresh_from_db()
    assert (tenant.status, tenant.paused_at) == ("ACTIVE", None)
    assert entries("actor", "action", "tenant__code") == [
        ("root", "suspend tenant", "acme"),
        ("root", "resume tenant", "acme"),
    ]


def test_the_system_tenant_is_never_suspended(superuser: User) -> None:
    system, client = Tenant.objects.get(code=SYSTEM), logged_in(superuser)

    assert offered(client, f"{TENANTS}{system.pk}/change/") == []
    done = client.post(act_on(system, "suspend"), SURE, follow=True)

    assert messages_of(done) == ["The system tenant is never suspended."]
    assert entries() == []


# ---- What it costs --------------------------------------------------------------------------------------------


def test_lists_and_pages_cost_the_same_queries_for_one_lane_or_many(superuser: User, alice: User, lane: Lane) -> None:
    pages = [(logged_in(superuser), LANES), (logged_in(superuser), f"{QUEUES}{lane.queue_id}/change/")]
    pages += [(logged_in(alice), LANES)]
    few = [len(queries_of(client, address)) for client, address in pages]

    for number in range(20):
        Lane.objects.create(queue=lane.queue, tenant=Tenant.objects.create(code=f"t{number}", name="T"))
    for queue in Queue.objects.exclude(pk=lane.queue_id):
        Lane.objects.create(queue=queue, tenant=lane.tenant)
    many = [len(queries_of(client, address)) for client, address in pages]

    assert Lane.objects.filter(tenant=lane.tenant).count() > 1
    assert many == few


def test_no_page_needs_more_than_the_content_security_policy_allows(
    superuser: User, tenant: Tenant, lane: Lane, program: Program
) -> None:
    pausing.pause_queue(principals.of_user(superuser, tenant), "default", whole=True, reason="<b>")
    client = logged_in(superuser)
    shown = [client.get(address) for address in (LANES, f"{LANES}{lane.pk}/change/", f"{LANES}pause/", TENANTS)]
    shown += [client.get(f"{QUEUES}{lane.queue_id}/change/"), client.get(f"{TENANTS}{tenant.pk}/change/")]
    shown += [client.post(act_on(row, name)) for row, name in ((program, "pause"), (lane.queue, "resume"))]

    for response in shown:
        page = response.content.decode()
        assert response.status_code == 200
        assert "<b>" not in page
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page), response.request["PATH_INFO"]
