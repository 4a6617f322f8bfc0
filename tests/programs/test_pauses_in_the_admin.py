"""Pauses in the admin: buttons that fit, a page that asks, and whose hand reaches which program, queue and tenant."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobsite.tenants.models import SYSTEM, Tenant
from programs.models import AuditEntry, Program
from tests.programs.conftest import Jobs
from tests.programs.test_admin import PROGRAMS, logged_in, messages_of

pytestmark = pytest.mark.django_db

TENANTS = "/admin/jobsite_tenants/tenant/"
SURE = {"confirm": "1"}
TERMINATED = "Program mine is terminated; the waiting jobs of its schedules are canceled."


@pytest.fixture
def program(define: Any) -> Program:
    row: Program = define("mine")
    return row


def act_on(row: Any, name: str) -> str:
    pages = {Program: PROGRAMS, Tenant: TENANTS}
    return f"{pages[type(row)]}{row.pk}/act/{name}/"


def offered(client: Client, address: str) -> list[str]:
    return [act.name for act, _ in client.get(address).context["pause_acts"]]


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
    assert "Its jobs wait, those that come too; what runs goes on to its end." in asked.content.decode()
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


# ---- Refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("pause", 'Cannot pause a program with status "TERMINATED".'),
        ("resume", 'Cannot resume a program with status "TERMINATED".'),
        ("terminate", 'Cannot terminate a program with status "TERMINATED".'),
    ],
)
def test_what_does_not_fit_any_more_is_refused_in_one_sentence(
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
def test_what_makes_no_sense_is_an_error_of_its_field(
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


def test_what_is_not_there_is_404(alice: User, program: Program) -> None:
    client = logged_in(alice)

    assert client.post(act_on(program, "explode"), SURE).status_code == 404
    assert client.post(f"{PROGRAMS}{'9' * 30}/act/pause/", SURE).status_code == 404
    Program.objects.update(deleted_at=datetime.now(UTC))
    assert client.post(act_on(program, "pause"), SURE).status_code == 404


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
    assert page.context["pause_acts"] == []
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
