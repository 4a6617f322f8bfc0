"""The application that the others stand on: templates, static files, the page of the audit, process-wide set-up."""

from django.apps import AppConfig


class JobsiteConfig(AppConfig):
    """The ground floor. It stands before Django's admin, whose templates it replaces."""

    name = "jobsite"
    label = "jobsite"

    def ready(self) -> None:
        """Set up structlog, and load the Celery application so that tasks find it."""
        from jobsite import celery, logs  # noqa: F401 - Django must be ready first

        logs.configure()
