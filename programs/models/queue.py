"""Where jobs wait: queues, and a lane in each queue for each tenant."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from jobsite.tenants.models import Pausable, Tenant


class Queue(Pausable):
    """A named line of jobs with a broker of its own or a shared one (jobsite/brokers.py)."""

    name = models.CharField(max_length=63, unique=True)
    # Start-time fair queueing: the virtual time at which the last job of any lane was served.
    virtual_time = models.FloatField(db_default=0.0, editable=False)
    # The broker's epoch key as last seen; a different one means that the broker lost its messages.
    broker_epoch = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "jobsite_queue"
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.name


class Lane(Pausable):
    """The jobs of one tenant in one queue: how much of the queue it has been served, and whether it is paused."""

    queue = models.ForeignKey(Queue, models.CASCADE, related_name="lanes")
    tenant = models.ForeignKey(Tenant, models.CASCADE, related_name="lanes")
    served = models.FloatField(db_default=0.0, editable=False)
    # Whether dispatch looks here at all: set when a job becomes ready, cleared when dispatch finds none.
    is_waiting = models.BooleanField(db_default=False, editable=False)
    wakes = models.PositiveBigIntegerField(db_default=0, editable=False)

    class Meta:
        db_table = "jobsite_lane"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["queue", "tenant"], name="lane_once_per_queue_and_tenant")
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["queue", "served"],
                condition=models.Q(is_waiting=True),
                name="lane_waiting_least_served",
            )
        ]

    def __str__(self) -> str:
        return f"{self.queue} of {self.tenant}"
