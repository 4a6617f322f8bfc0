"""The worker processes that this machine needs: one for each broker with all its queues, or one for each queue."""

import os
from collections.abc import Collection
from datetime import UTC, datetime

from jobsite import brokers
from jobsite.cli.supervisor import Service, jobsite
from jobsite.programs.inspection import presentation

MINIMUM_CHILDREN = 2
ALIVE_SECONDS = 30.0


def workers(*, each_queue: bool = False, queues: Collection[str] | None = None) -> list[Service]:
    """The services that serve every queue, or these, with as many children as cores."""
    children = str(max(MINIMUM_CHILDREN, os.cpu_count() or 1))
    groups = list(brokers.queues_by_url().values())
    if each_queue:
        groups = [[name] for names in groups for name in names]
    if queues is not None:
        groups = [kept for names in groups if (kept := [name for name in names if name in queues])]
    return [
        Service(
            "worker" if len(groups) == 1 else f"worker-{names[0]}",
            jobsite("worker", *names, "--concurrency", children, "--name", "all" if len(groups) == 1 else names[0]),
        )
        for names in groups
    ]


def served_queues() -> set[str]:
    """The queues that a living worker serves now."""
    return {
        name
        for worker in presentation.workers()
        if worker["status"] == "ACTIVE" and _age(worker["last_seen_at"]) < ALIVE_SECONDS
        for name in worker["queues"]
    }


def _age(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
