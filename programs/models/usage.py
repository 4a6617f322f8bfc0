"""How much of its quotas a tenant has used up."""

from django.db import models
from django.db.models.functions import Now

from jobsite.tenants.models import Tenant


class TenantUsage(models.Model):
    """For a tenant with quotas: how many of its jobs are pending, and how many more it may submit now."""

    tenant = models.OneToOneField(Tenant, models.CASCADE, primary_key=True, related_name="usage")
    pending = models.BigIntegerField(db_default=0)
    counted_at = models.DateTimeField(db_default=Now())
    allowance = models.FloatField(db_default=0.0)
    allowed_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "jobsite_tenantusage"

    def __str__(self) -> str:
        return f"usage of {self.tenant}"
