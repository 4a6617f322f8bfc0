"""When a program runs by itself: schedules, and a row for each of their nominal times."""

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from jobsite.programs.models.program import Program
from jobsite.programs.rules.cron import LONGEST, Cron
from jobsite.programs.rules.recurrence import Missed
from jobsite.tenants.models import CODE, Pausable, Tenant
from jobsite.values import times

CRON_FIELDS = ("minute", "hour", "day_of_month", "month", "day_of_week")
MAX_INTERVAL_MINUTES = 10_080
MAX_JITTER_MINUTES = 59
MAX_CAP = 100
_MISSED = [(policy.value, policy.value) for policy in Missed]


class Schedule(Pausable):
    """A program's recurring run; `code` is unique within its tenant among those not deleted."""

    class Overlap(models.TextChoices):
        ALLOW = "ALLOW", "ALLOW"
        SKIP = "SKIP", "SKIP"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="schedules", db_index=False)
    program = models.ForeignKey(Program, models.PROTECT, related_name="schedules", db_constraint=False)
    code = models.CharField(max_length=100, validators=[CODE])
    description = models.TextField(blank=True, db_default="", default="")

    # Either the five fields of a cron line, or an interval and the moment from which it counts.
    minute = models.CharField(max_length=LONGEST, blank=True, db_default="", default="")
    hour = models.CharField(max_length=LONGEST, blank=True, db_default="", default="")
    day_of_month = models.CharField(max_length=LONGEST, blank=True, db_default="", default="")
    month = models.CharField(max_length=LONGEST, blank=True, db_default="", default="")
    day_of_week = models.CharField(max_length=LONGEST, blank=True, db_default="", default="")
    interval_minutes = models.PositiveIntegerField(null=True, blank=True)
    anchor_at = models.DateTimeField(editable=False)
    time_zone = models.CharField(max_length=64)
    jitter_minutes = models.PositiveSmallIntegerField(db_default=0, default=0, blank=True)
    starts_at = models.DateTimeField(null=True, blank=True)
    ends_at = models.DateTimeField(null=True, blank=True)

    # What it submits. Without a priority, the program's own is used.
    parameters = models.JSONField(default=dict, blank=True)
    priority = models.SmallIntegerField(null=True, blank=True)
    overlap = models.CharField(max_length=5, choices=Overlap, db_default=Overlap.ALLOW, default=Overlap.ALLOW)
    missed = models.CharField(max_length=4, choices=_MISSED, db_default="ONE", default="ONE")
    missed_cap = models.PositiveSmallIntegerField(db_default=10, default=10)

    # It runs as the principal that saved it last, captured again at each firing.
    kind = models.CharField(max_length=6, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, editable=False, related_name="+"
    )
    owner = models.CharField(max_length=150, editable=False)

    # Its state. due_at is next_at, the next nominal time, plus jitter; both are NULL when no nominal time is left.
    next_at = models.DateTimeField(null=True, editable=False)
    due_at = models.DateTimeField(null=True, editable=False)
    retry_at = models.DateTimeField(null=True, editable=False)
    late_at = models.DateTimeField(null=True, editable=False)
    fired_at = models.DateTimeField(null=True, editable=False)
    last_job = models.BigIntegerField(null=True, editable=False)
    problem = models.TextField(db_default="", editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    deleted_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "jobsite_schedule"
        ordering: ClassVar = ["code"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "code"], condition=Q(deleted_at__isnull=True), name="schedule_code_once_per_tenant"
            ),
            models.UniqueConstraint(fields=["tenant", "id"], name="schedule_tenant_and_id"),
            models.CheckConstraint(
                condition=Q(interval_minutes__isnull=True, **{f"{name}__gt": "" for name in CRON_FIELDS})
                | Q(
                    **dict.fromkeys(CRON_FIELDS, ""),
                    interval_minutes__isnull=False,
                    interval_minutes__gte=1,
                    interval_minutes__lte=MAX_INTERVAL_MINUTES,
                ),
                name="schedule_by_cron_or_interval",
            ),
            models.CheckConstraint(
                condition=Q(jitter_minutes__lte=MAX_JITTER_MINUTES), name="schedule_jitter_within_an_hour"
            ),
            models.CheckConstraint(
                condition=Q(priority__isnull=True) | Q(priority__gte=-100, priority__lte=100),
                name="schedule_priority_in_range",
            ),
            models.CheckConstraint(
                condition=Q(overlap__in=["ALLOW", "SKIP"], missed__in=["SKIP", "ONE", "ALL"], missed_cap__gte=1)
                & Q(missed_cap__lte=MAX_CAP),
                name="schedule_policies_known",
            ),
            models.CheckConstraint(
                condition=Q(next_at__isnull=True, due_at__isnull=True)
                | Q(next_at__isnull=False, due_at__isnull=False, due_at__gte=F("next_at"), deleted_at__isnull=True),
                name="schedule_due_after_its_nominal_time",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at", "id"], condition=Q(due_at__isnull=False), name="schedule_due"),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def cron(self) -> Cron | None:
        """The cron line; None for an interval."""
        return Cron(*(getattr(self, name) for name in CRON_FIELDS)) if self.interval_minutes is None else None


class Firing(models.Model):
    """The result of one nominal time. With `through`, it counts for all from that time to before `through`."""

    class Result(models.TextChoices):
        FIRED = "FIRED"
        SKIPPED = "SKIPPED"
        MISSED = "MISSED"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+", db_index=False)
    schedule = models.ForeignKey(Schedule, models.CASCADE, related_name="firings", db_constraint=False, db_index=False)
    nominal_at = models.DateTimeField()
    through = models.DateTimeField(null=True)
    result = models.CharField(max_length=7, choices=Result)
    reason = models.TextField(db_default="")
    was_missed = models.BooleanField(db_default=False)
    is_backfill = models.BooleanField(db_default=False)
    job_number = models.BigIntegerField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "jobsite_firing"
        ordering: ClassVar = ["-nominal_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["schedule", "nominal_at"], name="firing_once_per_nominal_time"),
            models.UniqueConstraint(
                fields=["job_number"], condition=Q(job_number__isnull=False), name="firing_one_for_a_job"
            ),
            models.CheckConstraint(
                condition=Q(result="FIRED", job_number__isnull=False)
                | Q(result__in=["SKIPPED", "MISSED"], job_number__isnull=True),
                name="firing_fired_has_a_job",
            ),
            models.CheckConstraint(
                condition=Q(through__isnull=True) | Q(through__gt=F("nominal_at"), result="MISSED"),
                name="firing_only_missed_times_are_a_stretch",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schedule} at {times.readable_time(self.nominal_at)}"
