"""Deliveries: found by people, sent again, and sent to try out a rule."""

from django.db import connection, transaction
from django.db.models import QuerySet

from jobsite.errors import Conflict, NotFound
from jobsite.notifications import hints, outbox
from jobsite.notifications.events import template_event
from jobsite.notifications.models import Delivery
from jobsite.notifications.operations.rules import find_rule
from jobsite.tenants import audit
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason

TEST = f"""
WITH happened AS (
    SELECT r.tenant_id, r.group_id, %(event)s::text AS event, ARRAY[r.event::text] AS names, NULL::text AS recovery,
           NULL::text[] AS recovered, concat('test ', gen_random_uuid()) AS key, 'test' AS source,
           NULL::bigint AS job_number, NULL::bigint AS program_id, NULL::bigint AS schedule_id, NULL::uuid AS context,
           %(user)s::bigint AS user_id, false AS notify, false AS alerts, r.in_a_row::integer AS in_a_row,
           '{{"test": true}}'::jsonb AS details, r.id AS only_rule, true AS hinted
    FROM jobsite_rule r WHERE r.id = %(rule)s
){outbox.recorded("happened")}
SELECT id FROM deliveries ORDER BY id
"""


def deliveries_of(principal: Principal, *, job: int | None = None) -> QuerySet[Delivery]:
    """The deliveries of the tenant, or of one job, the newest first; a listing must slice them."""
    principal.require("jobs:read")
    rows = Delivery.objects.filter(tenant=principal.tenant).select_related("rule__group", "user").order_by("-pk")
    return rows if job is None else rows.filter(job_number=job)


def find_delivery(principal: Principal, key: int) -> Delivery:
    """The delivery of this number in the principal's tenant; NotFound names it."""
    found = deliveries_of(principal).filter(pk=key).first()
    if found is None:
        raise NotFound(f"no delivery {key} in tenant {principal.tenant.code}")
    return found


def send_again(principal: Principal, key: int, *, reason: str = "") -> None:
    """Send a delivery that has ended once more, as a new message, which receivers do not take for a duplicate.

    Raises Forbidden without jobs:write, Conflict (still_pending) for one that waits to be sent.
    """
    principal.require("jobs:write")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        row = find_delivery(principal, key)
        cursor.execute(
            """
            UPDATE jobsite_delivery
            SET status = 'PENDING', finished_at = NULL, attempts = 1, identity = gen_random_uuid(), reason = '',
                due_at = statement_timestamp(), hinted_at = clock_timestamp(), read_at = NULL
            WHERE id = %s AND status <> 'PENDING'
            """,
            [key],
        )
        if not cursor.rowcount:
            raise Conflict(f"delivery {key} waits to be sent already", code="still_pending")
        before: dict[str, object] = {"status": row.status, "reason": row.reason}
        audit.record(cursor, principal, "delivery sent again", "delivery", str(key), reason, before, None)
    transaction.on_commit(lambda: hints.give([key]), robust=True)


def test_rule(principal: Principal, key: int) -> list[Delivery]:
    """Send what a rule would send, with sample facts, to all its recipients; the principal counts as the submitter.

    Raises Forbidden without jobs:admin, Conflict: rule_off, or nobody_to_tell where it reaches nobody, such as an empty
    role, or the submitter where the principal is not a user.
    """
    principal.require("jobs:admin")
    row = find_rule(principal, key)
    if not row.is_active:
        raise Conflict(f"rule {key} is switched off; switch it on first", code="rule_off")
    event = template_event(row.event)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(TEST, {"rule": row.pk, "event": event, "user": principal.user_id})
        keys = [one for (one,) in cursor.fetchall()]
        if not keys:
            raise Conflict(f"rule {key} reaches nobody now", code="nobody_to_tell")
        audit.record(cursor, principal, "rule tested", "rule", str(key), "", None, {"deliveries": keys})
    transaction.on_commit(lambda: hints.give(keys), robust=True)
    return list(deliveries_of(principal).filter(pk__in=keys))
