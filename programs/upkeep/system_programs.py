"""The programs that come with jobsite, and their schedules. Migrating creates them in the tenant `system`."""

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
    """One of these programs: its name, what it does, and when it runs, in UTC."""

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
    """Create or update them as this version defines them. A schedule that exists stays as the operator left it."""
    tenant = Tenant.objects.get(code=SYSTEM)
    principal = principals.system(tenant)
    queue = QUEUE if QUEUE in settings.JOBSITE_QUEUES else settings.JOBSITE_QUEUES[0]
    registration.load_system(
        principal,
        [definitions.from_mapping(_definition(one, queue), where="jobsite", queues=[queue]) for one in PROGRAMS],
    )
    existing = set(Schedule.objects.filter(tenant=tenant).values_list("code", flat=True))
    for one in PROGRAMS:
        if one.code not in existing:
            wanted = Wanted(one.code, minute=one.minute, hour=one.hour, time_zone="UTC", overlap="SKIP")
            schedules.create(principal, one.code, wanted)


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
    """Receiver of post_migrate; acts only if all our migrations are applied, since a migration may stop before them."""
    executor = MigrationExecutor(connection)
    ours = executor.loader.graph.leaf_nodes(sender.label)
    if set(ours) <= set(executor.loader.applied_migrations):
        register()
        for tenant in Tenant.objects.exclude(notification_templates__isnull=False):
            setup.begin(tenant)
