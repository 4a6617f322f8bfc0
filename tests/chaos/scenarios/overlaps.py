"""R25: many submissions at the same moment of jobs that must not overlap."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from django.db import connection

from jobsite.errors import Conflict
from jobsite.programs.models import Program
from jobsite.programs.submission import submit
from tests.chaos.chaos import ENDED, Chaos
from tests.chaos.registry import scenario

SUBMITTERS = 20
KEYS = 3
SECONDS = 0.02
SCHEMA = {"type": "object", "properties": {"key": {"type": "integer"}, "seconds": {"type": "number"}}}
OVERLAPPING = {"rejected": f"NOT ({ENDED})", "queued": "status IN ('QUEUED', 'RUNNING', 'WAITING')"}


@dataclass(frozen=True)
class Answer:
    """The answer to one submission: accepted with a number, or refused with the number of another job.

    Without a number it was refused as contended: each time, the other job had ended before it could be named.
    """

    program: str
    key: int
    number: int | None
    is_refused: bool
    asked_at: float
    answered_at: float


@scenario("R25", limit=180, seeds=3)
def overlap_race(chaos: Chaos) -> None:
    """Twenty threads submit 1,000 jobs of a few keys: no two of a key run at once, a refusal names the other job."""
    programs = [
        chaos.program(code, overlap=policy, overlap_keys=["key"], parameters=SCHEMA)
        for code, policy in (("rejected", "REJECT"), ("queued", "QUEUE"))
    ]
    chaos.fleet.service()
    chaos.fleet.beat()
    chaos.fleet.many_workers(2, concurrency=2)
    most: Counter[str] = Counter()
    seen_ended: dict[int, float] = {}

    def sample() -> None:
        for program in programs:
            most[program.code] = max(most[program.code], _at_once(chaos, program))
        ended = chaos.database.rows(f"SELECT number FROM jobsite_job WHERE {ENDED}")
        seen_at = time.time()
        for (number,) in ended:
            seen_ended.setdefault(number, seen_at)

    with chaos.beside(sample, every=0.02):
        answers = _race(chaos, programs, chaos.count(1_000))
        chaos.all_ended(seconds=120)
    sample()
    _check(chaos, answers, seen_ended)
    for program in programs:
        chaos.expect(most[program.code] == 1, f"{most[program.code]} jobs of one key of {program.code} at once")
    chaos.expect(set(chaos.statuses()) == {"COMPLETED"}, f"all jobs COMPLETED, not {chaos.statuses()}")
    if overlapping := _overlapping(chaos, answers):
        chaos.expect(False, f"jobs of one key that ran while another did: {overlapping[:5]}")


def _race(chaos: Chaos, programs: list[Program], count: int) -> list[Answer]:
    barrier = threading.Barrier(SUBMITTERS)
    choices = [(chaos.random.choice(programs), chaos.random.randrange(KEYS)) for _ in range(count)]

    def ask(place: int) -> list[Answer]:
        try:
            barrier.wait(10)
            return [_ask(program, key) for program, key in choices[place::SUBMITTERS]]
        finally:
            connection.close()

    with ThreadPoolExecutor(SUBMITTERS) as pool:
        answers = [answer for part in pool.map(ask, range(SUBMITTERS)) for answer in part]
    chaos.report.faults["submission of a key"] += len(answers)
    chaos.inserted.update(answer.number for answer in answers if answer.number and not answer.is_refused)
    return answers


def _ask(program: Program, key: int) -> Answer:
    asked_at = time.time()
    try:
        job = submit(tenant=program.tenant, program=program.code, parameters={"key": key, "seconds": SECONDS})
    except Conflict as error:
        number, is_refused = (None if error.code == "contended" else int(str(error.details["existing_job"]))), True
    else:
        number, is_refused = job.number, False
    return Answer(program.code, key, number, is_refused, asked_at, time.time())


def _at_once(chaos: Chaos, program: Program) -> int:
    """The largest number of jobs of one key that overlap now."""
    counted = "SELECT count(*) AS jobs FROM jobsite_job WHERE program_id = %s AND {} GROUP BY overlap_key"
    most = f"SELECT max(jobs) FROM ({counted.format(OVERLAPPING[program.code])}) k"
    return int(chaos.database.number(most, program.pk))


def _check(chaos: Chaos, answers: list[Answer], seen_ended: dict[int, float]) -> None:
    """Each refusal names a job of the key that was open during the submission. A QUEUE key never refuses.

    A job counts as ended from the moment when it was seen so: its finished_at is older than the commit.
    """
    refused = [answer for answer in answers if answer.is_refused]
    contended = sum(answer.number is None for answer in refused)
    accepted = Counter(answer.program for answer in answers if not answer.is_refused)
    chaos.figure("refused", len(refused))
    chaos.figure("contended", contended)
    chaos.expect(contended <= 0.01 * len(answers), f"{contended} submissions were refused as contended")
    for code, count in sorted(accepted.items()):
        chaos.figure(f"accepted, {code}", count)
    accepted_as = {answer.number: answer for answer in answers if not answer.is_refused}
    wrong = []
    for answer in refused:
        if answer.number is None:
            continue
        named = accepted_as[answer.number]
        is_of_the_key = (named.program, named.key) == (answer.program, answer.key)
        if not is_of_the_key or named.asked_at > answer.answered_at or seen_ended[answer.number] < answer.asked_at:
            wrong.append(answer)
    chaos.expect(not wrong, f"{len(wrong)} refusals name a job that did not overlap: {wrong[:3]}")
    chaos.expect(bool(refused), "some submission was refused")
    chaos.expect(all(answer.program == "rejected" for answer in refused), "only a REJECT key refuses")
    chaos.expect(min(accepted.values()) > 1, f"jobs of both programs were accepted: {dict(accepted)}")


def _overlapping(chaos: Chaos, answers: list[Answer]) -> list[tuple[int, int]]:
    """The jobs that began while another job of their key was running, as the outside service saw it."""
    keys = {answer.number: (answer.program, answer.key) for answer in answers if not answer.is_refused}
    at_work: dict[tuple[str, int], int] = {}
    found = []
    for entry in chaos.ledger.entries():
        key = keys[entry["job"]]
        if entry["kind"] == "begin":
            if key in at_work:
                found.append((at_work[key], entry["job"]))
            at_work[key] = entry["job"]
        elif entry["kind"] == "end":
            at_work.pop(key, None)
    return found
