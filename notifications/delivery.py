"""Send one delivery: claim it, check whether it is still to be sent, render, send, and record the result.

No transaction is open while it renders or sends. If a sender dies in between, another one sends the delivery when its
lock has expired. It has the same identity, so that a receiver can recognize a duplicate.
"""

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from jobsite import vault
from jobsite.logs import get_logger
from jobsite.notifications import defaults, rendering, subjects, wordings
from jobsite.notifications.channels import CHANNELS
from jobsite.notifications.channels.base import DeliveryFailed, Outgoing
from jobsite.notifications.events import ALERT_ADDRESS, RECOVERS, Event
from jobsite.notifications.models import Delivery
from jobsite.notifications.models.delivery import Status
from jobsite.notifications.rendering import Rendered
from jobsite.tenants.models import Membership
from jobsite.values import times

log = get_logger(__name__)

MAX_ATTEMPTS = 10
FIRST_DELAY = 5.0
MAX_REASON = 2_000
MAX_KEPT_TEXT = 64 * 1024
COUNTED = 1_000
THROTTLED = "not more than one in"
NOT_SENT = (Status.SUPPRESSED, Status.FAILED)
SENDING_SHARE = 0.7
"""The share of the lock that sending may take; the rest is for the template and the record."""


class _Ended(Exception):
    """There is nothing to send after all; it carries the status and the reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def deliver(delivery_id: int) -> Status | None:
    """Send a delivery that is due, and return its new status; None where it is not due, or another sender has it.

    Every failure is recorded: PENDING with the next try after a transient one, FAILED after the last try or a permanent
    one, SUPPRESSED where nobody is to get it any more.
    """
    token = uuid4()
    claimed = _claim(delivery_id, token)
    if claimed is None:
        return None
    if claimed.status != Status.PENDING:
        return Status(claimed.status)
    try:
        message, rendered = _prepared(claimed)
        said = CHANNELS[claimed.channel].send(message)
    except _Ended as end:
        return _record(claimed, token, status=end.status, reason=str(end))
    except rendering.RenderingFailed as error:
        return _record(claimed, token, status=Status.FAILED, reason=f"the template cannot be filled in: {error}")
    except DeliveryFailed as error:
        return _record_failure(claimed, token, error)
    except Exception as error:  # of a channel's or our own: recorded like any other, and the tries are counted
        log.exception("delivery_broke", delivery=delivery_id)
        return _record_failure(claimed, token, DeliveryFailed(f"{type(error).__name__}: {error}"))
    return _record(
        claimed,
        token,
        status=Status.SENT,
        reason=said,
        language=message.language,
        subject=rendered.subject,
        text=rendered.text[:MAX_KEPT_TEXT],
    )


# ---- The row ----------------------------------------------------------------------------------------------------


def _claim(delivery_id: int, token: UUID) -> Delivery | None:
    """The delivery, locked by us; or ended: SUPPRESSED by its rule's throttle, FAILED after all tries."""
    lock = timedelta(seconds=settings.JOBSITE_LOCK_SECONDS)
    with transaction.atomic():
        rows = Delivery.objects.filter(pk=delivery_id, status=Status.PENDING, due_at__lte=Now())
        if not rows.update(attempts=F("attempts") + 1, lock_token=token, due_at=Now() + lock):
            return None
        delivery = Delivery.objects.select_related("tenant", "rule__template").get(pk=delivery_id)
        if delivery.attempts > MAX_ATTEMPTS:
            _end(delivery, token, Status.FAILED, f"every sender stopped before it was done ({MAX_ATTEMPTS} tries)")
        elif delivery.attempts == 1 and (reason := _throttled(delivery)):
            _end(delivery, token, Status.SUPPRESSED, reason)
    return delivery


def _end(delivery: Delivery, token: UUID, status: Status, reason: str) -> None:
    _record(delivery, token, status=status, reason=reason)
    delivery.status = status


def _throttled(delivery: Delivery) -> str | None:
    """Why the throttle of its rule suppresses it, if it does; the rule's row is locked, so that only one is sent."""
    rule = delivery.rule
    if rule is None or rule.throttle_minutes is None or delivery.event in RECOVERS.values() or _is_test(delivery):
        return None
    type(rule).objects.select_for_update(no_key=True).get(pk=rule.pk)
    latest = _throttled_with(delivery).filter(attempts__gt=0).exclude(status__in=NOT_SENT).order_by("-pk").first()
    if latest is None or latest.happened_at <= delivery.happened_at - timedelta(minutes=rule.throttle_minutes):
        return None
    unit = "minute" if rule.throttle_minutes == 1 else "minutes"
    return f"{THROTTLED} {rule.throttle_minutes} {unit}; the next one says how many were left out"


def _throttled_with(delivery: Delivery) -> QuerySet[Delivery]:
    """The other deliveries that the throttle counts together with this one."""
    rows = Delivery.objects.filter(
        rule=delivery.rule, source=delivery.source, event=delivery.event, address=delivery.address
    ).exclude(pk=delivery.pk)
    return rows.filter(user__isnull=True) if delivery.user_id is None else rows.filter(user=delivery.user_id)


def _left_out(delivery: Delivery) -> int:
    """How many the throttle has suppressed since one was sent."""
    if delivery.rule is None or delivery.rule.throttle_minutes is None:
        return 0
    latest = _throttled_with(delivery).exclude(status__in=[*NOT_SENT, Status.PENDING]).order_by("-pk").first()
    since = latest.finished_at if latest is not None else None
    # They may end in another order than that of their keys. Beyond COUNTED the exact number does not matter.
    newest = _throttled_with(delivery).order_by("-pk").values_list("status", "reason", "finished_at")[:COUNTED]
    return sum(
        status == Status.SUPPRESSED
        and reason.startswith(THROTTLED)
        and (since is None or (ended is not None and ended > since))
        for status, reason, ended in newest
    )


def _record(delivery: Delivery, token: UUID, *, status: Status, reason: str, **fields: Any) -> Status | None:
    """Write how it ended, while the token holds it; None where another sender has it by now."""
    return _write(delivery, token, status=status, reason=reason[:MAX_REASON], finished_at=Now(), **fields)


def _record_failure(delivery: Delivery, token: UUID, error: DeliveryFailed) -> Status | None:
    if error.is_final or delivery.attempts >= MAX_ATTEMPTS:
        tries = "" if error.is_final else f" ({MAX_ATTEMPTS} tries)"
        return _record(delivery, token, status=Status.FAILED, reason=f"{error}{tries}")
    delay = FIRST_DELAY * 2 ** (delivery.attempts - 1) * random.uniform(0.9, 1.1)
    seconds = max(delay, error.retry_after or 0.0)
    return _write(
        delivery,
        token,
        status=Status.PENDING,
        reason=str(error)[:MAX_REASON],
        due_at=Now() + timedelta(seconds=seconds),
    )


def _write(delivery: Delivery, token: UUID, *, status: Status, **fields: Any) -> Status | None:
    rows = Delivery.objects.filter(pk=delivery.pk, status=Status.PENDING, lock_token=token)
    if not rows.update(status=status, lock_token=None, **fields):
        log.warning("delivery_recorded_too_late", delivery=delivery.pk, status=str(status))
        return None
    return status


# ---- The message --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipient:
    """Who gets it, where, and the languages that they read, the preferred one first."""

    address: str
    languages: tuple[str, ...]
    name: str = ""
    email: str = ""


def _prepared(delivery: Delivery) -> tuple[Outgoing, Rendered]:
    rule = delivery.rule
    if rule is not None and (rule.deleted_at is not None or not rule.is_active):
        raise _Ended(Status.SUPPRESSED, "its rule was " + ("deleted" if rule.deleted_at else "switched off"))
    if rule is None and ":rule " in delivery.dedupe_key:
        raise _Ended(Status.SUPPRESSED, "its rule was deleted")
    recipient = _recipient(delivery)
    template = rule.template if rule is not None else None
    language, wording = wordings.chosen(delivery.tenant_id, delivery.event, template, recipient.languages)
    facts = facts_of(delivery, language)
    if facts is None:
        raise _Ended(Status.FAILED, f"what it is about is gone: {delivery.source}")
    facts["user"] = {"name": recipient.name, "email": recipient.email} if delivery.user_id else None
    rendered = rendering.render(wording, facts, language=language)
    return (
        Outgoing(
            seconds=settings.JOBSITE_LOCK_SECONDS * SENDING_SHARE,
            identity=f"msg_{delivery.identity}",
            event=delivery.event,
            happened_at=delivery.happened_at,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            language=language,
            address=recipient.address,
            user_id=delivery.user_id,
            secrets=_secrets(delivery),
            facts=facts,
        ),
        rendered,
    )


def _recipient(delivery: Delivery) -> Recipient:
    own = delivery.tenant.language
    user = None if delivery.user_id is None else get_user_model().objects.filter(pk=delivery.user_id).first()
    if user is None and delivery.user_id is not None:
        raise _Ended(Status.SUPPRESSED, "the account of its recipient was deleted")
    if user is None:
        if delivery.address != ALERT_ADDRESS:
            return Recipient(delivery.address, (own,))
        if settings.SYSTEM_JOBS_ALERT_EMAIL is None:
            raise _Ended(Status.SUPPRESSED, f"{ALERT_ADDRESS} is not set")
        return Recipient(settings.SYSTEM_JOBS_ALERT_EMAIL, (own,))
    membership = Membership.objects.filter(tenant=delivery.tenant, user=user).first()
    if not user.is_active or (membership is None and not user.is_superuser):
        raise _Ended(
            Status.SUPPRESSED, f"{user.get_username()} is no active member of tenant {delivery.tenant.code} any more"
        )
    if delivery.channel == "email" and not user.email:
        raise _Ended(Status.FAILED, f"{user.get_username()} has no e-mail address")
    languages = (membership.language, own) if membership and membership.language else (own,)
    address = user.email if delivery.channel == "email" else ""
    return Recipient(address, languages, user.get_full_name() or user.get_username(), user.email)


def facts_of(delivery: Delivery, language: str) -> dict[str, Any] | None:
    """What a template is filled in with, secrets masked; None when what it is about is gone."""
    if _is_test(delivery):
        return defaults.sample(Event(delivery.event), language) | {"tenant": _tenant(delivery)}
    facts = subjects.facts(
        tenant=delivery.tenant,
        job_number=delivery.job_number,
        program_id=delivery.program_id,
        schedule_id=delivery.schedule_id,
        language=language,
        details=delivery.details,
    )
    if facts is None:
        return None
    event = {
        "name": delivery.event,
        "at": times.format_time(delivery.happened_at),
        "suppressed": _left_out(delivery),
        "in_a_row": delivery.details.get("in_a_row", 1),
    }
    return {**facts, "event": event, "tenant": _tenant(delivery)}


def _is_test(delivery: Delivery) -> bool:
    """Whether this is a test of a rule, and nothing has happened."""
    return "test" in delivery.details


def _tenant(delivery: Delivery) -> dict[str, str]:
    return {"code": delivery.tenant.code, "name": delivery.tenant.name}


def _secrets(delivery: Delivery) -> tuple[str, ...]:
    if delivery.rule is None or delivery.rule.secret is None:
        return ()
    try:
        return tuple(vault.opened(sealed) for sealed in delivery.rule.secret)
    except vault.Lost as error:
        raise _Ended(Status.FAILED, f"the webhook's secret cannot be read: {error}") from error
