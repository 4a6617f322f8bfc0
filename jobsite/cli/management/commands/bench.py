"""jobsite bench: how fast jobsite is on this machine, compared with its peers and its limits."""

import os
import signal
from argparse import ArgumentParser
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from jobsite.bench import contenders, ground, report, rule_costs, scheduling
from jobsite.bench.aims import GROUPS
from jobsite.bench.measure import Sizes
from jobsite.bench.run import Plan, run
from jobsite.cli import printing
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.base import add_json
from jobsite.errors import Invalid

LIMITS, COSTS = "limits", "costs"
FIGURES = (*GROUPS, LIMITS, COSTS)
BUSY = 0.5  # running processes per core before the run


class Command(BaseCommand):
    """Entry point."""

    help = "Measure jobsite, its peers and its limits, on servers that the benchmark starts for itself."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often all are measured (3)")
        parser.add_argument("--jobs", type=int, default=Sizes.jobs, metavar="N", help="backlog size (%(default)s)")
        parser.add_argument("--only", nargs="+", choices=FIGURES, metavar="FIGURE", help=f"of {', '.join(FIGURES)}")
        names = [contender.name for contender in contenders.ALL if contender is not contenders.GROWN]
        parser.add_argument("--who", nargs="+", choices=names, metavar="NAME", help=f"only these: {', '.join(names)}")
        parser.add_argument(
            "--history", type=int, default=0, metavar="N", help="also with a database that holds N finished jobs"
        )
        parser.add_argument(
            "--schedules",
            type=int,
            nargs="?",
            const=1_000,
            metavar="N",
            help="only this: N schedules (1000) that fire every minute, and django-celery-beat; --rounds minutes each",
        )
        parser.add_argument(
            "--rules",
            type=int,
            nargs="?",
            const=1_000,
            metavar="N",
            help="only this: what N rules (1000) cost at the end of a job that none of them matches",
        )
        parser.add_argument("--quick", action="store_true", help="a small run that shows that everything works")
        add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run, and print the tables or the document."""
        plan = _plan(options)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM too ends all processes and servers
        progress = Console(stderr=True, highlight=False, markup=False)
        load = os.getloadavg()[0]
        if load > BUSY * (os.cpu_count() or 1):
            progress.print(f"this machine is busy (load {load:.1f}): figures will be low and ratios uncertain")
        if options["schedules"] is not None:
            self._measure_schedules(options, progress)
            return
        if options["rules"] is not None:
            self._measure_rules(options, progress)
            return
        with ground.prepared() as own:
            outcome = run(own, plan, say=partial(progress.print, soft_wrap=True))
        if options["json"]:
            printing.print_json(report.document(outcome))
            self.finish(1 if outcome.failures else 0)
        printing.console().print(report.machine(), style="dim")
        for title, table in report.tables(outcome):
            printing.console().print(f"\n[bold cyan]{title}[/]", soft_wrap=True)
            printing.console().print(table)
        for failure in outcome.failures:
            printing.console().print(Text(f"\nfailed: {failure}", style="red"))
        self.finish(1 if outcome.failures else 0)

    def _measure_rules(self, options: dict[str, Any], progress: Console) -> None:
        with ground.prepared() as own:
            found = rule_costs.measure(own, options["rules"], say=partial(progress.print, soft_wrap=True))
        if options["json"]:
            printing.print_json({"machine": report.machine(), "rules": options["rules"], "finish_milliseconds": found})
            return
        out = printing.console()
        out.print(report.machine(), style="dim")
        out.print(rule_costs.table(found, options["rules"]))

    def _measure_schedules(self, options: dict[str, Any], progress: Console) -> None:
        say = partial(progress.print, soft_wrap=True)
        with ground.prepared() as own:
            found = scheduling.measure(own, options["schedules"], options["rounds"], say=say)
        if options["json"]:
            printing.print_json({"machine": report.machine()} | scheduling.document(found))
            return
        out = printing.console()
        out.print(report.machine(), style="dim")
        out.print(f"\n[bold cyan]{options['schedules']:,} schedules, each minute[/]")
        out.print(scheduling.table(found))
        idle = f"{found.idle_milliseconds:.2f} ms"
        out.print(f"\nA sweep that finds nothing due among {scheduling.IDLE:,} schedules takes {idle}.")


def _plan(options: dict[str, Any]) -> Plan:
    for name, least in (("rounds", 1), ("jobs", 100), ("history", 0), ("schedules", 1), ("rules", 1)):
        if options[name] is not None and options[name] < least:
            raise Invalid(f"--{name} must be at least {least}, not {options[name]}")
    wanted = options["only"] or FIGURES
    return Plan(
        rounds=options["rounds"],
        sizes=Sizes.quick() if options["quick"] else Sizes(jobs=options["jobs"]),
        figures=frozenset(figure for name in wanted if name in GROUPS for figure in GROUPS[name]),
        with_limits=LIMITS in wanted,
        with_costs=COSTS in wanted,
        history=options["history"],
        only=frozenset(options["who"] or ()),
    )
