"""jobsite members: the users of a tenant and their roles."""

import re
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection, transaction

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand, principal_of
from jobsite.errors import Invalid, NotFound
from jobsite.tenants import audit, scope
from jobsite.tenants.models import Membership, Role

LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
LONGEST_LANGUAGE = 16


class Command(GroupCommand):
    """Entry point."""

    help = "The members of a tenant."

    def add_commands(self) -> None:
        """add and list."""
        add = self.sub("add", add_member, "Give a user a role in the tenant, or change the role.")
        add.add_argument("user", metavar="USER", help="the user name")
        add.add_argument(
            "--role", type=str.upper, choices=list(Role), help="default: VIEWER, or the role that the member has"
        )
        add.add_argument(
            "--language", metavar="L", help="the member's language, such as de-AT; empty: the tenant's (default)"
        )
        self.sub("list", list_members, "The members of the tenant.", json=True)


def add_member(options: dict[str, Any]) -> None:
    """Add a member, or change a member's role or language."""
    user = get_user_model().objects.filter(username=options["user"]).first()
    if user is None:
        raise NotFound(f"no user {options['user']}; make one with: jobsite createsuperuser, or in the admin")
    principal = principal_of(options)
    given = {name: options[name] for name in ("role", "language") if options[name] is not None}
    _check_language(given.get("language"))
    with transaction.atomic(), connection.cursor() as cursor:
        known = Membership.objects.select_for_update().filter(tenant=principal.tenant, user=user).first()
        earlier = None if known is None else _state(known)
        row, _is_new = Membership.objects.update_or_create(tenant=principal.tenant, user=user, defaults=given)
        if not user.is_staff:
            # Django's admin demands this flag. Members see there what their roles allow in their tenants, nothing else.
            user.is_staff = True
            user.save(update_fields=["is_staff"])
        audit.record(cursor, principal, "add member", "user", user.get_username(), "", earlier, _state(row))
    language = f", with language {row.language}" if row.language else ""
    printing.console().print(f"{user.get_username()} is {row.role} in {principal.tenant.code}{language}", markup=False)


def _state(row: Membership) -> dict[str, object]:
    return {"role": str(row.role), "language": row.language}


def _check_language(language: str | None) -> None:
    if language and (len(language) > LONGEST_LANGUAGE or not LANGUAGE.fullmatch(language)):
        raise Invalid(f"--language: expected a language such as de or de-AT, got {language!r:.80}")


def list_members(options: dict[str, Any]) -> None:
    """Print the members."""
    rows = Membership.objects.filter(tenant=scope.choose(options["tenant"])).select_related("user")
    rows = rows.order_by("user__username")
    items = [{"user": row.user.get_username(), "role": row.role, "language": row.language} for row in rows]
    if options["json"]:
        printing.print_json(items)
        return
    empty = "No members yet. Add one with: jobsite members add USER --role OPERATOR"
    printing.print_table(items, {"user": "user", "role": "role", "language": "language"}, empty=empty)
