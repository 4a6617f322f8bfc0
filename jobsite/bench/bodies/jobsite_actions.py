"""The job of the benchmark as an action of jobsite's."""

from jobsite.bench import ledger
from jobsite.programs.context import Context


def mark(context: Context, number: int, seconds: float = 0.0) -> None:
    """Note that the job runs."""
    ledger.write(number, seconds)
