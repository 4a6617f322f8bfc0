"""jobsite doctor: what is wrong with this installation and how to fix it, or whether the invariants hold."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.db import connection
from rich.table import Table
from rich.text import Text

from jobsite.brokers import BrokerUnavailable
from jobsite.cli import printing
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.base import add_json
from jobsite.errors import Invalid, Refusal
from jobsite.programs import invariants
from jobsite.programs.inspection import diagnosis
from jobsite.programs.invariants import NotChecked, Report, Violation


class Command(BaseCommand):
    """Entry point."""

    help = "Check this installation; exit status 1 when something is wrong."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--invariants, --at-rest, --json."""
        parser.add_argument(
            "--invariants",
            action="store_true",
            help="check instead whether the protocol's invariants hold for all jobs; only reads, safe on a live system",
        )
        parser.add_argument(
            "--at-rest",
            action="store_true",
            help="with --invariants: also check that every job has ended and the brokers are empty",
        )
        add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings, or the violations."""
        if options["at_rest"] and not options["invariants"]:
            raise Invalid("--at-rest goes with --invariants")
        is_good = self._invariants(options) if options["invariants"] else self._findings(options)
        self.finish(0 if is_good else 1)

    def _findings(self, options: dict[str, Any]) -> bool:
        findings = diagnosis.examine()
        is_good = all(finding.is_good for finding in findings)
        if options["json"]:
            printing.print_json([asdict(finding) for finding in findings])
            return is_good
        out = printing.console()
        for finding in findings:
            mark = Text("✓ ", style="green") if finding.is_good else Text("✗ ", style="red")
            out.print(mark + Text(f"{finding.what:<15}") + Text(finding.said))
            if not finding.is_good and finding.mend:
                out.print(Text(f"  {'':<15}→ {finding.mend}", style="yellow"))
        out.print("\n[green]All is well.[/]" if is_good else "\n[yellow]Something is wrong.[/]")
        return is_good

    def _invariants(self, options: dict[str, Any]) -> bool:
        try:
            with connection.cursor() as cursor:
                report = invariants.examine(cursor, at_rest=options["at_rest"])
        except (NotChecked, BrokerUnavailable) as error:
            raise Refusal(str(error), code="not_checked") from error
        if options["json"]:
            printing.print_json({"holds": not report.violations, **asdict(report)})
            return not report.violations
        if report.violations:
            printing.console().print(_violations(report.violations))
        printing.console().print(_summary(report))
        return not report.violations


def _violations(violations: Sequence[Violation]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="red", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for violation in violations:
        table.add_row("✗", violation.invariant, Text(violation.rule))
        for one in violation.said.split("; "):
            table.add_row("", "", Text(one, style="yellow"))
        if violation.count > 1 and len(violation.jobs) > 1:
            named = ", ".join(str(job) for job in violation.jobs)
            more = ", …" if violation.count > len(violation.jobs) else ""
            table.add_row("", "", Text(f"jobs {named}{more}", style="dim"))
    return table


def _summary(report: Report) -> Text:
    size = f"jobs {report.jobs:,}, attempts {report.attempts:,}, {printing.span(report.seconds)}"
    if not report.violations:
        return Text(f"All invariants hold ({report.rules} rules, {size}).", style="green")
    broken = len(report.violations)
    return Text(f"\n{broken} of {report.rules} rules {'is' if broken == 1 else 'are'} broken ({size}).", style="red")
