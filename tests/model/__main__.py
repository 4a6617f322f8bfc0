"""`python -m tests.model`: take away every guard, one after another, and print what noticed it, in which example.

Arguments go to pytest, such as `-k renew` for some of them.
"""

import sys

import pytest

ROW = "{:<55} {:<75} {:>7}"


class Printer:
    """A pytest plugin that prints a row of the table for each mutation when it ends."""

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dots between the rows."""
        return ("passed", "", "") if report.passed else None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A mutation was tried: say what came of it."""
        properties = dict(report.user_properties)
        if report.when == "call" and "mutation" in properties:
            row = properties["mutation"], properties["noticed by"], properties["example"]
            sys.stdout.write(ROW.format(*row) + "\n")
            sys.stdout.flush()


def main() -> int:
    """Returns the exit code of the tests: 0 where each mutation was noticed, or is known to change nothing."""
    sys.stdout.write(ROW.format("mutation", "noticed by", "example") + "\n")
    arguments = ["-q", "-q", "--no-header", "-s", "-m", "slow or not slow", "tests/model/test_mutations.py"]
    return int(pytest.main([*arguments, *sys.argv[1:]], plugins=[Printer()]))


sys.exit(main())
