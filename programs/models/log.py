"""What a job said: log entries, partitioned by month by the migrations."""

from typing import ClassVar

from django.db import models


class JobLogEntry(models.Model):
    """One line. No foreign key: a month is dropped as a whole; key (id, at) as partitioning asks."""

    pk = models.CompositePrimaryKey("id", "at")
    id = models.BigIntegerField()
    at = models.DateTimeField()
    tenant_id = models.BigIntegerField()
    job_number = models.BigIntegerField()
    sequence = models.BigIntegerField()
    attempt = models.PositiveIntegerField()
    step = models.CharField(max_length=100)
    stream = models.CharField(max_length=6)
    severity = models.CharField(max_length=8)
    message = models.TextField()

    class Meta:
        managed = False
        db_table = "jobsite_joblogentry"
        ordering: ClassVar = ["sequence"]

    def __str__(self) -> str:
        return self.message
