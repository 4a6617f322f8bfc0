"""jobsite sweep: run the sweeps, once or until stopped."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from jobsite.cli import printing
from jobsite.cli.base import Command as BaseCommand
from jobsite.programs.upkeep import sweeps


class Command(BaseCommand):
    """Entry point."""

    help = "Run every sweep now; with --loop, run those that are due until stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--loop."""
        parser.add_argument("--loop", action="store_true", help="go on until stopped")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sweep once and print what was repaired, or loop."""
        if options["loop"]:
            stopping = threading.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stopping.set())
            while not stopping.wait(1.0):
                sweeps.run_due()
            return
        rows = [{"sweep": name, "repaired": count} for name, count in sweeps.run_all().items()]
        columns = {"sweep": "sweep", "repaired": "repaired"}
        printing.print_table(rows, columns, empty="No sweep could run.", right=["repaired"])
