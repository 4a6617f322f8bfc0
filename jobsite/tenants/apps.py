"""The application of tenants."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Tenants, memberships, API keys and the audit."""

    name = "jobsite.tenants"
    label = "jobsite_tenants"
    verbose_name = "Tenants"
