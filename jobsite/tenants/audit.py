"""Record what an operator did, in the same transaction."""

import json
from collections.abc import Sequence

from jobsite.database import Cursor
from jobsite.tenants.principals import Principal


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
        """
        INSERT INTO jobsite_auditentry (tenant_id, actor, door, action, target_type, target, reason, before, after)
        SELECT %s, %s, %s, %s, %s, target, %s, %s::jsonb, %s::jsonb
        FROM unnest(%s::text[]) WITH ORDINALITY AS t (target, place) ORDER BY place
        """,
        [principal.tenant.pk, principal.name, principal.door, action, target_type, reason]
        + [None if value is None else json.dumps(value, default=str) for value in (before, after)]
        + [list(targets)],
    )
