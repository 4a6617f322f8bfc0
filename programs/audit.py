"""Write down what an operator did, in the transaction that did it."""

import json

from jobsite.database import Cursor
from programs.principals import Principal


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
    """Add an audit entry: who (the principal, through his door), what, to what, why, before and after."""
    cursor.execute(
        """
        INSERT INTO jobsite_auditentry (tenant_id, actor, door, action, target_type, target, reason, before, after)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s::jsonb)
        """,
        [principal.tenant.pk, principal.name, principal.door, action, target_type, target, reason]
        + [None if value is None else json.dumps(value, default=str) for value in (before, after)],
    )
