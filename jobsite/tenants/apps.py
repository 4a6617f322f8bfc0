"""The application of tenants."""

from django.apps import AppConfig
from django.db.models.signals import pre_migrate


class TenantsConfig(AppConfig):
    """Tenants, memberships, API keys and the audit."""

    name = "jobsite.tenants"
    label = "jobsite_tenants"
    verbose_name = "Tenants"

    def ready(self) -> None:
        """Refuse to migrate a database that an earlier development version made."""
        from jobsite import boot

        pre_migrate.connect(boot.refuse_earlier, sender=self)
