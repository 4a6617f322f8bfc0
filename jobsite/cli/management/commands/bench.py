"""jobsite bench: how fast this machine is with jobsite, beside its peers and its limits."""

import signal
from argparse import ArgumentParser
from typing import Any

from rich.console import Console

from jobsite.bench import contenders, ground, report
from jobsite.bench.aims import GROUPS
from jobsite.bench.measure import Sizes
from jobsite.bench.run import run
from jobsite.cli import printing
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.base import add_json


class Command(BaseCommand):
    """Entry point."""

    help = "Measure jobsite beside its peers and its limits, on servers of the benchmark's own."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each is measured (3)")
        parser.add_argument("--jobs", type=int, default=Sizes.jobs, metavar="N", help="the backlog (%(default)s)")
        parser.add_argument("--only", nargs="+", choices=GROUPS, metavar="FIGURE", help=f"of {', '.join(GROUPS)}")
        parser.add_argument("--quick", action="store_true", help="a small run that shows that all works")
        add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, and print the table or the document."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop ends all processes and servers
        progress = Console(stderr=True, highlight=False)
        figures = frozenset(figure for name in options["only"] or GROUPS for figure in GROUPS[name])
        sizes = Sizes.quick() if options["quick"] else Sizes(jobs=options["jobs"])
        present = []
        for contender in contenders.ALL:
            if contender.missing:
                progress.print(f"{contender.title} is left out: pip install 'jobsite\\[bench]' brings it")
            else:
                present.append(contender)
        with ground.prepared() as own:
            results = run(own, present, rounds=options["rounds"], sizes=sizes, figures=figures, say=progress.print)
        if options["json"]:
            printing.print_json(report.document(results))
        else:
            for table in report.tables(results):
                printing.console().print(table)
