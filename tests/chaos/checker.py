"""After the faults: check every invariant with the product's own checker and with the records of the harness."""

from collections import Counter
from typing import TYPE_CHECKING

from jobsite.database import connect
from jobsite.programs.invariants import check
from tests.chaos.ledger import History

if TYPE_CHECKING:
    from tests.chaos.chaos import Chaos

SOME = 5


def violations(chaos: "Chaos", *, at_rest: bool = True) -> list[str]:
    """What does not hold, one sentence each."""
    with connect(application_name="chaos checker") as connection, connection.cursor() as cursor:
        found = [f"{one.invariant} {one.rule} ({one.count}): {one.said}" for one in check(cursor, at_rest=at_rest)]
    # While jobs run, the ledger and the database cannot be read as of the same moment.
    return [*found, *(_ledger(chaos) if at_rest else ()), *_accepted(chaos)]


def _ledger(chaos: "Chaos") -> list[str]:
    """I7, and that the attempts in the database are the runs that the outside service saw."""
    found = []
    highest: dict[int, int] = {}
    tokens: dict[tuple[int, int], set[str]] = {}
    for entry in chaos.ledger.entries():
        job, fence = entry["job"], entry["fence"]
        tokens.setdefault((job, fence), set()).add(entry["token"])
        if entry["kind"] == "write" and entry["accepted"]:
            if fence < highest.get(job, 0):
                found.append(f"I7 job {job}: fence {fence} was accepted after {highest[job]}")
            highest[job] = max(fence, highest.get(job, 0))
    if shared := [key for key, held in tokens.items() if len(held) > 1]:
        found.append(f"I7 two tokens under one fence: {_some(shared)}")
    if twice := [run for run, count in chaos.ledger.runs("begin").items() if count > 1]:
        found.append(f"I7 one token ran twice: {_some(twice)}")
    rows = chaos.database.rows(ATTEMPTS)
    attempts = {(job, fence, token) for job, fence, token, _ in rows}
    running = {
        tuple(row)
        for row in chaos.database.rows(
            "SELECT number, fence, lock_token::text FROM jobsite_job WHERE status = 'RUNNING'"
        )
    }
    begun = {(run.job, run.fence, run.token) for run in chaos.ledger.runs("begin")}
    ended = {(run.job, run.fence, run.token) for run in chaos.ledger.runs("end")}
    if unknown := begun - attempts - running:
        found.append(f"I4 {len(unknown)} runs that left no attempt: {_some(sorted(unknown))}")
    succeeded = {(job, fence, token) for job, fence, token, has_effect in rows if has_effect}
    if pretended := succeeded - ended:
        found.append(f"I2 {len(pretended)} attempts succeeded without their effect: {_some(sorted(pretended))}")
    return found


def _accepted(chaos: "Chaos") -> list[str]:
    """I14: each accepted submission has one job, each job one submission."""
    history = History.read(chaos.installation.folder / "history.jsonl")
    rows = chaos.database.rows("SELECT idempotency_key, number FROM jobsite_job WHERE idempotency_key IS NOT NULL")
    numbers = dict(rows)
    found = []
    if lost := [key for key in history.accepted if key not in numbers]:
        found.append(f"I14 {len(lost)} accepted submissions have no job: {_some(lost)}")
    if other := [key for key, given in history.accepted.items() if key in numbers and set(given) != {numbers[key]}]:
        found.append(f"I14 {len(other)} submissions got another number: {_some(other)}")
    if rolled_back := history.withdrawn & set(numbers):
        found.append(f"I14 {len(rolled_back)} jobs of transactions that were rolled back: {_some(sorted(rolled_back))}")
    if unknown := set(numbers) - history.asked - history.withdrawn:
        found.append(f"I14 {len(unknown)} jobs that nobody submitted: {_some(sorted(unknown))}")
    keyless = Counter(number for (number,) in chaos.database.rows(WITHOUT_KEY))
    if (others := set(keyless) ^ set(chaos.inserted)) and chaos.counts_inserted:
        found.append(f"I14 {len(others)} jobs without a key differ from those inserted: {_some(sorted(others))}")
    return found


# The last column: whether the attempt succeeded with an action that leaves its effect in the ledger.
ATTEMPTS = """
SELECT a.job_id, a.fence, a.token::text,
       a.result = 'SUCCESS' AND EXISTS (SELECT 1 FROM jobsite_action c
                                        WHERE c.program_id = j.program_id
                                              AND c.configuration->>'target' LIKE 'tests.chaos.actions:%')
FROM jobsite_jobattempt a JOIN jobsite_job j ON j.number = a.job_id
"""
WITHOUT_KEY = "SELECT number FROM jobsite_job WHERE idempotency_key IS NULL AND parent_id IS NULL"


def _some(things: object) -> str:
    shown = list(things)[:SOME]  # type: ignore[call-overload]
    return ", ".join(str(one) for one in shown)
