"""A named part of a job, kept so that a later run of it does not run it again."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from jobsite.programs.models.job import Job
from jobsite.programs.rules.lifecycle import StepStatus
from jobsite.tenants.models import Tenant


class JobStep(models.Model):
    """One action of a job that has several (`name` empty), or what an action runs by `context.step(name, …)`.

    A step was interrupted if it is RUNNING with a fence below the job's, or if its job does not run.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    job = models.ForeignKey(Job, models.CASCADE, related_name="step_rows", db_constraint=False, db_index=False)
    action = models.CharField(max_length=100)
    name = models.CharField(max_length=100, db_default="")
    # The digest of its action's name, kind and configuration. An action with another digest does not use this row.
    digest = models.UUIDField()
    status = models.CharField(max_length=9)
    tries = models.PositiveIntegerField()
    fence = models.PositiveBigIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    warned = models.BooleanField(db_default=False)
    result = models.JSONField(null=True)
    error = models.JSONField(null=True)

    class Meta:
        db_table = "jobsite_jobstep"
        ordering: ClassVar = ["id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "action", "name"], name="step_once_per_job"),
            models.CheckConstraint(condition=Q(status__in=list(StepStatus)), name="step_status_known"),
            models.CheckConstraint(
                condition=Q(status=StepStatus.RUNNING, ended_at__isnull=True)
                | Q(~Q(status=StepStatus.RUNNING), ended_at__isnull=False),
                name="step_ended_at_unless_running",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.name} of #{self.job_id}"
