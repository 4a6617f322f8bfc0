"""The scheduler of `celery beat`: django-celery-beat's, whose tick also drives jobsite's sweeps."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from jobsite import boot
from jobsite.programs.upkeep import sweeps

TICK_SECONDS = 1.0


class Scheduler(DatabaseScheduler):
    """Users' PeriodicTasks run as usual; each tick also runs the sweeps that are due."""

    def setup_schedule(self) -> None:
        """Start or join the embedded servers, then read Celery's schedule."""
        try:
            boot.prepare()
        except boot.EarlierDatabase as error:
            raise SystemExit(f"jobsite: beat cannot start: {error}") from error
        super().setup_schedule()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send the due tasks of Celery's schedule and run the due sweeps; returns the seconds until the next tick."""
        delay: float = super().tick(*args, **kwargs)
        sweeps.run_due()
        return min(delay, TICK_SECONDS)
