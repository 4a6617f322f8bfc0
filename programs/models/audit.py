"""Who did what, when and why: append-only, the database refuses to change or delete an entry."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from jobsite.tenants.models import Tenant


class AuditEntry(models.Model):
    """One action of an operator through any door."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+")
    at = models.DateTimeField(db_default=Now())
    actor = models.CharField(max_length=150)
    door = models.CharField(max_length=10)
    action = models.CharField(max_length=50)
    target_type = models.CharField(max_length=30)
    target = models.CharField(max_length=200)
    reason = models.TextField(db_default="")
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)

    class Meta:
        db_table = "jobsite_auditentry"
        verbose_name_plural = "audit entries"
        ordering: ClassVar = ["-id"]
        indexes: ClassVar = [
            models.Index(fields=["tenant", "target_type", "target", "id"], name="audit_of_target"),
            models.Index(fields=["tenant", "id"], name="audit_of_tenant"),
        ]

    def __str__(self) -> str:
        return f"{self.actor}: {self.action} {self.target_type} {self.target}"
