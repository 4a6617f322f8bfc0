"""Which containers are ours, by their labels, and the removal of those that lost workers left behind."""

import hashlib
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from jobsite.logs import get_logger
from jobsite.programs import workers
from jobsite.programs.actions.container.engine import KILL_SECONDS, engine, remove
from jobsite.programs.rules.stops import LockLost

if TYPE_CHECKING:
    from docker import DockerClient

    from jobsite.programs.context import Context

log = get_logger(__name__)

LABEL = "jobsite"
# The moment of the first migration, to the microsecond, and the database: a copy of it is another installation.
WHOSE = """
SELECT t.created_at::text, d.datname::text, d.oid::text
FROM jobsite_tenant t, pg_database d WHERE t.code = 'system' AND d.datname = current_database()
"""
RUNNING = "SELECT number, fence FROM jobsite_job WHERE number = ANY(%s) AND status = %s"
Found = dict[tuple[int, int], list[str]]
"""Containers by the number and fence of their run."""


@cache
def installation() -> str:
    """A digest that no two databases share; it tells our containers apart where installations share an engine."""
    with workers.connection().cursor() as cursor:
        cursor.execute(WHOSE)
        return hashlib.sha256(str(cursor.fetchone()).encode()).hexdigest()[:16]


def labels(context: "Context") -> dict[str, str]:
    """The labels of a container of this run."""
    return {
        LABEL: installation(),
        f"{LABEL}.job": str(context.job_number),
        f"{LABEL}.fence": str(context.fence),
    }


def remove_leftovers(client: "DockerClient", context: "Context") -> None:
    """Remove the containers of earlier runs of this job, and of any job of ours that does not run any more.

    Raises LockLost where a later run of this job has one already.
    """
    found = _ours(client)
    if any(number == context.job_number and fence > context.fence for number, fence in found):
        raise LockLost
    _remove_idle(client, found)


def remove_idle() -> int:
    """Remove our containers on this machine's engine whose run has ended or was lost; returns how many.

    Does nothing where no program has a container. Raises NoEngine where none answers within seconds, PermanentError
    where it refuses, UnknownAction without the library.
    """
    with workers.connection().cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM jobsite_action WHERE kind = 'container')")
        if not cursor.fetchone()[0]:  # type: ignore[index]
            return 0
    with engine(KILL_SECONDS) as client:
        return _remove_idle(client, _ours(client))


def _ours(client: "DockerClient") -> Found:
    # Only the labels of the list are read: a container may be gone before it can be inspected.
    found: Found = {}
    for one in client.api.containers(all=True, filters={"label": f"{LABEL}={installation()}"}):
        labels = one.get("Labels") or {}
        with suppress(KeyError, ValueError):
            key = int(labels[f"{LABEL}.job"]), int(labels[f"{LABEL}.fence"])
            found.setdefault(key, []).append(one["Id"])
    return found


def _remove_idle(client: "DockerClient", found: Found) -> int:
    # The list is read before the jobs: a run whose container is in the list had begun by then.
    idle = [(run, identity) for run in found.keys() - _running({run[0] for run in found}) for identity in found[run]]
    for (number, fence), identity in idle:
        log.warning("container_left_behind", job=number, fence=fence, container=identity[:12])
        remove(client, identity)
    return len(idle)


def _running(numbers: Collection[int]) -> set[tuple[int, int]]:
    with workers.connection().cursor() as cursor:
        cursor.execute(RUNNING, [list(numbers), "RUNNING"])
        return set(cursor.fetchall())
