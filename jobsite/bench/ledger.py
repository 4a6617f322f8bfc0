"""The file in which the jobs of every contender note that they ran, and when: the same small cost for each."""

import os
import struct
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "JOBSITE_BENCH_LEDGER"
RECORD = struct.Struct("<qd")

_descriptor: int | None = None


def write(mark: int, seconds: float = 0.0) -> None:
    """What a job of the benchmark does: sleep `seconds`, then note its mark and the time."""
    global _descriptor
    if seconds:
        time.sleep(seconds)
    now = time.time()
    if _descriptor is None:
        _descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND)
    os.write(_descriptor, RECORD.pack(mark, now))


@dataclass(frozen=True)
class Ledger:
    """The reader's side."""

    path: Path

    def clear(self) -> None:
        """Empty the file. Open writers go on at its new end."""
        self.path.write_bytes(b"")

    def count(self) -> int:
        """The number of runs that were noted."""
        return self.path.stat().st_size // RECORD.size

    def times(self) -> dict[int, float]:
        """When each mark was first noted, seconds since 1970."""
        found: dict[int, float] = {}
        for mark, moment in RECORD.iter_unpack(self.path.read_bytes()):
            found.setdefault(mark, moment)
        return found

    def doubled(self) -> list[int]:
        """The marks that were noted more than once."""
        counted = Counter(mark for mark, _ in RECORD.iter_unpack(self.path.read_bytes()))
        return [mark for mark, times in counted.items() if times > 1]
