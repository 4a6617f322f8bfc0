"""Who runs jobs: worker managers with a limit, and the worker processes registered under them."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from jobsite.tenants.models import CODE

DEFAULT_MANAGER = "default"


class WorkerManager(models.Model):
    """A pool of workers with a limit on the jobs that all of them together may run."""

    name = models.CharField(max_length=100, unique=True, validators=[CODE])
    max_running = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "jobsite_workermanager"
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class Worker(models.Model):
    """One incarnation of a Celery worker process. Information for people; nothing depends on it being right."""

    class Status(models.TextChoices):
        ACTIVE = "ACTIVE"
        STOPPING = "STOPPING"
        STOPPED = "STOPPED"
        LOST = "LOST"

    name = models.CharField(max_length=255)
    incarnation = models.UUIDField(unique=True)
    manager = models.ForeignKey(WorkerManager, models.PROTECT, related_name="workers")
    status = models.CharField(max_length=8, choices=Status, db_default=Status.ACTIVE)
    host = models.CharField(max_length=255)
    boot_id = models.CharField(max_length=64)
    pid_namespace = models.CharField(max_length=64)
    pid = models.IntegerField()
    process_started = models.BigIntegerField()
    queues = ArrayField(models.CharField(max_length=63))
    pool = models.CharField(max_length=20)
    children = models.PositiveIntegerField()
    started_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "jobsite_worker"
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(status__in=["ACTIVE", "STOPPING"]),
                name="worker_name_once_among_the_living",
            ),
        ]

    def __str__(self) -> str:
        return self.name
