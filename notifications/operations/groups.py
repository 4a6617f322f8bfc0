"""Groups of rules, which programs name: found, made and deleted by people."""

from django.db import connection, transaction
from django.db.models.functions import Now

from jobsite.errors import Conflict, Invalid, NotFound
from jobsite.notifications.models import Group, Rule
from jobsite.notifications.operations.codes import check_code, save_new
from jobsite.tenants import audit
from jobsite.tenants.models import CODE_PATTERN
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason
from jobsite.values import storable

MAX_NAME = 200


def find_group(principal: Principal, code: str) -> Group:
    """The group of this code in the principal's tenant; NotFound names it."""
    rows = Group.objects.filter(tenant=principal.tenant, deleted_at__isnull=True)
    found = rows.filter(code=code).first() if CODE_PATTERN.fullmatch(code) else None
    if found is None:
        raise NotFound(f"no notification group {storable.mended(code)[:100]} in tenant {principal.tenant.code}")
    return found


def create_group(principal: Principal, code: str, *, name: str = "") -> Group:
    """A new group without rules; Forbidden without jobs:admin, Invalid (invalid_group), Conflict (code_taken)."""
    principal.require("jobs:admin")
    check_code(code, "invalid_group")
    if len(name) > MAX_NAME or not storable.is_storable(name):
        raise Invalid(f"name: expected at most {MAX_NAME} characters of valid text", code="invalid_group")
    with transaction.atomic(), connection.cursor() as cursor:
        row = Group(tenant=principal.tenant, code=code, name=name)
        save_new(row, "group_code_once_per_tenant", f"there is a notification group {code} already")
        audit.record(cursor, principal, "group created", "group", code, "", None, {"name": name})
    return row


def delete_group(principal: Principal, code: str, *, reason: str = "") -> None:
    """Delete a group with its rules; Conflict (group_in_use) names a program that refers to it."""
    principal.require("jobs:admin")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        Group.objects.select_for_update().get(pk=find_group(principal, code).pk)
        row = find_group(principal, code)
        using = row.programs.filter(deleted_at__isnull=True).order_by("code").first()
        if using is not None:
            raise Conflict(f"program {using.code} notifies this group; give it another first", code="group_in_use")
        Group.objects.filter(pk=row.pk).update(deleted_at=Now())
        Rule.objects.filter(group=row, deleted_at__isnull=True).update(deleted_at=Now())
        audit.record(cursor, principal, "group deleted", "group", code, reason, {"name": row.name}, None)
