"""Who acts, and who a job runs as: captured at submission, restricted at the run to current permissions."""

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission, User

from jobsite.errors import Forbidden, NotFound
from jobsite.tenants.models import ALL_SCOPES, SCOPES, Membership, Role, Tenant

CACHE_SECONDS = 5.0


class Kind(StrEnum):
    """USER is checked again at the run; LOCAL (the command line) and SYSTEM are the installation itself."""

    USER = "USER"
    LOCAL = "LOCAL"
    SYSTEM = "SYSTEM"


@dataclass(frozen=True)
class Principal:
    """Somebody acting in one tenant, with what they may do there."""

    kind: Kind
    tenant: Tenant
    name: str
    scopes: frozenset[str]
    user_id: int | None = None
    is_superuser: bool = False
    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    language: str = "en"
    door: str = field(default="python", compare=False)

    @property
    def is_platform(self) -> bool:
        """Whether they act for the platform: superusers, the local command line, the system."""
        return self.is_superuser or self.kind is not Kind.USER

    def require(self, scope: str) -> None:
        """Raise Forbidden, which names the scope, unless the principal has it."""
        if scope not in self.scopes:
            raise Forbidden(
                f"{self.name} lacks {scope} in tenant {self.tenant.code}", code="missing_scope", scope=scope
            )

    @property
    def captured(self) -> "Captured":
        """The context that jobs of this principal carry. The superuser bit is not part of it."""
        return _captured(
            str(self.kind), self.user_id, self.name, self.tenant.code, self.roles, self.scopes, self.permissions,
            self.language, self.tenant.time_zone,
        )  # fmt: skip


@dataclass(frozen=True)
class Captured:
    """A context as it is stored: its key and its canonical JSON."""

    key: UUID
    content: str


@lru_cache(maxsize=1_000)
def _captured(
    kind: str, user_id: int | None, name: str, tenant: str, roles: tuple[str, ...], scopes: frozenset[str],
    permissions: tuple[str, ...], language: str, time_zone: str,
) -> Captured:  # fmt: skip
    content: dict[str, object] = {
        "kind": kind,
        "user_id": user_id,
        "submitted_by": name,
        "tenant": tenant,
        "is_member": bool(roles),
        "roles": list(roles),
        "scopes": sorted(scopes),
        "permissions": list(permissions),
        "language": language,
        "time_zone": time_zone,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return Captured(UUID(bytes=hashlib.sha256(text.encode()).digest()[:16]), text)


def system(tenant: Tenant) -> Principal:
    """The platform's own code acting in a tenant."""
    return Principal(Kind.SYSTEM, tenant, "system", frozenset(ALL_SCOPES), language=tenant.language)


def local(tenant: Tenant, *, login: str, door: str = "cli") -> Principal:
    """A person who can run commands on this machine. They have all permissions of the tenant."""
    return Principal(Kind.LOCAL, tenant, f"local:{login}", frozenset(ALL_SCOPES), language=tenant.language, door=door)


def of_user(user: User, tenant: Tenant, *, door: str = "python") -> Principal:
    """A user acting in a tenant: by their membership, or as a superuser.

    Raises NotFound for a stranger or a deactivated user: to them the tenant does not exist.
    """
    membership = Membership.objects.filter(user=user, tenant=tenant).first() if user.is_active else None
    if not user.is_active or (membership is None and not user.is_superuser):
        raise NotFound(f"no tenant {tenant.code}")
    scopes = ALL_SCOPES if user.is_superuser else SCOPES[membership.role if membership else Role.VIEWER]
    return Principal(
        Kind.USER,
        tenant,
        user.get_username(),
        frozenset(scopes),
        user_id=user.pk,
        is_superuser=user.is_superuser,
        roles=(membership.role,) if membership else (),
        permissions=tuple(sorted(_permissions_of(user))),
        language=(membership.language if membership else "") or tenant.language,
        door=door,
    )


def again(tenant: Tenant, *, kind: str, user_id: int | None, name: str, door: str = "python") -> Principal:
    """The principal that was stored as kind, user and name, with their permissions as of now.

    Raises NotFound where they are no active member of the tenant any more.
    """
    match Kind(kind):
        case Kind.LOCAL:
            return local(tenant, login=name.removeprefix("local:"), door=door)
        case Kind.SYSTEM:
            return system(tenant)
        case Kind.USER:
            user = None if user_id is None else get_user_model().objects.filter(pk=user_id).first()
            if user is None:
                raise NotFound(f"no user {name}")
            return of_user(user, tenant, door=door)


def _permissions_of(user: User) -> set[str]:
    # Not get_all_permissions(): it returns every permission for a superuser, and jobs must not carry the superuser bit.
    granted = Permission.objects.filter(user=user) | Permission.objects.filter(group__user=user)
    rows = granted.values_list("content_type__app_label", "codename").distinct()
    return {f"{label}.{codename}" for label, codename in rows}


class PermissionRefused(Exception):
    """The job's principal may not do this, or not any more. A permanent failure of kind REFUSED."""


@dataclass(frozen=True)
class RunningAs:
    """The principal of a run: the user as of now, and the captured permissions that they still have."""

    user: User | None
    permissions: frozenset[str]
    everything: bool

    def require(self, permission: str) -> None:
        """Raise PermissionRefused, which names the permission, unless the job has it."""
        if not self.everything and permission not in self.permissions:
            name = self.user.get_username() if self.user else "the job"
            raise PermissionRefused(f"{name} lacks the permission {permission}")


_cache: dict[tuple[int, int], tuple[float, "_Current | str"]] = {}
_cache_lock = threading.Lock()


@dataclass(frozen=True)
class _Current:
    user: User
    permissions: frozenset[str]


def running_as(context: Mapping[str, Any], *, tenant_id: int) -> RunningAs:
    """Restrict a captured context to the permissions that its user still has, looked up at most every five seconds.

    Raises PermissionRefused with the reason when the user was deactivated, deleted or removed from the tenant.
    """
    if context["kind"] != Kind.USER:
        return RunningAs(None, frozenset(), everything=True)
    current = _current(context["user_id"], tenant_id)
    if isinstance(current, str):
        raise PermissionRefused(current.format(name=context["submitted_by"], tenant=context["tenant"]))
    held = frozenset(context["permissions"]) | frozenset(context["scopes"])
    return RunningAs(current.user, held & current.permissions, everything=False)


def _current(user_id: int, tenant_id: int) -> _Current | str:
    key = (user_id, tenant_id)
    with _cache_lock:
        known = _cache.get(key)
    if known and known[0] > time.monotonic():
        return known[1]
    found = _look_up(user_id, tenant_id)
    with _cache_lock:
        if len(_cache) > 10_000:
            _cache.clear()
        _cache[key] = (time.monotonic() + CACHE_SECONDS, found)
    return found


def _look_up(user_id: int, tenant_id: int) -> _Current | str:
    user = get_user_model().objects.filter(pk=user_id).first()
    if user is None:
        return "user {name} no longer exists"
    if not user.is_active:
        return "user {name} is deactivated"
    membership = Membership.objects.filter(user=user, tenant_id=tenant_id).first()
    if membership is None and not user.is_superuser:
        return "user {name} is no longer a member of tenant {tenant}"
    scopes = ALL_SCOPES if membership is None else SCOPES[membership.role]
    return _Current(user, frozenset(_permissions_of(user)) | frozenset(scopes))
