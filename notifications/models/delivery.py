"""One message to one recipient, and what became of it: an outbox, written in the transaction of what it reports."""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.functions import RandomUUID
from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from jobsite.notifications.channels import CHANNELS
from jobsite.notifications.events import Event
from jobsite.notifications.models.group import Rule
from jobsite.tenants.models import Tenant


class Status(models.TextChoices):
    """Where a delivery stands; FAILED after its last try, SUPPRESSED with the reason why it was not sent."""

    PENDING = "PENDING", "PENDING"
    SENT = "SENT", "SENT"
    FAILED = "FAILED", "FAILED"
    SUPPRESSED = "SUPPRESSED", "SUPPRESSED"


class Delivery(models.Model):
    """A message about one event by one rule to one recipient; `dedupe_key` says which, and is unique.

    It refers to a job, program or schedule without a foreign key. A throttle counts together what has one `source`.
    Without a rule it is for the submitter who asked to be notified, or for the operator.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="deliveries", db_constraint=False, db_index=False)
    rule = models.ForeignKey(
        Rule, models.SET_NULL, null=True, related_name="deliveries", db_constraint=False, db_index=False
    )
    dedupe_key = models.TextField()
    identity = models.UUIDField(db_default=RandomUUID(), editable=False)
    event = models.CharField(max_length=20)
    source = models.TextField()
    job_number = models.BigIntegerField(null=True)
    program_id = models.BigIntegerField(null=True)
    schedule_id = models.BigIntegerField(null=True)
    happened_at = models.DateTimeField(db_default=Now())
    details = models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)

    channel = models.CharField(max_length=7)
    # Without a foreign key in the database: a user who is deleted while a job ends must not undo that end.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.DO_NOTHING,
        null=True,
        related_name="+",
        db_constraint=False,
        db_index=False,
    )
    address = models.TextField(db_default="", default="")

    status = models.CharField(max_length=10, choices=Status, db_default=Status.PENDING, default=Status.PENDING)
    due_at = models.DateTimeField(db_default=Now())
    hinted_at = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(db_default=0, default=0)
    lock_token = models.UUIDField(null=True)
    finished_at = models.DateTimeField(null=True)
    reason = models.TextField(db_default="", default="")
    """Why it failed, was put off or suppressed; or what the receiver said."""

    language = models.CharField(max_length=16, db_default="", default="")
    subject = models.TextField(db_default="", default="")
    text = models.TextField(db_default="", default="")
    read_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "jobsite_delivery"
        verbose_name_plural = "deliveries"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["dedupe_key"], name="delivery_once_per_key"),
            models.CheckConstraint(condition=Q(status__in=list(Status)), name="delivery_status_known"),
            models.CheckConstraint(condition=Q(event__in=list(Event)), name="delivery_event_known"),
            models.CheckConstraint(condition=Q(channel__in=list(CHANNELS)), name="delivery_channel_known"),
            models.CheckConstraint(
                condition=Q(status="PENDING", finished_at__isnull=True)
                | (~Q(status="PENDING") & Q(finished_at__isnull=False, lock_token__isnull=True)),
                name="delivery_finished_unless_pending",
            ),
            models.CheckConstraint(
                condition=Q(user__isnull=False, address="") | (Q(user__isnull=True) & ~Q(address="")),
                name="delivery_to_a_user_or_an_address",
            ),
            models.CheckConstraint(
                condition=~Q(channel="inbox") | Q(user__isnull=False), name="delivery_inbox_is_a_users"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at"], condition=Q(status="PENDING"), name="delivery_due"),
            models.Index(fields=["job_number"], condition=Q(job_number__isnull=False), name="delivery_of_job"),
            models.Index(fields=["rule", "source", "id"], name="delivery_of_rule"),
            models.Index(fields=["rule", "source", "id"], condition=~Q(status="SUPPRESSED"), name="delivery_told"),
            models.Index(fields=["tenant", "id"], name="delivery_of_tenant"),
            models.Index(
                fields=["tenant", "finished_at"], condition=Q(job_number__isnull=True), name="delivery_without_job"
            ),
            models.Index(
                fields=["tenant", "user", "id"], condition=Q(channel="inbox", status="SENT"), name="delivery_in_inbox"
            ),
            models.Index(
                fields=["tenant", "user", "id"],
                condition=Q(channel="inbox", status="SENT", read_at__isnull=True),
                name="delivery_unread",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.recipient}"

    @property
    def recipient(self) -> str:
        """Who it is for: a user's name, an e-mail address or a URL."""
        try:
            user = self.user
        except ObjectDoesNotExist:
            user = None
        return user.get_username() if user else self.address or "a deleted account"
