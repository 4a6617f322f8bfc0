"""The inbox of a person: the messages in it, and which are read."""

from collections.abc import Sequence

from django.db.models import QuerySet
from django.db.models.functions import Now

from jobsite.notifications.models import Delivery
from jobsite.notifications.models.delivery import Status
from jobsite.tenants.principals import Principal

MAX_READ = 1_000


def inbox_of(principal: Principal) -> QuerySet[Delivery]:
    """The messages in the principal's inbox, the newest first; none where it is not a user."""
    rows = Delivery.objects.filter(tenant=principal.tenant, channel="inbox", status=Status.SENT).order_by("-pk")
    return rows.filter(user_id=principal.user_id) if principal.user_id else rows.none()


def unread(principal: Principal) -> int:
    """How many messages of the inbox are unread, at most MAX_READ."""
    return inbox_of(principal).filter(read_at__isnull=True)[:MAX_READ].count()


def mark_read(principal: Principal, keys: Sequence[int] | None = None) -> int:
    """Mark these messages of the inbox as read, or all; returns how many were unread."""
    rows = inbox_of(principal).filter(read_at__isnull=True)
    return rows.filter(pk__in=keys).update(read_at=Now()) if keys is not None else rows.update(read_at=Now())
