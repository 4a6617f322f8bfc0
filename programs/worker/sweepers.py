"""The threads of a worker's main process that run the sweeps, and remove what is left on its container engine."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from billiard.process import active_children
from celery.platforms import EX_FAILURE
from django.conf import settings

from jobsite.logs import get_logger
from jobsite.programs import workers
from jobsite.programs.actions import container
from jobsite.programs.actions.container import NoEngine
from jobsite.programs.context import UnknownAction
from jobsite.programs.upkeep import sweeps
from jobsite.programs.worker import pool

log = get_logger(__name__)

SWEEPER_SECONDS = 1.0
CONTAINERS_SOON_SECONDS = 5.0
CONTAINERS_SECONDS = 60.0


class Sweeper(threading.Thread):
    """Runs the sweeps from this worker too, so that an installation goes on while its beat is down."""

    def __init__(self, leave: Callable[[], None]) -> None:
        """`leave` gives back what this worker holds, before it is ended by force."""
        super().__init__(name="jobsite-sweeper", daemon=True)
        self._leave = leave
        self.stopping = threading.Event()
        self._terminates_since: float | None = None

    def run(self) -> None:
        """Run the sweeps that are due by their rows, every second until the worker stops."""
        while not self.stopping.wait(min(SWEEPER_SECONDS, settings.JOBSITE_SWEEP_SECONDS)):
            self._end_a_cold_stop_that_hangs()
            sweeps.run_due()

    def _end_a_cold_stop_that_hangs(self) -> None:
        """End the worker by force a quarter of a lock after a cold stop has canceled what its children run.

        From then on nobody renews their locks, and Celery waits for its pool without a limit: for a child that is
        frozen or does not notice the stop, or for a thread whose action goes on.
        """
        if not pool.is_terminating():
            return
        now = time.monotonic()
        if self._terminates_since is None:
            self._terminates_since = now
        elif now - self._terminates_since > settings.JOBSITE_LOCK_SECONDS / 4:
            children = active_children()
            log.warning("cold_stop_forced", children=[child.pid for child in children])
            for child in children:
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(child.pid, signal.SIGKILL)
            self._leave()
            os._exit(EX_FAILURE)


class ContainerSweeper(threading.Thread):
    """Removes containers that lost workers left on this machine's engine; nothing else may ever look at it again."""

    def __init__(self) -> None:
        super().__init__(name="jobsite-containers", daemon=True)
        self.stopping = threading.Event()

    def run(self) -> None:
        """Look soon after the start, when a worker that died has left its own behind, then once a minute."""
        pause = CONTAINERS_SOON_SECONDS
        while not self.stopping.wait(pause):
            pause = CONTAINERS_SECONDS
            try:
                container.remove_idle()
            except (NoEngine, UnknownAction):
                continue  # a worker of a machine without an engine runs no containers either
            except Exception as error:  # whatever it was, the next round tries again
                log.warning("containers_not_swept", error=str(error))
                workers.drop_connection()
