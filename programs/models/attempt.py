"""One attempt of a worker to run a job; inserted once, when it has ended."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from jobsite.programs.models.job import Job
from jobsite.programs.rules.lifecycle import AttemptResult
from jobsite.tenants.models import Tenant


class JobAttempt(models.Model):
    """The result of one attempt. While an attempt runs, it is the lock fields of its job instead."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+", db_constraint=False, db_index=False)
    job = models.ForeignKey(Job, models.CASCADE, related_name="attempt_rows", db_constraint=False, db_index=False)
    fence = models.PositiveBigIntegerField()
    token = models.UUIDField()
    worker = models.CharField(max_length=255)
    external_id = models.UUIDField(null=True)
    claimed_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField()
    result = models.CharField(max_length=9)
    error = models.JSONField(null=True)
    traceback = models.TextField(db_default="")

    class Meta:
        db_table = "jobsite_jobattempt"
        ordering: ClassVar = ["fence"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "fence"], name="attempt_fence_once_per_job"),
            models.UniqueConstraint(
                fields=["job"], condition=Q(result="SUCCESS"), name="attempt_succeeds_once_per_job"
            ),
            models.CheckConstraint(condition=Q(result__in=list(AttemptResult)), name="attempt_result_known"),
        ]

    def __str__(self) -> str:
        return f"{self.result} of #{self.job_id} at fence {self.fence}"
