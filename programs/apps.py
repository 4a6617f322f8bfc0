"""The Django application of programs, jobs, queues and workers."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ProgramsConfig(AppConfig):
    """Programs, jobs, queues, workers."""

    name = "jobsite.programs"
    label = "jobsite_programs"
    verbose_name = "Programs and jobs"

    def ready(self) -> None:
        """Create the rows that jobsite needs after every migration."""
        from jobsite.programs.upkeep import installation, system_programs

        post_migrate.connect(installation.register_after_migrate, sender=self)
        post_migrate.connect(system_programs.register_after_migrate, sender=self)
