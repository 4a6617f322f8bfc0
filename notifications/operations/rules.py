"""Rules, who is notified of what by which channel: found, made, changed and deleted by people."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from jobsite.errors import Conflict, NotFound
from jobsite.notifications import rules
from jobsite.notifications.models import Group, Rule
from jobsite.notifications.operations.groups import find_group
from jobsite.notifications.rules import Wanted
from jobsite.tenants import audit
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason


def rules_of(principal: Principal, *, group: str = "") -> QuerySet[Rule]:
    """The rules of the tenant, or of this group, in order."""
    principal.require("jobs:read")
    rows = Rule.objects.filter(tenant=principal.tenant, deleted_at__isnull=True).select_related("group", "template")
    rows = rows.prefetch_related("to_users").order_by("group__code", "pk")
    return rows.filter(group=find_group(principal, group)) if group else rows


def find_rule(principal: Principal, key: int) -> Rule:
    """The rule of this number in the principal's tenant; NotFound names it."""
    found = rules_of(principal).filter(pk=key).first()
    if found is None:
        raise NotFound(f"no rule {key} in tenant {principal.tenant.code}")
    return found


def create_rule(principal: Principal, group: str, wanted: Wanted) -> tuple[Rule, str]:
    """A new rule of a group, and the secret of a webhook, which is shown only once, or an empty text.

    Raises Forbidden without jobs:admin, NotFound for the group, Invalid (invalid_rule) with an error for each field.
    """
    principal.require("jobs:admin")
    checked = rules.check(principal.tenant, wanted)
    secret = rules.new_secret() if wanted.channel == "webhook" else ""
    sealed = rules.with_secret(None, secret) if secret else None
    with transaction.atomic(), connection.cursor() as cursor:
        # Locked until the commit, so that nobody deletes it meanwhile.
        Group.objects.select_for_update(no_key=True).get(pk=find_group(principal, group).pk)
        owner = find_group(principal, group)
        row = Rule.objects.create(tenant=principal.tenant, group=owner, secret=sealed, **checked.columns)
        row.to_users.set(checked.users)
        audit.record(cursor, principal, "rule created", "rule", str(row.pk), "", None, rule_as_data(row))
    return row, secret


def change_rule(principal: Principal, key: int, changes: Mapping[str, Any]) -> tuple[Rule, str]:
    """Change these fields of Wanted; a rule that becomes a webhook gets a secret, as with `create_rule`.

    Users who have left the tenant are dropped.
    """
    principal.require("jobs:admin")
    with transaction.atomic(), connection.cursor() as cursor:
        row = _locked_rule(principal, key)
        before = rule_as_data(row)
        kept = wanted_of(row)
        members = set(row.to_users.filter(memberships__tenant=principal.tenant).values_list("username", flat=True))
        kept = replace(kept, to_users=tuple(name for name in kept.to_users if name in members))
        checked = rules.check(principal.tenant, replace(kept, **changes))
        secret = ""
        for name, value in checked.columns.items():
            setattr(row, name, value)
        if row.channel != "webhook":
            row.secret = None
        elif row.secret is None:
            secret = rules.new_secret()
            row.secret = rules.with_secret(None, secret)
        row.updated_at = Now()
        row.save()
        row.to_users.set(checked.users)
        audit.record(cursor, principal, "rule changed", "rule", str(key), "", before, rule_as_data(row))
    row.refresh_from_db()
    return row, secret


def rotate_secret(principal: Principal, key: int) -> str:
    """A new secret for a webhook's rule, shown only once; the previous one signs beside it until the next."""
    principal.require("jobs:admin")
    with transaction.atomic(), connection.cursor() as cursor:
        row = _locked_rule(principal, key)
        if row.channel != "webhook":
            raise Conflict(f"rule {key} sends by {row.channel}, which is not signed", code="not_signed")
        secret = rules.new_secret()
        row.secret = rules.with_secret(row.secret, secret)
        row.save(update_fields=["secret"])
        audit.record(cursor, principal, "rule's secret changed", "rule", str(key), "", None, None)
    return secret


def delete_rule(principal: Principal, key: int, *, reason: str = "") -> None:
    """Delete a rule; its deliveries that still wait are not sent."""
    principal.require("jobs:admin")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        row = _locked_rule(principal, key)
        Rule.objects.filter(pk=row.pk).update(deleted_at=Now())
        audit.record(cursor, principal, "rule deleted", "rule", str(key), reason, rule_as_data(row), None)


def _locked_rule(principal: Principal, key: int) -> Rule:
    row = find_rule(principal, key)
    Rule.objects.select_for_update(no_key=True).get(pk=row.pk)
    return find_rule(principal, key)


def wanted_of(row: Rule) -> Wanted:
    """A rule as the Wanted that would make it."""
    return Wanted(
        event=row.event,
        channel=row.channel,
        template=row.template.code if row.template else "",
        to_submitter=row.to_submitter,
        to_roles=tuple(row.to_roles),
        to_users=tuple(sorted(user.get_username() for user in row.to_users.all())),
        to_addresses=tuple(row.to_addresses),
        to_url=row.to_url,
        throttle_minutes=row.throttle_minutes,
        in_a_row=row.in_a_row,
        on_recovery=row.on_recovery,
        is_active=row.is_active,
    )


def rule_as_data(row: Rule) -> dict[str, object]:
    """A rule as the audit and every door show it; never its secret."""
    return {"group": row.group.code, **asdict(wanted_of(row))}
