"""Who sees and does what in the admin: superusers everything, members what their role in a tenant allows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest

from jobsite.tenants import principals
from jobsite.tenants.models import SCOPES, SYSTEM, Membership, Tenant
from jobsite.tenants.principals import Principal

READ, WRITE, ADMIN = "jobs:read", "jobs:write", "jobs:admin"
PLATFORM = "platform"
"""No role holds it: superusers only."""
NOBODY = ""
"""Not even superusers: the protocol or the program files own the rows."""

_KEPT_AS = "_jobsite_access"


@dataclass(frozen=True)
class Access:
    """What one user may do in each tenant; read once for each request."""

    is_platform: bool
    roles: Mapping[int, str]

    def tenants(self, scope: str = READ) -> list[int]:
        """The keys of the tenants in which the user's role holds the scope, in order; none for a superuser."""
        return sorted(tenant for tenant, role in self.roles.items() if scope in SCOPES[role])

    def may(self, scope: str, tenant_id: int | None = None) -> bool:
        """Whether the user holds the scope in this tenant, or in any tenant where none is given."""
        if scope == NOBODY:
            return False
        if self.is_platform:
            return True
        held = self.tenants(scope)
        return bool(held) if tenant_id is None else tenant_id in held

    def tenants_to_choose(self, scope: str) -> QuerySet[Tenant]:
        """The rows of the tenants in which the user holds the scope; for a superuser all but `system`."""
        rows = Tenant.objects.exclude(code=SYSTEM)
        return rows if self.is_platform else rows.filter(pk__in=self.tenants(scope))

    @property
    def sees_several(self) -> bool:
        """Whether pages have to say which tenant a row belongs to."""
        return self.is_platform or len(self.roles) > 1


def user_of(request: HttpRequest) -> User:
    """The user of an admin page, who is logged in."""
    return cast(User, request.user)


def access_of(request: HttpRequest) -> Access:
    """What the user of this request may do; one query for each request. A membership in `system` does not count."""
    known: Access | None = getattr(request, _KEPT_AS, None)
    if known is None:
        user = user_of(request)
        rows = Membership.objects.filter(user_id=user.pk).exclude(tenant__code=SYSTEM)
        roles = {} if user.is_superuser else dict(rows.values_list("tenant_id", "role"))
        known = Access(is_platform=user.is_superuser, roles=roles)
        setattr(request, _KEPT_AS, known)
    return known


def principal_of(request: HttpRequest, tenant: Tenant) -> Principal:
    """The user of this request acting in a tenant; NotFound for a stranger."""
    return principals.of_user(user_of(request), tenant, door="admin")


def principals_of(request: HttpRequest) -> Callable[[Tenant], Principal]:
    """A function that returns the principal of this request's user in a tenant; it makes each one once."""
    made: dict[int, Principal] = {}

    def of(tenant: Tenant) -> Principal:
        if tenant.pk not in made:
            made[tenant.pk] = principal_of(request, tenant)
        return made[tenant.pk]

    return of
