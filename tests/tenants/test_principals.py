"""Who acts, and who a job runs as: captured at submission, restricted at the run to current permissions."""

import json

import pytest
from django.contrib.auth.models import Group, Permission, User

from jobsite.errors import Forbidden, NotFound
from jobsite.tenants import principals
from jobsite.tenants.models import Membership, Role
from jobsite.tenants.principals import Kind, PermissionRefused, running_as

pytestmark = pytest.mark.django_db


def captured(principal):
    """The context of a job, as its worker reads it."""
    return json.loads(principal.captured.content)


def grant(user, codename="add_user"):
    user.user_permissions.add(Permission.objects.get(codename=codename))


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""

    class Clock:
        now = 1_000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(principals, "time", clock)
    return clock


# ---- acting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "scopes"),
    [
        (Role.VIEWER, {"jobs:read"}),
        (Role.OPERATOR, {"jobs:read", "jobs:write"}),
        (Role.ADMIN, {"jobs:read", "jobs:write", "jobs:admin"}),
    ],
)
def test_a_role_gives_its_scopes_and_those_of_the_roles_below(tenant, alice, role, scopes):
    Membership.objects.update(role=role)

    principal = principals.of_user(alice, tenant)

    assert principal.scopes == scopes
    assert (principal.kind, principal.roles, principal.is_platform) == (Kind.USER, (role,), False)


@pytest.mark.parametrize("scope", ["jobs:read", "jobs:write", "jobs:admin"])
def test_a_refusal_names_the_missing_scope(tenant, alice, scope):
    Membership.objects.update(role=Role.VIEWER)
    viewer = principals.of_user(alice, tenant)

    if scope == "jobs:read":
        viewer.require(scope)
    else:
        with pytest.raises(Forbidden, match=f"alice lacks {scope} in tenant acme") as refusal:
            viewer.require(scope)
        assert refusal.value.details == {"scope": scope}


def test_a_stranger_does_not_find_the_tenant(tenant, charlie):
    with pytest.raises(NotFound, match="no tenant acme"):
        principals.of_user(charlie, tenant)


@pytest.mark.parametrize("is_superuser", [False, True])
def test_a_deactivated_user_does_not_find_the_tenant(tenant, alice, is_superuser):
    alice.is_active, alice.is_superuser = False, is_superuser

    with pytest.raises(NotFound):
        principals.of_user(alice, tenant)


def test_a_superuser_has_every_scope_in_every_tenant(tenant, other_tenant):
    root = User.objects.create_superuser("root")

    for each in (tenant, other_tenant):
        principal = principals.of_user(root, each)
        assert principal.scopes == {"jobs:read", "jobs:write", "jobs:admin"}
        assert principal.is_platform


@pytest.mark.parametrize("make", [principals.system, lambda tenant: principals.local(tenant, login="root")])
def test_the_command_line_and_the_system_have_every_scope_in_the_tenant(tenant, make):
    principal = make(tenant)

    for scope in ("jobs:read", "jobs:write", "jobs:admin"):
        principal.require(scope)
    assert (principal.is_platform, principal.user_id) == (True, None)


# ---- what is captured ------------------------------------------------------------------------------------


def test_a_job_carries_its_submitter_and_their_permissions(tenant, bob):
    tenant.language, tenant.time_zone = "de", "Europe/Berlin"
    grant(bob)

    content = captured(principals.of_user(bob, tenant))

    assert content == {
        "kind": "USER",
        "user_id": bob.pk,
        "submitted_by": "bob",
        "tenant": "acme",
        "is_member": True,
        "roles": ["OPERATOR"],
        "scopes": ["jobs:read", "jobs:write"],
        "permissions": ["auth.add_user"],
        "language": "de",
        "time_zone": "Europe/Berlin",
    }


def test_equal_contexts_have_the_same_key_and_different_ones_do_not(tenant, alice, bob):
    keys = {principals.of_user(alice, tenant, door=door).captured.key for door in ("api", "cli", "admin")}

    assert len(keys) == 1
    assert principals.of_user(bob, tenant).captured.key not in keys


def test_the_bit_of_a_superuser_is_not_carried(tenant):
    root = User.objects.create_superuser("root")
    grant(root, "change_user")

    content = captured(principals.of_user(root, tenant))

    assert content["permissions"] == ["auth.change_user"]
    assert not [key for key in content if "superuser" in key]


def test_permissions_of_groups_count(tenant, bob):
    group = Group.objects.create(name="teachers")
    group.permissions.add(Permission.objects.get(codename="view_user"))
    bob.groups.add(group)

    assert captured(principals.of_user(bob, tenant))["permissions"] == ["auth.view_user"]


# ---- running ---------------------------------------------------------------------------------------------


def test_a_job_runs_with_the_permissions_of_its_submitter(tenant, bob):
    grant(bob)

    running = running_as(captured(principals.of_user(bob, tenant)), tenant_id=tenant.pk)

    assert running.user == bob
    running.require("auth.add_user")
    running.require("jobs:write")
    with pytest.raises(PermissionRefused, match=r"bob lacks the permission auth\.delete_user"):
        running.require("auth.delete_user")


def deactivate(user, tenant):
    User.objects.filter(pk=user.pk).update(is_active=False)


def delete(user, tenant):
    User.objects.filter(pk=user.pk).delete()


def remove(user, tenant):
    Membership.objects.filter(user=user, tenant=tenant).delete()


def move_elsewhere(user, tenant):
    remove(user, tenant)
    other = type(tenant).objects.create(code="other", name="Other")
    Membership.objects.create(user=user, tenant=other, role=Role.ADMIN)


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (deactivate, "user bob is deactivated"),
        (delete, "user bob no longer exists"),
        (remove, "user bob is no longer a member of tenant acme"),
        (move_elsewhere, "user bob is no longer a member of tenant acme"),
    ],
)
def test_jobs_of_a_user_who_has_left_are_refused(tenant, bob, leave, reason):
    context = captured(principals.of_user(bob, tenant))
    leave(bob, tenant)

    with pytest.raises(PermissionRefused, match=reason):
        running_as(context, tenant_id=tenant.pk)


def test_jobs_of_a_deactivated_superuser_are_refused(tenant):
    root = User.objects.create_superuser("root")
    context = captured(principals.of_user(root, tenant))
    deactivate(root, tenant)

    with pytest.raises(PermissionRefused, match="user root is deactivated"):
        running_as(context, tenant_id=tenant.pk)


def test_a_permission_that_was_revoked_since_is_missing(tenant, bob):
    grant(bob)
    context = captured(principals.of_user(bob, tenant))
    bob.user_permissions.clear()

    running = running_as(context, tenant_id=tenant.pk)

    with pytest.raises(PermissionRefused, match=r"auth\.add_user"):
        running.require("auth.add_user")


def test_a_permission_that_was_granted_since_is_missing(tenant, bob):
    context = captured(principals.of_user(bob, tenant))
    grant(bob)

    with pytest.raises(PermissionRefused):
        running_as(context, tenant_id=tenant.pk).require("auth.add_user")


def test_jobs_of_a_demoted_member_run_with_the_lower_role(tenant, alice):
    context = captured(principals.of_user(alice, tenant))
    Membership.objects.update(role=Role.VIEWER)

    running = running_as(context, tenant_id=tenant.pk)

    running.require("jobs:read")
    for scope in ("jobs:write", "jobs:admin"):
        with pytest.raises(PermissionRefused, match=scope):
            running.require(scope)


def test_jobs_of_a_promoted_member_run_with_the_lower_role(tenant, bob):
    context = captured(principals.of_user(bob, tenant))
    Membership.objects.update(role=Role.ADMIN)

    with pytest.raises(PermissionRefused, match="jobs:admin"):
        running_as(context, tenant_id=tenant.pk).require("jobs:admin")


def test_the_job_of_a_superuser_has_only_the_permissions_that_were_granted(tenant):
    root = User.objects.create_superuser("root")
    grant(root, "change_user")

    running = running_as(captured(principals.of_user(root, tenant)), tenant_id=tenant.pk)

    running.require("auth.change_user")
    with pytest.raises(PermissionRefused, match=r"root lacks the permission auth\.add_user"):
        running.require("auth.add_user")


def test_jobs_of_a_former_superuser_who_is_no_member_are_refused(tenant):
    root = User.objects.create_superuser("root")
    context = captured(principals.of_user(root, tenant))
    User.objects.update(is_superuser=False)

    with pytest.raises(PermissionRefused, match="no longer a member"):
        running_as(context, tenant_id=tenant.pk)


@pytest.mark.parametrize("make", [principals.system, lambda tenant: principals.local(tenant, login="root")])
def test_the_command_line_and_the_system_are_not_checked_again(tenant, make, django_assert_num_queries):
    with django_assert_num_queries(0):
        running = running_as(captured(make(tenant)), tenant_id=tenant.pk)

    running.require("anything.at_all")
    assert running.user is None


def test_a_user_is_looked_up_at_most_every_five_seconds(tenant, bob, clock, django_assert_num_queries):
    context = captured(principals.of_user(bob, tenant))
    running_as(context, tenant_id=tenant.pk)
    deactivate(bob, tenant)

    clock.now += 4.9
    with django_assert_num_queries(0):
        assert running_as(context, tenant_id=tenant.pk).user == bob

    clock.now += 0.2
    with pytest.raises(PermissionRefused, match="deactivated"):
        running_as(context, tenant_id=tenant.pk)


def test_a_refusal_is_remembered_for_five_seconds_too(tenant, bob, clock):
    context = captured(principals.of_user(bob, tenant))
    deactivate(bob, tenant)
    with pytest.raises(PermissionRefused):
        running_as(context, tenant_id=tenant.pk)

    User.objects.update(is_active=True)
    with pytest.raises(PermissionRefused):
        running_as(context, tenant_id=tenant.pk)

    clock.now += 5.1
    assert running_as(context, tenant_id=tenant.pk).user == bob


def test_each_tenant_is_looked_up_for_itself(tenant, other_tenant, bob):
    context = captured(principals.of_user(bob, tenant))
    running_as(context, tenant_id=tenant.pk)

    with pytest.raises(PermissionRefused, match="no longer a member"):
        running_as(context, tenant_id=other_tenant.pk)


def test_a_refusal_has_the_name_of_the_context_as_it_is(tenant, bob):
    first = captured(principals.of_user(bob, tenant))
    deactivate(bob, tenant)

    for name in ("bob", "robert {0} %s {tenant}"):
        with pytest.raises(PermissionRefused) as refusal:
            running_as(first | {"submitted_by": name}, tenant_id=tenant.pk)
        assert str(refusal.value) == f"user {name} is deactivated"
