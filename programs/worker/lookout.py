"""The web process looks for schedules that nobody fires, because beat and all workers may be dead."""

import threading

from jobsite.programs.upkeep import sweeps

SECONDS = 10.0
LATE = frozenset({"late_schedules"})


def start(*, seconds: float = SECONDS) -> threading.Event:
    """Look every `seconds`, in a thread that ends with the process, or when the returned event is set."""
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(seconds):
            sweeps.run_due(LATE)

    threading.Thread(target=watch, name="jobsite-lookout", daemon=True).start()
    return is_over
