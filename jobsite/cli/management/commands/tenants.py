"""jobsite tenants: create, list, suspend and resume tenants."""

from typing import Any

from django.db import connection, transaction

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, principal_of
from jobsite.programs.operations import pausing
from jobsite.tenants import audit, setup
from jobsite.tenants.models import SYSTEM, Tenant

COLUMNS = {
    "code": "tenant",
    "name": "name",
    "status": "status",
    "language": "language",
    "time_zone": "time zone",
    "weight": "weight",
}


class Command(GroupCommand):
    """Entry point."""

    help = "The tenants of this installation."

    def add_commands(self) -> None:
        """create, list, suspend and resume."""
        create = self.sub("create", create_tenant, "Make a tenant.", tenant=False)
        create.add_argument("code", metavar="CODE")
        create.add_argument("--name", default="")
        create.add_argument("--language", default="en")
        create.add_argument("--time-zone", default="UTC", metavar="ZONE")
        for name, run, what in (
            ("suspend", suspend_tenant, "Suspend a tenant: its jobs wait, running jobs go on to their end."),
            ("resume", resume_tenant, "Resume a suspended tenant."),
        ):
            parser = self.sub(name, run, what, tenant=False)
            parser.add_argument("tenant", metavar="CODE")
            parser.add_argument("--reason", default="")
            if name == "suspend":
                parser.add_argument("--until", metavar="TIME", help="resume by itself at this time")
        self.sub("list", list_tenants, "The tenants.", tenant=False, json=True)


def create_tenant(options: dict[str, Any]) -> None:
    """Make a tenant."""
    with transaction.atomic(), connection.cursor() as cursor:
        tenant = setup.create(
            options["code"], name=options["name"], language=options["language"], time_zone=options["time_zone"]
        )
        audit.record(
            cursor, principal_of({"tenant": tenant.code}), "create tenant", "tenant", tenant.code, "", None, None
        )
    printing.console().print(f"tenant {tenant.code} is created")


def list_tenants(options: dict[str, Any]) -> None:
    """Print the tenants."""
    items = list(Tenant.objects.exclude(code=SYSTEM).values(*COLUMNS))
    if options["json"]:
        printing.print_json(items)
        return
    printing.print_table(
        items, COLUMNS, empty="No tenant yet. Make one with: jobsite tenants create CODE", right=["weight"]
    )


def suspend_tenant(options: dict[str, Any]) -> None:
    """Suspend a tenant."""
    pausing.suspend_tenant(principal_of(options), reason=options["reason"], until=options["until"])
    printing.console().print(f"tenant {options['tenant']} is suspended; its jobs wait")


def resume_tenant(options: dict[str, Any]) -> None:
    """Resume a tenant."""
    pausing.resume_tenant(principal_of(options), reason=options["reason"])
    printing.console().print(f"tenant {options['tenant']} goes on")
