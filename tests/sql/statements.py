"""The hot statements as the code sends them, and docs/sql/, where their texts are kept for people to read."""

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobsite.programs.transitions.finish import FINISH, More
from tests.sql.functions import ROOT

FOLDER = ROOT / "docs" / "sql"
_PLACE = re.compile(r"%\((\w+)\)s|%s|%%")

# name of the file, where the statement stands, what it does
_TABLE = (
    ("insert_one", "transitions.submit:INSERT_ONE", "Submit one job, QUEUED at once where that can be."),
    ("insert_many", "transitions.submit:INSERT", "Submit jobs, many or within a transaction."),
    ("dispatch", "transitions.dispatch:DISPATCH", "PENDING to QUEUED: the best jobs of a queue."),
    ("dispatch_is_wanted", "transitions.dispatch:IS_WANTED", "A finish asks first: is there anything to dispatch?"),
    ("offer_look", "transitions.dispatch:LOOK_AT_ONE", "The fast path asks: may this new job be QUEUED at once?"),
    ("offer", "transitions.dispatch:DISPATCH_ONE", "PENDING to QUEUED: one new job, on the fast path."),
    ("wake_lane", "transitions.dispatch:WAKE", "Open the lanes of these jobs, so that dispatch looks there."),
    ("requeue", "transitions.dispatch:REQUEUE", "QUEUED to PENDING: jobs whose message is lost."),
    ("claim", "transitions.claim:CLAIM", "QUEUED to RUNNING: the jobs of a message; what may not run to PENDING."),
    ("claim_one", "transitions.claim:CLAIM_ONE", "QUEUED to RUNNING: one job, where nothing is limited."),
    ("claim_read_back", "transitions.claim:READ_BACK", "Read what a claim took, where its answer was lost."),
    ("lock_manager", "transitions.claim:LOCK_MANAGER", "Lock a manager's row, before a claim under its limit."),
    ("lock_tenants", "transitions.claim:LOCK_TENANTS", "Lock tenants' rows, before a claim under their quotas."),
    ("start", "transitions.start:START", "A job of a group goes on alone: from now on its loss counts."),
    ("renew", "transitions.renew:RENEW", "Prolong the locks of a worker's jobs whose message it still holds."),
    ("renew_one", "transitions.renew:RENEW_ONE", "Prolong one lock that renew passed over."),
    ("abandoned", "transitions.renew:ABANDONED", "The jobs that a worker holds though their message is gone."),
    ("give_back_all", "transitions.give_back:GIVE_BACK_ALL", "RUNNING to PENDING: what a worker holds when it stops."),
    ("reap", "transitions.reap:EXPIRED", "RUNNING to PENDING, FAILED or CANCELED: jobs whose lock ran out."),
    ("reap_child", "transitions.reap:CHILD", "RUNNING to PENDING, FAILED or CANCELED: the jobs of a child that died."),
    ("expire_stuck", "transitions.reap:STUCK", "RUNNING to FAILED or PENDING: jobs past their time limit."),
    ("cancel", "transitions.cancel:CANCEL", "Cancel a job, or ask a RUNNING one to stop."),
    ("cancel_children", "transitions.cancel:CANCEL_CHILDREN", "Cancel the open children of jobs."),
    ("hold", "transitions.hold:HOLD", "Hold a job that is PENDING or QUEUED."),
    ("release", "transitions.hold:RELEASE", "End the hold of a job."),
    ("unblock", "transitions.hold:UNBLOCK", "Put the jobs that became due into their lanes."),
    ("let_in", "transitions.overlap:OF_JOBS", "Let in the next job of each QUEUE key that these jobs held."),
    ("resolve_lock", "transitions.resolve:LOCK", "Lock parents that wait for their children."),
    ("resolve", "transitions.resolve:RESOLVE", "WAITING to its end or to PENDING: parents without an open child."),
    ("spawn", "transitions.spawn:SPAWN", "A running job makes a child."),
    ("prune", "transitions.prune:PRUNE", "Delete a batch of a tenant's old jobs, with all that belongs to them."),
    ("deliveries_of_submitted", "sql.deliveries:SUBMITTED", "Write the deliveries about jobs that were submitted."),
    ("deliveries_of_started", "sql.deliveries:STARTED", "Write the deliveries about a job that has started."),
    ("deliveries_of_late", "sql.deliveries:LATE", "Write the deliveries about jobs that have waited for five minutes."),
)  # fmt: skip


_ALSO = {
    More.NOTHING: "",
    More.FAILURES: ", and the program's failures in a row",
    More.DELIVERIES: ", the program's failures in a row, and the deliveries",
}


@dataclass(frozen=True)
class Statement:
    """A statement under the name of its file."""

    name: str
    place: str
    does: str
    text: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.sql"

    @property
    def page(self) -> str:
        """What its file says: what it does, who sends it, and its text as it is sent."""
        module, _, constant = self.place.partition(":")
        return f"-- {self.does}\n-- {constant} of programs/{module.replace('.', '/')}.py\n\n{self.text.strip()}\n"

    @property
    def numbered(self) -> str:
        """The statement with $1, $2 and so on for its parameters, as PostgreSQL knows them."""
        places: list[str] = []

        def number(found: re.Match[str]) -> str:
            if found[0] == "%%":
                return "%"
            name = found[1] or f"place {len(places) + 1}"
            if name not in places:
                places.append(name)
            return f"${places.index(name) + 1}"

        return _PLACE.sub(number, self.text)


def _all() -> Iterator[Statement]:
    for name, place, does in _TABLE:
        module, _, constant = place.partition(":")
        yield Statement(name, place, does, getattr(importlib.import_module(f"jobsite.programs.{module}"), constant))
    for (is_many, more), text in FINISH.items():
        name = f"finish_{'many' if is_many else 'one'}" + (f"_with_{more.name.lower()}" if more else "")
        whose = "the jobs of a group and their attempts" if is_many else "one job and its attempt"
        does = f"RUNNING to its end, to WAITING, or to PENDING for a retry: {whose}{_ALSO[more]}."
        yield Statement(name, "transitions.finish:FINISH", does, text)


STATEMENTS = tuple(_all())
_ROWS = re.compile(r"(?:^\| `\w+` \| .* \|\n)+", re.MULTILINE)


def listing(readme: str) -> str:
    """The text of docs/sql/README.md with a row for each statement."""
    rows = "".join(f"| `{one.name}` | {one.does} |\n" for one in STATEMENTS)
    return _ROWS.sub(lambda _: rows, readme)
