"""The log entries of jobs, partitioned by month in SQL (in a migration)."""

from typing import ClassVar

from django.db import models


class JobLogEntry(models.Model):
    """One line. It has no foreign key, since a month is dropped as a whole; partitioning demands the key (id, at)."""

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
