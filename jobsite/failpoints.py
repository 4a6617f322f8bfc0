"""Named points around the protocol's statements at which tests make a process die, stall or fail.

`@failpoint("claim")` makes two of them, `claim.before` and `claim.after` the statement. These connections commit each
statement, so `after` is after the commit. Without the variable JOBSITE_FAILPOINTS the decorator returns the function
itself, so that a production installation has no failpoints. With it, a plan says what happens where:

    JOBSITE_FAILPOINTS="claim.after=kill*1;finish.before=stall:12*1;publish.before=fail@0.05"

`kill` ends the process by SIGKILL, `stall:SECONDS` sleeps, `fail` raises what a broken connection raises. `*N` means
at most N times in all processes that share JOBSITE_FAILPOINTS_FOLDER, `@P` with this probability (seeded by
JOBSITE_FAILPOINTS_SEED). Each hit is a line in the folder's file `hits`, written before it happens, so that a test
can check that its fault has happened.
"""

import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import psycopg

from jobsite.env import ConfigurationError

VARIABLE = "JOBSITE_FAILPOINTS"
NAMES = ("submit", "submit_all", "dispatch", "offer", "is_wanted", "wake", "requeue", "publish", "claim",
         "read_back", "lock_limits", "start", "renew", "renew_passed_over", "abandoned", "finish", "stored_attempts",
         "give_back",
         "give_back_all", "reap_expired", "reap_child", "reap_tokens", "reap_owners", "clear", "expire_stuck",
         "cancel", "hold", "release", "end_holds", "unblock", "block", "unpause", "cancel_automatic",
         "let_in", "acknowledge", "spawn", "lock_parents", "resolve", "cancel_children",
         "record_firings", "prune")  # fmt: skip
POINTS = tuple(f"{name}.{moment}" for name in NAMES for moment in ("before", "after"))
RULE = re.compile(r"(?P<action>kill|stall|fail)(?::(?P<seconds>[\d.]+))?(?:\*(?P<times>\d+))?(?:@(?P<chance>[\d.]+))?")
ALLOWED = "kill, stall:SECONDS or fail, then *TIMES and @PROBABILITY if wanted"

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """What happens at one point: at most `times` (None: no limit), with the probability `chance`."""

    point: str
    action: str
    seconds: float = 0.0
    times: int | None = None
    chance: float = 1.0

    def __str__(self) -> str:
        return f"{self.point}={self.action}"


@dataclass
class Plan:
    """The rules in force. Without a folder, their hits are counted in this process only."""

    rules: dict[str, list[Rule]]
    folder: Path | None = None
    seed: str = "0"
    hits: list[str] = field(default_factory=list)
    _chances: tuple[int, random.Random] | None = None

    def reach(self, point: str, fails_with: type[Exception]) -> None:
        """Apply the rules of this point."""
        for rule in self.rules.get(point, ()):
            if (rule.chance >= 1 or self._random().random() < rule.chance) and self._is_left(rule):
                self._note(rule)
                _act(rule, fails_with)

    def _is_left(self, rule: Rule) -> bool:
        if rule.times is None:
            return True
        if self.folder is None:
            return self.hits.count(str(rule)) < rule.times
        return any(_make(self.folder / f"{rule}.{count}") for count in range(rule.times))

    def _note(self, rule: Rule) -> None:
        self.hits.append(str(rule))
        if self.folder is not None:
            with (self.folder / "hits").open("a") as file:
                file.write(f"{rule} {os.getpid()} {time.time():.3f}\n")

    def _random(self) -> random.Random:
        """The random numbers of this process. Their seed includes the order in which the processes come here."""
        if self._chances is None or self._chances[0] != os.getpid():
            place = 0
            while self.folder is not None and not _make(self.folder / f"process.{place}"):
                place += 1
            self._chances = os.getpid(), random.Random(f"{self.seed} {place}")
        return self._chances[1]


def _make(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True


def _act(rule: Rule, fails_with: type[Exception]) -> None:
    if rule.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif rule.action == "stall":
        time.sleep(rule.seconds)
    else:
        raise fails_with(f"failpoint {rule.point}")


def parse(text: str) -> dict[str, list[Rule]]:
    """The rules of a plan, by point. Raises ConfigurationError, which names the point and what is allowed there."""
    rules: dict[str, list[Rule]] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        point, _, wanted = (word.strip() for word in part.partition("="))
        if point not in POINTS:
            raise ConfigurationError(f"{VARIABLE} names the point {point!r}, but the points are {', '.join(POINTS)}")
        rules.setdefault(point, []).append(_rule(point, wanted))
    return rules


def _rule(point: str, wanted: str) -> Rule:
    found = RULE.fullmatch(wanted)
    refused = ConfigurationError(f"{VARIABLE} has {wanted!r} at the point {point}, but expected {ALLOWED}")
    if found is None or (found["action"] == "stall") != (found["seconds"] is not None):
        raise refused
    try:
        seconds, chance = float(found["seconds"] or 0), float(found["chance"] or 1)
    except ValueError:
        raise refused from None
    if not 0 < chance <= 1:
        raise refused
    return Rule(point, found["action"], seconds, int(found["times"]) if found["times"] else None, chance)


def _from_environment() -> Plan:
    folder = os.environ.get("JOBSITE_FAILPOINTS_FOLDER")
    seed = os.environ.get("JOBSITE_FAILPOINTS_SEED") or "0"
    return Plan(parse(os.environ.get(VARIABLE, "")), Path(folder) if folder else None, seed)


IS_ON = VARIABLE in os.environ
_plan = _from_environment()


def failpoint(name: str, *, fails_with: type[Exception] = psycopg.OperationalError) -> Callable[[Function], Function]:
    """Put the points `<name>.before` and `<name>.after` around a function, if failpoints are on."""

    def put(function: Function) -> Function:
        if not IS_ON:
            return function
        if f"{name}.before" not in POINTS:
            raise ValueError(f"{name} is not among the NAMES of failpoints")

        @wraps(function)
        def between(*args: Any, **kwargs: Any) -> Any:
            if not _plan.rules:
                return function(*args, **kwargs)
            _plan.reach(f"{name}.before", fails_with)
            result = function(*args, **kwargs)
            _plan.reach(f"{name}.after", fails_with)
            return result

        return cast(Function, between)

    return put


@contextmanager
def armed(text: str, *, folder: Path | None = None, seed: str = "0") -> Iterator[Plan]:
    """Put a plan in force in this process, while the block runs. Its `hits` say what has happened."""
    global _plan
    if not IS_ON:
        raise RuntimeError(f"{VARIABLE} was not set when jobsite was imported: there are no failpoints here")
    before, _plan = _plan, Plan(parse(text), folder, seed)
    try:
        yield _plan
    finally:
        _plan = before
