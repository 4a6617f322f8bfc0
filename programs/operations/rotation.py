"""Encrypt stored secrets again with the newest of JOBSITE_SECRET_KEYS, while the installation is in use."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from jobsite import vault
from jobsite.database import Cursor
from jobsite.notifications.models import Rule
from jobsite.programs.models import Action, Schedule
from jobsite.programs.parameters import secrets
from jobsite.programs.parameters.secrets import SecretLost
from jobsite.tenants import audit, principals
from jobsite.tenants.models import Tenant
from jobsite.values.masking import SECRET_KEY

BATCH = 500

# The index holds only jobs with secrets. Jobs submitted after the rotation began have the newest key already.
LAST = "SELECT max(number) FROM jobsite_job WHERE has_secrets"
BATCH_OF = """
SELECT number, parameters FROM jobsite_job WHERE has_secrets AND number > %s AND number <= %s ORDER BY number LIMIT %s
"""
# A row is written only if it is still as it was read: a second rotation may run at the same time. Terminal rows are
# written too: only ciphertext changes. Rows are locked in order of number, as in every statement over several rows.
REENCRYPT = """
UPDATE jobsite_job j SET parameters = l.after
FROM (SELECT j.number, g.after::jsonb AS after
      FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS g (number, before, after)
      JOIN jobsite_job j ON j.number = g.number AND j.parameters = g.before::jsonb
      ORDER BY j.number FOR NO KEY UPDATE OF j) l
WHERE j.number = l.number
RETURNING j.number, j.tenant_id
"""


@dataclass(frozen=True)
class Rotated:
    """The result of one batch: it ended with job `done_to`, all end with `last`; no key decrypts the jobs in `lost`."""

    done_to: int
    last: int
    seen: int
    changed: int
    lost: tuple[int, ...]


def rotate(*, login: str) -> Iterator[Rotated]:
    """Encrypt the secrets of all jobs with the newest key, batch by batch; a batch is committed before it is yielded.

    For the local command line alone; `login` is the user who runs it. It may be stopped after any batch and run again
    at any time, also beside workers, submitters and another rotation: secrets under the newest key are left alone.
    Each batch leaves an audit entry in every tenant whose jobs it changed.
    """
    with connection.cursor() as cursor:
        cursor.execute(LAST)
        last = cursor.fetchone()[0] or 0
    after = 0
    while True:
        with connection.cursor() as cursor:
            cursor.execute(BATCH_OF, [after, last, BATCH])
            rows = cursor.fetchall()
        if not rows:
            return
        changes, lost = _changes(rows)
        changed = _write(changes, login) if changes else 0
        after = rows[-1][0]
        yield Rotated(after, last, len(rows), changed, tuple(lost))


def rotate_actions(*, login: str) -> tuple[int, list[str]]:
    """Encrypt the secrets of all webhook actions with the newest key.

    Returns how many were changed, and the programs, as tenant/code, whose secret no key decrypts. There are few, so
    that one transaction does it all. Each tenant whose programs were changed gets an audit entry.
    """
    lost: list[str] = []
    changed: dict[int, list[str]] = {}
    with transaction.atomic(), connection.cursor() as cursor:
        for action in (
            Action.objects.filter(kind="webhook")
            .select_related("program__tenant")
            .select_for_update(of=("self",))
            .order_by("pk")
        ):
            program = action.program
            try:
                after = secrets.rotated(action.configuration)
            except SecretLost:
                lost.append(f"{program.tenant.code}/{program.code}")
                continue
            if after is not None:
                Action.objects.filter(pk=action.pk).update(configuration=after)
                changed.setdefault(program.tenant_id, []).append(program.code)
        for tenant in Tenant.objects.filter(pk__in=changed).order_by("pk"):
            codes = sorted(set(changed[tenant.pk]))
            principal = principals.local(tenant, login=login)
            audit.record(cursor, principal, "rotate secrets", "programs", ", ".join(codes)[:200], "", None, None)
    return sum(map(len, changed.values())), lost


def rotate_schedules(*, login: str) -> tuple[int, list[str]]:
    """Encrypt the secrets among the parameters of all schedules with the newest key.

    Returns the same as `rotate_actions`, for schedules; each row is locked only while it is read and written.
    """
    lost: list[str] = []
    changed = 0
    for key in (
        Schedule.objects.filter(parameters__icontains=f'"{SECRET_KEY}"').order_by("pk").values_list("pk", flat=True)
    ):
        with transaction.atomic(), connection.cursor() as cursor:
            row = Schedule.objects.select_for_update(of=("self",)).select_related("tenant").filter(pk=key).first()
            if row is None:
                continue
            try:
                after = secrets.rotated(row.parameters)
            except SecretLost:
                lost.append(f"{row.tenant.code}/{row.code}")
                continue
            if after is not None:
                Schedule.objects.filter(pk=key).update(parameters=after)
                principal = principals.local(row.tenant, login=login)
                audit.record(cursor, principal, "rotate secrets", "schedule", row.code, "", None, None)
                changed += 1
    return changed, lost


def rotate_rules(*, login: str) -> tuple[int, list[str]]:
    """Encrypt the webhook secrets of all rules with the newest key; returns the same as `rotate_actions`, for rules."""
    lost: list[str] = []
    changed = 0
    for key in Rule.objects.filter(secret__isnull=False).order_by("pk").values_list("pk", flat=True):
        with transaction.atomic(), connection.cursor() as cursor:
            row = Rule.objects.select_for_update(of=("self",)).select_related("tenant").filter(pk=key).first()
            if row is None or row.secret is None:
                continue
            try:
                after = [vault.rotated(sealed) or sealed for sealed in row.secret]
            except vault.Lost:
                lost.append(f"{row.tenant.code}/{key}")
                continue
            if after != row.secret:
                Rule.objects.filter(pk=key).update(secret=after)
                principal = principals.local(row.tenant, login=login)
                audit.record(cursor, principal, "rotate secrets", "rule", str(key), "", None, None)
                changed += 1
    return changed, lost


_Change = tuple[int, str, str]


def _changes(rows: Sequence[tuple[int, str]]) -> tuple[list[_Change], list[int]]:
    """The rows to write (number, before, after), and the numbers of those that no key decrypts."""
    changes: list[_Change] = []
    lost: list[int] = []
    for number, before in rows:
        try:
            after = secrets.rotated(json.loads(before))
        except SecretLost:
            lost.append(number)
            continue
        if after is not None:
            changes.append((number, before, json.dumps(after, ensure_ascii=False)))
    return changes, lost


def _write(changes: Sequence[_Change], login: str) -> int:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(REENCRYPT, [list(column) for column in zip(*changes, strict=True)])
        rows = cursor.fetchall()
        _record(cursor, login, rows)
    return len(rows)


def _record(cursor: Cursor, login: str, rows: Sequence[Sequence[Any]]) -> None:
    numbers: dict[int, list[int]] = {}
    for number, tenant_id in rows:
        numbers.setdefault(tenant_id, []).append(number)
    for tenant in Tenant.objects.filter(pk__in=numbers).order_by("pk"):
        principal, own = principals.local(tenant, login=login), numbers[tenant.pk]
        target = f"{min(own)}-{max(own)}"
        audit.record(cursor, principal, "rotate secrets", "jobs", target, "", None, {"jobs": len(own)})
