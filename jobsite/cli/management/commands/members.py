"""jobsite members: who may do what in a tenant."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection, transaction

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, principal_of
from jobsite.errors import NotFound
from jobsite.tenants import scope
from jobsite.tenants.models import Membership, Role
from programs import audit


class Command(GroupCommand):
    """Entry point."""

    help = "The members of a tenant."

    def add_commands(self) -> None:
        """add and list."""
        add = self.sub("add", add_member, "Give a user a role in the tenant, or change it.")
        add.add_argument("user", metavar="USER", help="the user name")
        add.add_argument("--role", type=str.upper, choices=list(Role), default=Role.VIEWER)
        self.sub("list", list_members, "The members of the tenant.", json=True)


def add_member(options: dict[str, Any]) -> None:
    """Add one, or change the role."""
    user = get_user_model().objects.filter(username=options["user"]).first()
    if user is None:
        raise NotFound(f"no user {options['user']}; make one with: jobsite createsuperuser, or in the admin")
    principal = principal_of(options)
    role = str(options["role"])
    with transaction.atomic(), connection.cursor() as cursor:
        roles = Membership.objects.filter(tenant=principal.tenant, user=user).values_list("role", flat=True)
        earlier: dict[str, object] | None = {"role": roles[0]} if roles else None
        Membership.objects.update_or_create(tenant=principal.tenant, user=user, defaults={"role": role})
        if not user.is_staff:
            # To enter the admin, where he sees what his role allows in his tenants and nothing else.
            user.is_staff = True
            user.save(update_fields=["is_staff"])
        audit.record(cursor, principal, "add member", "user", user.get_username(), "", earlier, {"role": role})
    printing.console().print(f"{user.get_username()} is {role} in {principal.tenant.code}")


def list_members(options: dict[str, Any]) -> None:
    """Print them."""
    rows = Membership.objects.filter(tenant=scope.choose(options["tenant"])).select_related("user")
    items = [{"user": row.user.get_username(), "role": row.role} for row in rows.order_by("user__username")]
    if options["json"]:
        printing.print_json(items)
        return
    empty = "No members yet. Add one with: jobsite members add USER --role OPERATOR"
    printing.print_table(items, {"user": "user", "role": "role"}, empty=empty)
