"""Read what the outside service and the submitters have recorded."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open() as file:
            # A last line without a line end is still being written.
            yield from (json.loads(line) for line in file if line.endswith("\n"))


@dataclass(frozen=True)
class Run:
    """One run of a job, as the outside service saw it."""

    job: int
    fence: int
    token: str


class Ledger:
    """The effects of the actions, in the order in which the service received them."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[dict[str, Any]]:
        """All lines so far."""
        return list(_lines(self._path))

    def runs(self, kind: str) -> Counter[Run]:
        """How often each run reported this kind."""
        return Counter(
            Run(entry["job"], entry["fence"], entry["token"]) for entry in self.entries() if entry["kind"] == kind
        )

    def open_runs(self) -> list[dict[str, Any]]:
        """The runs that have begun but not ended, each with the `pid` of its process."""
        found: dict[Run, dict[str, Any]] = {}
        for entry in self.entries():
            run = Run(entry["job"], entry["fence"], entry["token"])
            if entry["kind"] == "begin":
                found[run] = entry
            elif entry["kind"] == "end" or not entry["accepted"]:
                found.pop(run, None)
        return list(found.values())

    def refused(self) -> int:
        """The number of writes that the service refused because of their fence."""
        return sum(entry["kind"] == "write" and not entry["accepted"] for entry in self.entries())

    def ran_twice(self) -> int:
        """The number of jobs whose action ended more than once."""
        ends = Counter(run.job for run in self.runs("end"))
        return sum(count > 1 for count in ends.values())


@dataclass
class History:
    """What the submitters recorded: accepted keys with numbers and answers, withdrawn keys, and all requested keys."""

    asked: set[str] = field(default_factory=set)
    accepted: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    withdrawn: set[str] = field(default_factory=set)
    answers: list[dict[str, Any]] = field(default_factory=list)
    unsure: int = 0

    @property
    def seconds(self) -> list[float]:
        """How long each accepted submission waited for its answer."""
        return [float(line["seconds"]) for line in self.answers]

    @classmethod
    def read(cls, path: Path) -> "History":
        """Read what is written so far."""
        history = cls()
        for line in _lines(path):
            match line["what"]:
                case "asked":
                    history.asked.add(line["key"])
                case "withdrawn":
                    history.withdrawn.add(line["key"])
                case "accepted":
                    history.accepted[line["key"]].append(line["number"])
                    history.answers.append(line)
                case "unsure":
                    history.unsure += 1
        return history


def quantile(values: list[float], share: float) -> float:
    """The value that this share of the values does not exceed; 0 where there are no values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0
