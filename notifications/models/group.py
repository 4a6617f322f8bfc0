"""Groups, which programs name, and the rules in them: who is notified of what, by which channel."""

from typing import ClassVar

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from jobsite.notifications.channels import CHANNELS
from jobsite.notifications.events import COUNTED_IN_A_ROW, RECOVERS, RULE_EVENTS
from jobsite.notifications.models.template import Template
from jobsite.tenants.models import CODE, Role, Tenant

MAX_THROTTLE_MINUTES = 7 * 24 * 60
MAX_IN_A_ROW = 100
MAX_ADDRESSES = 50


class Group(models.Model):
    """Rules that several programs may share; `code` is unique within its tenant among those not deleted."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="notification_groups", db_index=False)
    code = models.CharField(max_length=100, validators=[CODE])
    name = models.CharField(max_length=200, blank=True, db_default="", default="")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "jobsite_group"
        verbose_name = "notification group"
        ordering: ClassVar = ["code"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "code"], condition=Q(deleted_at__isnull=True), name="group_code_once_per_tenant"
            ),
            # The target of the composite references of rules and programs.
            models.UniqueConstraint(fields=["tenant", "id"], name="group_tenant_and_id"),
        ]

    def __str__(self) -> str:
        return self.code


class Rule(models.Model):
    """Who is notified of one event, by which channel.

    `event` is one of RULE_EVENTS. `in_a_row`: only after so many failures of a program in a row. `on_recovery`: also
    of the first success after failures that were sent. `throttle_minutes`: at most one to each recipient in so many
    minutes, for each program or schedule; the next one says how many were left out.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="notification_rules", db_index=False)
    group = models.ForeignKey(Group, models.CASCADE, related_name="rules", db_constraint=False, db_index=False)
    event = models.CharField(max_length=20, choices=[(event, event) for event in RULE_EVENTS])
    channel = models.CharField(max_length=7, choices=[(name, name) for name in CHANNELS], default="email")
    template = models.ForeignKey(
        Template,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="rules",
        db_constraint=False,
        help_text="Empty: the event's own.",
    )
    to_submitter = models.BooleanField(db_default=False, default=False)
    to_roles = ArrayField(models.CharField(max_length=8, choices=Role), db_default=[], default=list, blank=True)
    to_users = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="+")
    to_addresses = ArrayField(models.CharField(max_length=254), db_default=[], default=list, blank=True)
    to_url = models.TextField(blank=True, db_default="", default="")
    # The keys that webhooks are signed with, encrypted; newest first.
    secret = models.JSONField(null=True, blank=True, editable=False)
    throttle_minutes = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(MAX_THROTTLE_MINUTES)]
    )
    in_a_row = models.PositiveSmallIntegerField(
        db_default=1, default=1, validators=[MinValueValidator(1), MaxValueValidator(MAX_IN_A_ROW)]
    )
    on_recovery = models.BooleanField(db_default=False, default=False)
    is_active = models.BooleanField(db_default=True, default=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "jobsite_rule"
        ordering: ClassVar = ["group", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "id"], name="rule_tenant_and_id"),
            models.CheckConstraint(condition=Q(event__in=RULE_EVENTS), name="rule_event_known"),
            models.CheckConstraint(condition=Q(channel__in=list(CHANNELS)), name="rule_channel_known"),
            models.CheckConstraint(
                condition=Q(in_a_row=1) | (Q(in_a_row__gt=1) & Q(event__in=COUNTED_IN_A_ROW)),
                name="rule_counts_failures_alone",
            ),
            models.CheckConstraint(
                condition=Q(on_recovery=False) | Q(event__in=list(RECOVERS)), name="rule_tells_recovery_of_trouble"
            ),
            models.CheckConstraint(
                condition=Q(throttle_minutes__isnull=True) | Q(throttle_minutes__gte=1), name="rule_throttle_positive"
            ),
            # A webhook goes to a URL and nowhere else, an e-mail or a message of the inbox to people.
            models.CheckConstraint(
                condition=(Q(channel="webhook", to_submitter=False, to_roles=[], to_addresses=[]) & ~Q(to_url=""))
                | (~Q(channel="webhook") & Q(to_url="", secret__isnull=True)),
                name="rule_recipients_fit_its_channel",
            ),
            models.CheckConstraint(
                condition=~Q(channel="inbox") | Q(to_addresses=[]), name="rule_inbox_has_no_address"
            ),
        ]
        indexes: ClassVar = [
            # The end of a job reads only these rows of a group of a thousand rules.
            models.Index(
                fields=["group", "event"], condition=Q(deleted_at__isnull=True, is_active=True), name="rule_of_event"
            ),
            models.Index(
                fields=["group", "event"],
                condition=Q(deleted_at__isnull=True, is_active=True, on_recovery=True),
                name="rule_of_recovery",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event} by {self.channel}"
