"""`python -m tests.model`: take every guard away, one after another, and print what noticed it in which example.

Arguments go to pytest, such as `-k renew` for some of them.
"""

import sys

import pytest
from rich.console import Console
from rich.table import Table


class Collected:
    """A pytest plugin: the rows of the table as the tests end."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One row for each mutation that was tried."""
        caught = dict(report.user_properties).get("caught")
        if report.when == "call" and caught is not None:
            by, example = caught
            name = report.nodeid.partition("[")[2].rstrip("]")
            self.rows.append((name, str(by), str(example or "")))


def main() -> int:
    """The exit code is that of the tests: 0 when each mutation was noticed, or is known to change nothing."""
    collected = Collected()
    arguments = ["-q", "-m", "slow or not slow", "tests/model/test_mutations.py", *sys.argv[1:]]
    code = pytest.main(arguments, plugins=[collected])
    table = Table("mutation", "noticed by", "example")
    for row in collected.rows:
        table.add_row(*row)
    Console(width=160).print(table)
    return int(code)


sys.exit(main())
