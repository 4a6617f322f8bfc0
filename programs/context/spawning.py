"""How a run spawns children: known by their keys from run to run, within their limits, under the parent's lock."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction

from jobsite.database import prepared_cursor
from jobsite.errors import Conflict
from jobsite.programs import dispatch, parameters, submission, workers
from jobsite.programs.context.children import Children
from jobsite.programs.parameters import secrets
from jobsite.programs.rules.failures import PermanentError
from jobsite.programs.rules.lifecycle import Overlap, Trigger
from jobsite.programs.rules.stops import LockLost
from jobsite.programs.submission import Options, preparation, quotas
from jobsite.programs.transitions import spawn
from jobsite.programs.transitions.claim import Claimed
from jobsite.programs.transitions.submit import NewJob
from jobsite.tenants.models import Tenant
from jobsite.tenants.principals import Kind, Principal
from jobsite.values import storable
from jobsite.values.masking import Mask

MAX_CHILDREN = 10_000
MAX_DEPTH = 10
MAX_KEY = 200
TRIES = 10
KNOWN = "SELECT child_key, number FROM jobsite_job WHERE parent_id = %(parent)s"
EXISTING = """
SELECT m.lock_token = %(token)s AND m.status = 'RUNNING' AS is_ours, c.number
FROM jobsite_job m LEFT JOIN jobsite_job c ON c.parent_id = m.number AND c.child_key = %(key)s
WHERE m.number = %(parent)s
"""
HAS_CHILDREN = """
SELECT EXISTS (SELECT FROM jobsite_job WHERE parent_id = %(parent)s),
       EXISTS (SELECT FROM jobsite_job WHERE parent_id = %(parent)s AND parent_fence > %(parked)s)
"""


class SpawnRefused(PermanentError):
    """This child can never run: it would be too deep, one too many, or wait for a key that an ancestor holds."""


class _Asked:
    """A call of spawn, whose transaction may still be rolled back."""

    def __init__(self, key: str, fingerprint: str, is_new: bool) -> None:
        self.key, self.fingerprint, self.is_new = key, fingerprint, is_new
        self.is_committed = False

    def commit(self) -> None:
        """Note that the transaction has committed."""
        self.is_committed = True


class Family:
    """What one run does with its children. Only the thread that runs the action calls it."""

    def __init__(self, job: Claimed) -> None:
        self._job = job
        # Before its second claim a job has no children.
        self._known: dict[str, int] | None = {} if job.fence == 1 else None
        self._spawned: dict[str, int] = {}
        # Whether an INSERT was sent, also one whose answer was lost.
        self._has_inserted = False
        # The request under each key that was given.
        self._requests: dict[str, bytes] = {}
        # How many calls had the same request, by its fingerprint.
        self._alike: dict[str, int] = {}
        # The calls in a transaction that was still open then, and the list of its hooks.
        self._unsure: list[_Asked] = []
        self._hooks: object = None
        self._count = 0
        self._line: list[spawn.Ancestor] = []

    def children(self) -> Children:
        """The children that this run may see."""
        until = self._job.fence if self._job.parked_fence is None else self._job.parked_fence
        return Children(self._job.number, until)

    @property
    def may_have_children(self) -> bool:
        """Whether the database must be asked for children."""
        return self._has_inserted or self._job.fence > 1

    def has_children(self) -> tuple[bool, bool]:
        """Whether there are children, and whether any for which no callback was called yet.

        The answer stays true while the lock is held.
        """
        if not self.may_have_children:
            return False, False
        values = {"parent": self._job.number, "parked": self._job.parked_fence or 0}
        [(any_, new)] = workers.execute_patiently(HAS_CHILDREN, values)
        return any_, new

    def spawn(
        self,
        tenant: Tenant,
        captured: Mapping[str, Any],
        code: str,
        given: Mapping[str, Any],
        *,
        key: str | None,
        priority: int | None,
        scheduled_at: datetime | str | None,
        mask: Mask | None,
        place: str,
    ) -> int:
        """The number of the child of this key: a new one, or one that this run or an earlier one has spawned.

        Without a key it is recognized by the request and its place: the action, the step, and the turn of the callback,
        since a later run may not call all of them again.

        Raises what a submission raises, LockLost, and SpawnRefused.
        """
        principal = _principal(captured, tenant)
        options = Options(priority=priority, scheduled_at=scheduled_at, trigger=Trigger.CHILD)

        def prepared() -> NewJob:
            child, _ = preparation.with_program(
                principal, code, lambda known: preparation.prepare(principal, known, given, options)
            )
            self._check(child, code, mask)
            return child

        try:
            request = parameters.canonical([code, given, place, self._job.parked_fence])
        except (TypeError, ValueError, RecursionError):
            prepared()  # its error says better what is wrong
            raise
        if key is not None and self._requests.setdefault(key, request) != request:
            raise ValueError(
                f'child key "{key}" was used in this run for another program, other parameters or in another place; '
                "give each child a key of its own"
            )
        key, number, fingerprint = self._found(key, request)
        is_new = number is None
        if number is None:
            self._check_room()
            prepared()
            quotas.take(tenant, 1)
            number = self._new(prepared, key, lambda: preparation.forget(principal, code), code)
        self._note(_Asked(key, fingerprint, is_new))
        return number

    def _new(self, prepared: Callable[[], NewJob], key: str, forget: Callable[[], None], code: str) -> int:
        for _ in range(TRIES):
            child = prepared()
            if (number := self._inserted(child, key)) is not None:
                return number
            if (number := self._existing(child, key)) is not None:
                return number
            forget()  # the program was edited meanwhile
        raise Conflict(f"program {code} is contended; spawn again", code="contended")

    def _found(self, key: str | None, request: bytes) -> tuple[str, int | None, str]:
        """The key, the child that has it already, and the fingerprint of the request; "" where a key was given."""
        if self._known is None:
            self._known = dict(workers.execute_patiently(KNOWN, {"parent": self._job.number}))
            self._count = len(self._known)
        self._forget_rolled_back()
        if key is not None:
            return key, self._known.get(key) or self._spawned.get(key), ""
        # The key is made of the request, so that a later run finds the child in any order of calls; equal requests are
        # counted.
        fingerprints = secrets.fingerprints(request)
        turn = self._alike.get(fingerprints[0], 0) + 1
        candidates = [f"{spawn.OWN_KEY}{one[:32]}" + (f":{turn}" if turn > 1 else "") for one in fingerprints]
        earlier = next((one for one in candidates if one in self._known), candidates[0])
        return earlier, self._known.get(earlier), fingerprints[0]

    def _note(self, asked: "_Asked") -> None:
        """Count a call of spawn; it is forgotten again if the current transaction is rolled back."""
        self._alike[asked.fingerprint] = self._alike.get(asked.fingerprint, 0) + 1
        if connection.in_atomic_block:
            transaction.on_commit(asked.commit)
            self._unsure.append(asked)
            self._hooks = connection.run_on_commit

    def _forget_rolled_back(self) -> None:
        """Forget the calls in a transaction that was rolled back, whole or in part.

        Django makes a new list of a connection's hooks whenever a transaction ends or goes back to a savepoint.
        """
        if not self._unsure or connection.run_on_commit is self._hooks:
            return
        self._hooks = connection.run_on_commit
        pending = {getattr(hook, "__self__", None) for _, hook, *_ in connection.run_on_commit}
        gone = [asked for asked in self._unsure if not asked.is_committed and asked not in pending]
        for asked in gone:
            self._alike[asked.fingerprint] -= 1
            if asked.is_new and asked.key in self._spawned:
                del self._spawned[asked.key]
                self._count -= 1
        self._unsure = [asked for asked in self._unsure if asked in pending]

    def _check_room(self) -> None:
        if self._count >= MAX_CHILDREN:
            raise SpawnRefused(f"job {self._job.number} has {MAX_CHILDREN:,} children, the most that a job may have")
        if not self._line:
            with prepared_cursor() as cursor:
                self._line = list(spawn.line(cursor, self._job.number))
        if len(self._line) > MAX_DEPTH:
            raise SpawnRefused(
                f"children may be nested {MAX_DEPTH} deep, and job {self._job.number} is that deep already"
            )

    def _check(self, child: NewJob, code: str, mask: Mask | None) -> None:
        if child.overlap_policy is Overlap.QUEUE:
            held = (child.program_id, child.overlap_key)
            holder = next((one for one in self._line if (one.program_id, one.queue_key) == held), None)
            if holder is not None:
                raise SpawnRefused(
                    f"program {code} runs one job of a key at a time, and job {holder.number}, an ancestor of this "
                    "child, has the same key: the child would wait for ever"
                )
        if mask is not None:
            stored = json.loads(child.parameters)
            if mask.value(stored) != stored:
                raise storable.NotStorable(
                    f"the parameters of the child hold a secret of the parent where program {code} declares none"
                )

    def _inserted(self, child: NewJob, key: str) -> int | None:
        self._has_inserted = True
        try:
            with transaction.atomic() if child.notifies else nullcontext(), prepared_cursor() as cursor:
                row = spawn.spawn(cursor, child, parent=self._job.number, token=self._job.token, key=key)
        except IntegrityError as error:
            if "job_spawned_by_a_run" in str(getattr(getattr(error.__cause__, "diag", None), "constraint_name", "")):
                raise LockLost from error
            raise
        if row is None:
            return None
        self._spawned[key] = row.number
        self._count += 1
        if row.blocked is None:
            dispatch.after_commit(row.number, row.queue_id)
        elif row.blocked == "OVERLAP":
            dispatch.after_commit_let_in([row.number])
        return row.number

    def _existing(self, child: NewJob, key: str) -> int | None:
        with prepared_cursor() as cursor:
            cursor.execute(EXISTING, {"token": self._job.token, "key": key, "parent": self._job.number})
            is_ours, number = cursor.fetchone() or (False, None)
        if not is_ours:
            raise LockLost
        if number is not None:
            self._spawned[key] = int(number)
            return int(number)
        submission.refuse_duplicate(child)
        return None


def check_request(key: object, program: object, given: object, mask: Mask | None) -> None:
    """Raise what is wrong with the arguments of `context.spawn`: ValueError, NotStorable or TypeError."""
    if key is not None and not (
        isinstance(key, str) and 0 < len(key) <= MAX_KEY and key.isprintable() and not key.startswith(spawn.OWN_KEY)
    ):
        raise ValueError(
            f"a child's key is text of 1 to {MAX_KEY} printable characters that does not begin with "
            f'"{spawn.OWN_KEY}", not {key!r:.220}'
        )
    if isinstance(key, str) and mask is not None and mask.text(key) != key:
        raise storable.NotStorable("a child's key holds a secret of the parameters")
    if not isinstance(program, str) or not isinstance(given, Mapping | None):
        raise TypeError(f"spawn takes a program's code and its parameters, not {program!r:.80} and {given!r:.80}")


def _principal(captured: Mapping[str, Any], tenant: Tenant) -> Principal:
    """The principal that the parent runs as: the child has the same context and no more rights."""
    return Principal(
        Kind(captured["kind"]),
        tenant,
        captured["submitted_by"],
        frozenset(captured["scopes"]),
        user_id=captured["user_id"],
        roles=tuple(captured["roles"]),
        permissions=tuple(captured["permissions"]),
        language=captured["language"],
    )
