"""Record what an operator did, in the same transaction."""

import json
from collections.abc import Sequence

from jobsite.database import Cursor
from jobsite.tenants.principals import Principal


def inserted(
    rows: str,
    *,
    tenant: str,
    actor: str,
    door: str,
    action: str,
    target_type: str,
    target: str,
    reason: str,
    before: str = "NULL::jsonb",
    after: str = "NULL::jsonb",
) -> str:
    """A statement, or a part of one, that inserts an audit entry for each row of `rows`, the text after FROM.

    The other arguments are SQL expressions over such a row.
    """
    columns = "tenant_id, actor, door, action, target_type, target, reason, before, after"
    values = ", ".join((tenant, actor, door, action, target_type, target, reason, before, after))
    return f"INSERT INTO jobsite_auditentry ({columns}) SELECT {values} FROM {rows}"  # noqa: S608 - our own parts


def by_the_system(rows: str, *, tenant: str = "tenant_id", **columns: str) -> str:
    """`inserted` with the system as the actor, for changes that no person made."""
    return inserted(rows, tenant=tenant, actor="'system'", **columns)


_RECORD = inserted(
    "unnest(%s::text[]) WITH ORDINALITY AS t (target, place) ORDER BY place",
    **dict.fromkeys(("tenant", "actor", "door", "action", "target_type"), "%s"),
    target="target",
    reason="%s",
    before="%s::jsonb",
    after="%s::jsonb",
)


def record(
    cursor: Cursor,
    principal: Principal,
    action: str,
    target_type: str,
    target: str,
    reason: str,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
) -> None:
    """Add an audit entry: who (the principal and their door), what, to what, why, and the values before and after."""
    record_all(cursor, principal, action, target_type, [target], reason, before, after)


def record_all(
    cursor: Cursor,
    principal: Principal,
    action: str,
    target_type: str,
    targets: Sequence[str],
    reason: str,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
) -> None:
    """Add the same entry for each of several targets, by one statement."""
    cursor.execute(
        _RECORD,
        [principal.tenant.pk, principal.name, principal.door, action, target_type, reason]
        + [None if value is None else json.dumps(value, default=str) for value in (before, after)]
        + [list(targets)],
    )
