"""What all tests share: the embedded servers, in a folder of the tests, and the people.

Alice owns the tenant, Bob is her colleague, Charlie is a stranger with another tenant.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.db.models.signals import post_migrate

from jobsite import embedded
from jobsite.database import Cursor
from jobsite.notifications.models import Group, Rule
from jobsite.programs.definitions import from_mapping
from jobsite.programs.definitions.registration import load
from jobsite.programs.models import Program
from jobsite.programs.upkeep import system_programs
from jobsite.tenants import principals
from jobsite.tenants.models import Membership, Role, Tenant
from jobsite.tenants.principals import Principal
from tests import engine


@pytest.fixture(scope="session")
def servers() -> embedded.Servers:
    """The PostgreSQL and Redis of the tests, started or joined."""
    return embedded.ensure(settings.JOBSITE_HOME, durable=False)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(servers: embedded.Servers) -> None:
    """Start the servers before pytest-django makes its database. Only the tests of system programs make them."""
    ours = apps.get_app_config("jobsite_programs")
    assert post_migrate.disconnect(system_programs.register_after_migrate, sender=ours)


def _member(name: str, tenant: Tenant, role: Role) -> User:
    user = User.objects.create_user(name, f"{name}@example.org", f"{name}-password")
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


@pytest.fixture
def tenant(db: None) -> Tenant:
    return Tenant.objects.create(code="acme", name="Acme")


@pytest.fixture
def other_tenant(db: None) -> Tenant:
    return Tenant.objects.create(code="umbrella", name="Umbrella")


@pytest.fixture
def alice(tenant: Tenant) -> User:
    return _member("alice", tenant, Role.ADMIN)


@pytest.fixture
def bob(tenant: Tenant) -> User:
    return _member("bob", tenant, Role.OPERATOR)


@pytest.fixture
def charlie(other_tenant: Tenant) -> User:
    return _member("charlie", other_tenant, Role.ADMIN)


@pytest.fixture
def alice_principal(tenant: Any, alice: Any) -> Principal:
    """Alice, the tenant's ADMIN, in the admin."""
    return principals.of_user(alice, tenant, door="admin")


@pytest.fixture
def bob_principal(tenant: Any, bob: Any) -> Principal:
    """Bob, Alice's colleague, an OPERATOR, through the API."""
    return principals.of_user(bob, tenant, door="api")


@pytest.fixture
def charlie_principal(other_tenant: Any, charlie: Any) -> Principal:
    """Charlie, the ADMIN of another tenant."""
    return principals.of_user(charlie, other_tenant)


@pytest.fixture
def vera(tenant: Any) -> Any:
    """A VIEWER of Alice's tenant."""
    user = User.objects.create_user("vera", "vera@example.org", "vera-password")
    Membership.objects.create(tenant=tenant, user=user, role=Role.VIEWER)
    return user


@pytest.fixture
def superuser(db: None) -> Any:
    """The platform's operator in the admin."""
    return User.objects.create_superuser("root", "root@example.org", "root-password")


@pytest.fixture
def cursor(db: None) -> Iterator[Cursor]:
    """Django's cursor, in the test's own transaction where it has one."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '10s'")  # so that a statement fails instead of waiting forever
        yield cursor


@pytest.fixture(scope="module")
def docker_host() -> Iterator[str]:
    """The DOCKER_HOST of an engine with `tests.engine.IMAGE`. Without one, tests are skipped with the reason."""
    if reason := engine.missing():
        pytest.skip(reason)
    with engine.running() as host:
        yield host


@pytest.fixture
def operator(tenant: Tenant) -> Principal:
    """The local command line in Alice's tenant."""
    return principals.local(tenant, login="root")


@pytest.fixture
def define(operator: Principal) -> Callable[..., Program]:
    """Load a program, with keys as in a program file: `define(target="tests.sample_actions:fail", timeout="5s")`."""

    def make(code: str = "sample", *, target: str = "tests.sample_actions:succeed", **keys: Any) -> Program:
        keys.setdefault("action", [{"kind": "python", "target": target}])
        keys.setdefault("parameters", {"type": "object"})
        definition = from_mapping({"code": code, **keys}, where="test", queues=settings.JOBSITE_QUEUES)
        load(operator, [definition])
        return Program.objects.get(tenant=operator.tenant, code=code)

    return make


@pytest.fixture
def ops(tenant: Any) -> Group:
    return Group.objects.create(tenant=tenant, code="ops")


@pytest.fixture
def rule(ops: Group) -> Callable[..., Rule]:
    """Make a rule of the group: `rule("FAILED", to_users=[bob], throttle_minutes=10)`."""

    def make(event: str, *, to_users: list[Any] | None = None, **fields: Any) -> Rule:
        if to_users is None and not fields.keys() & {"to_roles", "to_addresses", "to_url"}:
            fields["to_addresses"] = ["ops@example.org"]
        made = Rule.objects.create(tenant=ops.tenant, group=ops, event=event, **fields)
        made.to_users.set(to_users or [])
        return made

    return make


@pytest.fixture
def watched(define: Callable[..., Program], ops: Group) -> Program:
    """A program with the group's rules."""
    return define("watched", notification_group="ops", max_consecutive_failures=3)
