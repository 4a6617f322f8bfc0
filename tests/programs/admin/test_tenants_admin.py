"""The admin of tenants, memberships and API keys."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from jobsite.tenants.models import ApiKey, AuditEntry, Membership, Role, Tenant

MEMBERS = "/admin/jobsite_tenants/membership/"
TENANTS = "/admin/jobsite_tenants/tenant/"
KEYS = "/admin/jobsite_tenants/apikey/"


def logged_in(user: User, **options: Any) -> Client:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    client = Client(**options)
    client.force_login(User.objects.get(pk=user.pk))
    return client


@pytest.fixture
def newcomer(db: None) -> User:
    return User.objects.create_user("nina", "nina@example.org", "nina-password")


def settings_of(tenant: Tenant, **fields: object) -> dict[str, object]:
    same = {name: getattr(tenant, name) for name in ("name", "language", "time_zone", "retention_days", "weight")}
    return same | {"status": tenant.status, "code": tenant.code} | fields


# ---- Memberships ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["nina", "nina@example.org", "NINA@example.org"])
def test_an_admin_adds_a_member_by_exact_name_or_address(who: str, alice: User, tenant: Tenant, newcomer: User) -> None:
    response = logged_in(alice).post(f"{MEMBERS}add/", {"tenant": tenant.pk, "who": who, "role": "OPERATOR"})

    assert response.status_code == 302
    assert Membership.objects.get(user=newcomer).role == Role.OPERATOR
    entry = AuditEntry.objects.get(action="membership created")
    assert (entry.tenant, entry.actor, entry.target, entry.door) == (tenant, "alice", "nina", "admin")


@pytest.mark.parametrize("who", ["nin", "nobody", "", "bob"])
def test_a_part_of_a_name_or_a_member_adds_nobody(
    who: str, alice: User, bob: User, tenant: Tenant, newcomer: User
) -> None:
    response = logged_in(alice).post(f"{MEMBERS}add/", {"tenant": tenant.pk, "who": who, "role": "VIEWER"})

    assert response.status_code == 200
    assert response.context["adminform"].form.errors
    assert Membership.objects.filter(tenant=tenant).count() == 2


def test_an_address_of_several_users_is_refused(alice: User, tenant: Tenant, newcomer: User) -> None:
    User.objects.create_user("nino", "nina@example.org", "x")

    data = {"tenant": tenant.pk, "who": "nina@example.org", "role": "VIEWER"}
    page = logged_in(alice).post(f"{MEMBERS}add/", data).content.decode()

    assert "Several users have this address" in page


def test_the_form_lists_no_users_and_no_other_tenants(
    alice: User, charlie: User, other_tenant: Tenant, newcomer: User
) -> None:
    page = logged_in(alice).get(f"{MEMBERS}add/").content.decode()

    assert "acme" in page
    for hidden in ("umbrella", "nina", "charlie", "system"):
        assert hidden not in page


def test_nobody_adds_a_member_elsewhere(alice: User, other_tenant: Tenant, newcomer: User) -> None:
    data = {"who": "nina", "role": "VIEWER"}
    client = logged_in(alice)

    foreign = client.post(f"{MEMBERS}add/", data | {"tenant": other_tenant.pk})
    absent = client.post(f"{MEMBERS}add/", data | {"tenant": 999_999})

    assert foreign.context["adminform"].form.errors == absent.context["adminform"].form.errors
    assert not Membership.objects.filter(user=newcomer).exists()


def test_an_admin_changes_a_role_and_only_that(alice: User, bob: User, other_tenant: Tenant) -> None:
    membership = Membership.objects.get(user=bob)

    data = {"role": "VIEWER", "tenant": other_tenant.pk, "user": alice.pk}
    response = logged_in(alice).post(f"{MEMBERS}{membership.pk}/change/", data)

    membership.refresh_from_db()
    assert response.status_code == 302
    assert (membership.role, membership.user, membership.tenant.code) == ("VIEWER", bob, "acme")
    entry = AuditEntry.objects.get(action="membership updated")
    assert (entry.before, entry.after) == ({"role": "OPERATOR"}, {"role": "VIEWER"})


def test_removing_members_is_audited(alice: User, bob: User, newcomer: User, tenant: Tenant) -> None:
    Membership.objects.create(tenant=tenant, user=newcomer, role=Role.VIEWER)
    mine, other = Membership.objects.get(user=bob), Membership.objects.get(user=newcomer)
    client = logged_in(alice)

    client.post(f"{MEMBERS}{mine.pk}/delete/", {"post": "yes"})
    client.post(MEMBERS, {"action": "delete_selected", "_selected_action": other.pk, "post": "yes"})

    assert not Membership.objects.filter(pk__in=[mine.pk, other.pk]).exists()
    assert set(AuditEntry.objects.filter(action="membership deleted").values_list("target", flat=True)) == {
        "bob",
        "nina",
    }


def test_others_change_no_membership(alice: User, bob: User, charlie: User) -> None:
    membership = Membership.objects.get(user=bob)
    address = f"{MEMBERS}{membership.pk}"

    assert logged_in(bob).post(f"{address}/change/", {"role": "ADMIN"}).status_code == 403
    assert logged_in(bob).get(f"{MEMBERS}add/").status_code == 403
    for place in ("change", "delete", "history"):
        assert logged_in(charlie).get(f"{address}/{place}/").status_code == 404
    assert logged_in(charlie).post(f"{address}/change/", {"role": "ADMIN"}).status_code == 404
    membership.refresh_from_db()
    assert membership.role == "OPERATOR"


def test_an_admin_elsewhere_who_is_a_viewer_here_deletes_nobody_here(bob: User, charlie: User, tenant: Tenant) -> None:
    Membership.objects.create(tenant=tenant, user=charlie, role=Role.VIEWER)
    membership = Membership.objects.get(user=bob)
    client = logged_in(charlie)

    assert client.post(f"{MEMBERS}{membership.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(MEMBERS, {"action": "delete_selected", "_selected_action": membership.pk, "post": "yes"})

    assert Membership.objects.filter(pk=membership.pk).exists()


def test_a_change_needs_the_token_against_forged_requests(alice: User, bob: User) -> None:
    membership = Membership.objects.get(user=bob)

    client = logged_in(alice, enforce_csrf_checks=True)

    assert client.post(f"{MEMBERS}{membership.pk}/change/", {"role": "ADMIN"}).status_code == 403


# ---- Tenants --------------------------------------------------------------------------------------------------


def test_an_admin_sets_what_is_the_tenants_and_not_the_quotas(alice: User, tenant: Tenant) -> None:
    data = settings_of(
        tenant, name="Acme School", time_zone="Europe/Berlin", weight=50, running_quota=999, status="SUSPENDED"
    )
    response = logged_in(alice).post(f"{TENANTS}{tenant.pk}/change/", data)

    tenant.refresh_from_db()
    assert response.status_code == 302
    assert (tenant.name, tenant.time_zone) == ("Acme School", "Europe/Berlin")
    assert (tenant.weight, tenant.running_quota, tenant.status) == (1, None, "ACTIVE")
    assert AuditEntry.objects.get(action="tenant updated").after == {
        "name": "Acme School",
        "time_zone": "Europe/Berlin",
    }


@pytest.mark.parametrize("fields", [{"time_zone": "Mars/Base"}, {"language": "English"}, {"retention_days": 10**9}])
def test_a_wrong_setting_is_an_error_of_its_field(fields: dict[str, object], alice: User, tenant: Tenant) -> None:
    response = logged_in(alice).post(f"{TENANTS}{tenant.pk}/change/", settings_of(tenant, **fields))

    assert list(response.context["adminform"].form.errors) == list(fields)


def test_tenants_are_seen_by_their_members(alice: User, bob: User, charlie: User, tenant: Tenant) -> None:
    assert "umbrella" not in logged_in(alice).get(TENANTS).content.decode()
    assert logged_in(bob).get(f"{TENANTS}{tenant.pk}/change/").status_code == 200
    assert logged_in(bob).post(f"{TENANTS}{tenant.pk}/change/", settings_of(tenant, name="x")).status_code == 403
    assert logged_in(charlie).get(f"{TENANTS}{tenant.pk}/change/").status_code == 404
    assert logged_in(alice).get(f"{TENANTS}add/").status_code == 403
    assert logged_in(alice).get(f"{TENANTS}{tenant.pk}/delete/").status_code == 403


def test_a_superuser_makes_a_tenant_with_all_that_belongs_to_one(superuser: User, alice: User, settings: Any) -> None:
    settings.JOBSITE_TENANT_SETUP = [f"{__name__}.note_tenant"]
    noted.clear()
    fresh = Tenant(code="globex", name="Globex")

    response = logged_in(superuser).post(f"{TENANTS}add/", settings_of(fresh, pending_quota=10))

    assert response.status_code == 302
    made = Tenant.objects.get(code="globex")
    assert made.pending_quota == 10
    assert noted == ["globex"]
    assert AuditEntry.objects.get(action="tenant created").tenant == made


noted: list[str] = []


def note_tenant(tenant: Tenant) -> None:
    noted.append(tenant.code)


def test_a_superuser_sets_quotas(superuser: User, tenant: Tenant) -> None:
    logged_in(superuser).post(f"{TENANTS}{tenant.pk}/change/", settings_of(tenant, running_quota=5))

    tenant.refresh_from_db()
    assert tenant.running_quota == 5


def test_only_acts_set_the_status(superuser: User, tenant: Tenant) -> None:
    client = logged_in(superuser)

    client.post(f"{TENANTS}{tenant.pk}/change/", settings_of(tenant, name="Acme School", status="SUSPENDED"))
    client.post(f"{TENANTS}add/", settings_of(Tenant(code="globex", name="Globex"), status="SUSPENDED"))

    assert set(Tenant.objects.exclude(code="system").values_list("name", "status")) == {
        ("Acme School", "ACTIVE"),
        ("Globex", "ACTIVE"),
    }
    assert AuditEntry.objects.get(action="tenant updated").after == {"name": "Acme School"}
    assert "status_shown" not in client.get(f"{TENANTS}add/").content.decode()


def test_nobody_can_change_the_system_tenant(superuser: User) -> None:
    system = Tenant.objects.get(code="system")

    response = logged_in(superuser).post(f"{TENANTS}{system.pk}/change/", settings_of(system, name="x"))

    assert response.status_code == 403


# ---- API keys -------------------------------------------------------------------------------------------------


def test_keys_are_shown_to_admins_without_their_secret(alice: User, bob: User, charlie: User, tenant: Tenant) -> None:
    expires = timezone.now() + timedelta(days=1)
    fields = {"name": "ci", "prefix": "jsk_a1b2c3", "digest": "ab" * 32, "scopes": ["jobs:read"]}
    key = ApiKey.objects.create(tenant=tenant, user=bob, expires_at=expires, **fields)
    address = f"{KEYS}{key.pk}/change/"

    listed, page = logged_in(alice).get(KEYS).content.decode(), logged_in(alice).get(address).content.decode()

    assert "jsk_a1b2c3" in listed
    assert "jobs:read" in listed
    assert "ab" * 32 not in listed + page
    assert logged_in(alice).post(address, {"name": "x"}).status_code == 403
    assert logged_in(bob).get(KEYS).status_code == 403
    assert logged_in(bob).get(address).status_code == 404
    assert logged_in(charlie).get(address).status_code == 404
