"""The application that the others build on: templates, static files, the audit's page, process-wide set-up."""

from django.apps import AppConfig


class JobsiteConfig(AppConfig):
    """The ground floor. It comes before Django's admin in INSTALLED_APPS, because it replaces templates of it."""

    name = "jobsite"
    label = "jobsite"

    def ready(self) -> None:
        """Set up structlog, and load the Celery application so that tasks find it."""
        from jobsite import celery, logs  # noqa: F401 - Django must be ready first

        logs.configure()
