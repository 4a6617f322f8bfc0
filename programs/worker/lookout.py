"""The web process looks out for schedules to which nobody comes: beat and all workers may be dead."""

import threading

from jobsite.programs.upkeep import sweeps

SECONDS = 10.0
LATE = frozenset({"late_schedules"})


def start(*, seconds: float = SECONDS) -> threading.Event:
    """Look each so many seconds, in a thread that ends with the process, or when the event is set."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(seconds):
            sweeps.run_due(LATE)

    threading.Thread(target=watch, name="jobsite-lookout", daemon=True).start()
    return is_over
