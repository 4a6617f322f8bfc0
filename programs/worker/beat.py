"""The scheduler of `celery beat`: django-celery-beat's, whose tick also drives jobsite's sweeps."""

from typing import Any

from django_celery_beat.schedulers import DatabaseScheduler

from jobsite import boot
from jobsite.programs.upkeep import sweeps

TICK_SECONDS = 1.0


class Scheduler(DatabaseScheduler):
    """Users' PeriodicTasks go on as ever; between them, the sweeps that are due run here."""

    def setup_schedule(self) -> None:
        """Start or join the embedded servers, then read Celery's schedule."""
        try:
            boot.prepare()
        except boot.EarlierDatabase as error:
            raise SystemExit(f"jobsite: beat cannot start: {error}") from error
        super().setup_schedule()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what Celery's schedule has due, run the due sweeps; seconds until the next look."""
        delay: float = super().tick(*args, **kwargs)
        sweeps.run_due()
        return min(delay, TICK_SECONDS)
