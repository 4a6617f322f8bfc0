"""The benchmark's job as an action of jobsite."""

from jobsite.bench import ledger
from jobsite.programs.context import Context


def mark(context: Context, number: int, seconds: float = 0.0) -> None:
    """Note that the job runs."""
    ledger.write(number, seconds)
