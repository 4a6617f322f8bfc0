"""The application of tenants, and with it the process-wide set-up that every Django process needs."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Tenants, memberships, API keys."""

    name = "jobsite.tenants"
    label = "jobsite_tenants"
    verbose_name = "Tenants"

    def ready(self) -> None:
        """Set up structlog, and load the Celery application so that tasks find it."""
        from jobsite import celery, logs  # noqa: F401 - Django must be ready first

        logs.configure()
