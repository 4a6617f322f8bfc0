"""An act on many jobs: who asked for it, the fixed list of job numbers, and its progress."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from jobsite.tenants.models import Tenant


class BulkAct(models.Model):
    """One act of programs/operations/bulk.py on a set of jobs; the first `place` of them are done or refused."""

    class State(models.TextChoices):
        RUNNING = "RUNNING"
        ENDED = "ENDED"
        STOPPED = "STOPPED"

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+")
    act = models.CharField(max_length=20)
    order = models.JSONField()
    numbers = ArrayField(models.BigIntegerField())
    total = models.IntegerField()
    filter = models.TextField(db_default="")

    # Who asked for it: enough to act again as the same principal, with the permissions that it still has.
    kind = models.CharField(max_length=6)
    user_id = models.BigIntegerField(null=True)
    actor = models.CharField(max_length=150)
    door = models.CharField(max_length=10)
    scopes = ArrayField(models.CharField(max_length=20))

    state = models.CharField(max_length=7, choices=State.choices, db_default=State.RUNNING)
    place = models.IntegerField(db_default=0)
    done = models.IntegerField(db_default=0)
    refused = models.IntegerField(db_default=0)
    refusals = models.JSONField(default=list)
    created_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True)
    why_stopped = models.TextField(db_default="")

    class Meta:
        db_table = "jobsite_bulkact"
        ordering: ClassVar = ["-id"]
        verbose_name = "act on many jobs"
        verbose_name_plural = "acts on many jobs"
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(place=F("done") + F("refused"), place__lte=F("total"), total__lte=10_000),
                name="bulk_act_counts_add_up",
            ),
            models.CheckConstraint(
                condition=Q(state="RUNNING", ended_at__isnull=True, place__lt=F("total"))
                | Q(state="ENDED", ended_at__isnull=False, place=F("total"))
                | Q(state="STOPPED", ended_at__isnull=False),
                name="bulk_act_ends_with_its_last_job",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["id"], condition=Q(state="RUNNING"), name="bulk_act_running"),
            models.Index(fields=["tenant", "id"], name="bulk_act_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.act} {self.total} jobs (act {self.pk})"
