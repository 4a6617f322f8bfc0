"""The programs that come with jobsite: in the tenant `system`, with their schedules, made by the migration."""

from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from jobsite.notifications import setup
from jobsite.programs import definitions, schedules
from jobsite.programs.definitions import registration
from jobsite.programs.models import Schedule
from jobsite.programs.schedules import Wanted
from jobsite.tenants import principals
from jobsite.tenants.models import SYSTEM, Tenant

QUEUE = "default"


@dataclass(frozen=True)
class SystemProgram:
    """One of them: its name, what it does, when it runs, in UTC."""

    code: str
    name: str
    description: str
    minute: str
    hour: str
    timeout: str = "1h"


PROGRAMS = (
    SystemProgram("retention", "Retention", "Deletes finished jobs past each tenant's term.", "0", "*"),
    SystemProgram(
        "database_pruning",
        "Database pruning",
        "Drops the oldest log partitions while the database is above JOBSITE_MAX_DATABASE_BYTES.",
        "30",
        "*",
    ),
    SystemProgram(
        "soft_delete_cleanup", "Clean-up", "Deletes for good what was deleted more than a week ago.", "0", "3"
    ),
    SystemProgram("partition_creation", "Log partitions", "Makes the log partitions of the coming months.", "0", "4"),
)


def register() -> None:
    """Make them be as this version has them. A schedule that is there stays as the operator has left it."""
    tenant = Tenant.objects.get(code=SYSTEM)
    hand = principals.system(tenant)
    queue = QUEUE if QUEUE in settings.JOBSITE_QUEUES else settings.JOBSITE_QUEUES[0]
    registration.load_system(
        hand, [definitions.from_mapping(_definition(one, queue), where="jobsite", queues=[queue]) for one in PROGRAMS]
    )
    there = set(Schedule.objects.filter(tenant=tenant).values_list("code", flat=True))
    for one in PROGRAMS:
        if one.code not in there:
            wanted = Wanted(one.code, minute=one.minute, hour=one.hour, time_zone="UTC", overlap="SKIP")
            schedules.create(hand, one.code, wanted)


def _definition(one: SystemProgram, queue: str) -> dict[str, Any]:
    return {
        "code": one.code,
        "name": {"en": one.name},
        "description": one.description,
        "scope": "SYSTEM",
        "queue": queue,
        "priority": -50,
        "timeout": one.timeout,
        "overlap": "REJECT",
        "group": False,
        "parameters": {"type": "object", "additionalProperties": False},
        "action": [{"kind": "python", "target": f"jobsite.programs.upkeep.housekeeping:{one.code}"}],
    }


def register_after_migrate(sender: AppConfig, **_: Any) -> None:
    """Receiver of post_migrate, once all our migrations are there: it may have been something else's turn."""
    executor = MigrationExecutor(connection)
    ours = executor.loader.graph.leaf_nodes(sender.label)
    if set(ours) <= set(executor.loader.applied_migrations):
        register()
        for tenant in Tenant.objects.exclude(notification_templates__isnull=False):
            setup.begin(tenant)
