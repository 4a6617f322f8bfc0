"""What can be done: programs and their actions."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from jobsite.notifications.models import Group
from jobsite.programs.models.queue import Queue
from jobsite.programs.rules.lifecycle import Overlap
from jobsite.programs.rules.retries import RetryPolicy
from jobsite.tenants.models import CODE, Pausable, Tenant


class Program(Pausable):
    """A kind of work; `code` is unique within its tenant among those not deleted."""

    class Status(models.TextChoices):
        ACTIVE = "ACTIVE"
        PAUSED = "PAUSED"
        TERMINATED = "TERMINATED"

    class Scope(models.TextChoices):
        TENANT = "TENANT"
        SYSTEM = "SYSTEM"

    class OnWorkerLost(models.TextChoices):
        RETRY = "RETRY"
        FAIL = "FAIL"

    class OnChildFailure(models.TextChoices):
        WARN = "WARN"
        FAIL = "FAIL"
        IGNORE = "IGNORE"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="programs")
    code = models.CharField(max_length=100, validators=[CODE])
    names = models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict)
    description = models.TextField(blank=True, db_default="", default="")
    scope = models.CharField(max_length=6, choices=Scope, db_default=Scope.TENANT, default=Scope.TENANT)
    status = models.CharField(max_length=10, choices=Status, db_default=Status.ACTIVE, default=Status.ACTIVE)
    queue = models.ForeignKey(Queue, models.PROTECT, related_name="programs")
    priority = models.SmallIntegerField(db_default=0, default=0)
    parameters_schema = models.JSONField()
    timeout_seconds = models.FloatField()
    max_attempts = models.PositiveSmallIntegerField(db_default=3, default=3)
    initial_interval = models.FloatField(db_default=1.0, default=1.0)
    coefficient = models.FloatField(db_default=2.0, default=2.0)
    maximum_interval = models.FloatField(db_default=30.0, default=30.0)
    jitter = models.FloatField(db_default=0.1, default=0.1)
    retry_on_timeout = models.BooleanField(db_default=False, default=False)
    transient = ArrayField(models.TextField(), db_default=[], default=list, blank=True)
    permanent = ArrayField(models.TextField(), db_default=[], default=list, blank=True)
    max_worker_losses = models.PositiveSmallIntegerField(db_default=3, default=3)
    on_worker_lost = models.CharField(
        max_length=5, choices=OnWorkerLost, db_default=OnWorkerLost.RETRY, default=OnWorkerLost.RETRY
    )
    on_child_failure = models.CharField(
        max_length=6, choices=OnChildFailure, db_default=OnChildFailure.WARN, default=OnChildFailure.WARN
    )
    cancel_children_on_failure = models.BooleanField(db_default=False, default=False)
    cancel_grace_seconds = models.FloatField(db_default=10.0, default=10.0)
    overlap_policy = models.CharField(max_length=6, db_default=Overlap.ALLOW, default=Overlap.ALLOW)
    overlap_keys = ArrayField(models.TextField(), db_default=[], default=list, blank=True)
    notification_group = models.ForeignKey(
        Group, models.PROTECT, null=True, blank=True, related_name="programs", db_constraint=False
    )
    max_consecutive_failures = models.PositiveSmallIntegerField(null=True, blank=True)
    consecutive_failures = models.PositiveIntegerField(db_default=0, default=0, editable=False)
    travels_in_groups = models.BooleanField(db_default=True, default=True)
    mean_seconds = models.FloatField(null=True, blank=True, editable=False)
    measured_runs = models.PositiveBigIntegerField(db_default=0, default=0, editable=False)
    version = models.PositiveIntegerField(db_default=1, default=1, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "jobsite_program"
        ordering: ClassVar = ["code"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "code"],
                condition=models.Q(deleted_at__isnull=True),
                name="program_code_once_per_tenant",
            ),
            # The composite references of jobs and actions point at it.
            models.UniqueConstraint(fields=["tenant", "id"], name="program_tenant_and_id"),
            models.CheckConstraint(
                condition=models.Q(status__in=["ACTIVE", "PAUSED", "TERMINATED"]), name="program_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(overlap_policy__in=list(Overlap)), name="program_overlap_policy_known"
            ),
            models.CheckConstraint(
                condition=models.Q(priority__gte=-100, priority__lte=100), name="program_priority_in_range"
            ),
            models.CheckConstraint(
                condition=models.Q(timeout_seconds__gt=0, timeout_seconds__lte=86_400),
                name="program_timeout_at_most_a_day",
            ),
            models.CheckConstraint(
                condition=models.Q(max_attempts__gte=1, max_worker_losses__gte=1),
                name="program_runs_at_least_once",
            ),
            models.CheckConstraint(
                condition=models.Q(on_child_failure__in=["WARN", "FAIL", "IGNORE"]),
                name="program_on_child_failure_known",
            ),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def retry_policy(self) -> RetryPolicy:
        """The five retry columns as the value that retries.decide takes."""
        return RetryPolicy(
            self.max_attempts, self.initial_interval, self.coefficient, self.maximum_interval, self.jitter
        )

    def name_in(self, language: str) -> str:
        """The name in the reader's language, else in the tenant's, else in English, else the code."""
        names = self.names
        for candidate in (language, language.partition("-")[0], self.tenant.language, "en"):
            if candidate in names:
                return str(names[candidate])
        return self.code


class Action(models.Model):
    """One action of a program. Actions run in order of position; the callback has its own run, after the children."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+")
    program = models.ForeignKey(Program, models.CASCADE, related_name="actions", db_constraint=False)
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=100, blank=True, db_default="")
    kind = models.CharField(max_length=20)
    configuration = models.JSONField()
    timeout_seconds = models.FloatField(null=True, blank=True)
    is_callback = models.BooleanField(db_default=False, default=False)

    class Meta:
        db_table = "jobsite_action"
        ordering: ClassVar = ["program", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["program", "position"], name="action_position_once_per_program"),
            models.UniqueConstraint(
                fields=["program"], condition=models.Q(is_callback=True), name="action_one_callback_per_program"
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"{self.kind} {self.position}"
