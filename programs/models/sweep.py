"""When each sweep last ran. By this row the processes that drive sweeps agree which of them runs it next."""

from typing import ClassVar

from django.db import models


class Sweep(models.Model):
    """One sweep of programs/upkeep/sweeps.py."""

    name = models.CharField(max_length=40, unique=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    error = models.TextField(db_default="")

    class Meta:
        db_table = "jobsite_sweep"
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name
