"""The children of a job that have ended, as its actions see them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobsite.programs import workers
from jobsite.programs.context.time_limit import uninterrupted
from jobsite.programs.rules.lifecycle import Outcome, Status
from jobsite.programs.transitions import spawn

PAGE = 100
COUNTS = """
SELECT status, count(*) FROM jobsite_job WHERE parent_id = %(parent)s AND parent_fence <= %(until)s GROUP BY status
"""
ENDED = """
SELECT c.number, c.child_key, p.code, c.status, c.outcome, c.result, c.error
FROM jobsite_job c JOIN jobsite_program p ON p.id = c.program_id
WHERE c.parent_id = %(parent)s AND (c.parent_id, c.number) > (%(parent)s, %(after)s)
      AND c.parent_fence <= %(until)s AND c.status IN ('COMPLETED', 'FAILED', 'CANCELED')
ORDER BY c.parent_id, c.number LIMIT %(page)s
"""
_ENDED = ("completed", "failed", "canceled")


@dataclass(frozen=True)
class Child:
    """A child that has ended. `key` is the key that it was spawned with, or ""; `error` has type, message and step."""

    number: int
    key: str
    program: str
    status: Status
    outcome: Outcome
    result: Any
    error: dict[str, Any] | None


class Children:
    """The children that have ended, in the order in which they were spawned; they are read page by page.

    In a callback these are all the children that it is called for; in another run those that have ended by now.
    """

    def __init__(self, parent: int, until: int) -> None:
        """The children of this parent that its runs up to this fence have spawned."""
        self._values = {"parent": parent, "until": until}

    def __iter__(self) -> Iterator[Child]:
        after = 0
        while True:
            with uninterrupted():
                rows = workers.execute_patiently(ENDED, {**self._values, "after": after, "page": PAGE})
            for number, key, program, status, outcome, result, error in rows:
                shown = "" if key.startswith(spawn.OWN_KEY) else key
                yield Child(number, shown, program, Status(status), Outcome(outcome), result, error)
                after = number
            if len(rows) < PAGE:
                return

    def __len__(self) -> int:
        return sum(number for status, number in self._counts().items() if status.lower() in _ENDED)

    @property
    def counts(self) -> dict[str, int]:
        """How many are `completed`, `failed` and `canceled`, and in `total` how many there are, open ones too."""
        counts = dict.fromkeys(_ENDED, 0) | {status.lower(): number for status, number in self._counts().items()}
        return {word: counts[word] for word in _ENDED} | {"total": sum(counts.values())}

    def _counts(self) -> dict[str, int]:
        with uninterrupted():
            return dict(workers.execute_patiently(COUNTS, self._values))
