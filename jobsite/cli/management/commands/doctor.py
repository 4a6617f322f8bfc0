"""jobsite doctor: what is wrong with this installation, and how to mend it."""

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from rich.text import Text

from jobsite.cli import printing
from jobsite.cli.base import Command as BaseCommand
from jobsite.cli.base import add_json
from programs import diagnosis


class Command(BaseCommand):
    """Entry point."""

    help = "Look for what is wrong with this installation; exit status 1 when something is."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """--json."""
        add_json(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the findings."""
        findings = diagnosis.examine()
        is_good = all(finding.is_good for finding in findings)
        if options["json"]:
            printing.print_json([asdict(finding) for finding in findings])
            self.finish(0 if is_good else 1)
        out = printing.console()
        for finding in findings:
            mark = Text("✓ ", style="green") if finding.is_good else Text("✗ ", style="red")
            out.print(mark + Text(f"{finding.what:<15}") + Text(finding.said))
            if not finding.is_good and finding.mend:
                out.print(Text(f"  {'':<15}→ {finding.mend}", style="yellow"))
        out.print("\n[green]All is well.[/]" if is_good else "\n[yellow]Something needs care.[/]")
        self.finish(0 if is_good else 1)
