"""A rule as it is asked for, and the check of each field; errors are given by field, the same for every door."""

import base64
import secrets as random_secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User

from jobsite import vault
from jobsite.errors import Invalid
from jobsite.notifications.channels import CHANNELS
from jobsite.notifications.events import COUNTED_IN_A_ROW, RECOVERS, RULE_EVENTS, template_event
from jobsite.notifications.models import Template
from jobsite.notifications.models.group import MAX_ADDRESSES, MAX_IN_A_ROW, MAX_THROTTLE_MINUTES
from jobsite.tenants.models import Role, Tenant

MAX_USERS = 100
SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - what Standard Webhooks puts before a secret
KEPT_SECRETS = 2


@dataclass(frozen=True)
class Wanted:
    """A rule as it is asked for; nothing of it is checked yet.

    `template` is a code, `to_users` are user names; `to_url` is only for webhooks, which go nowhere else.
    """

    event: str
    channel: str = "email"
    template: str = ""
    to_submitter: bool = False
    to_roles: tuple[str, ...] = ()
    to_users: tuple[str, ...] = ()
    to_addresses: tuple[str, ...] = ()
    to_url: str = ""
    throttle_minutes: int | None = None
    in_a_row: int = 1
    on_recovery: bool = False
    is_active: bool = True


@dataclass(frozen=True)
class Checked:
    """What is written of a rule: the columns of the row, and the users."""

    columns: dict[str, Any]
    users: list[User] = field(default_factory=list)


def invalid(errors: Mapping[str, str]) -> Invalid:
    """The refusal of fields, each with its error."""
    message = "; ".join(f"{name}: {wrong}" for name, wrong in errors.items())
    listed = [{"pointer": f"/{name}", "message": wrong} for name, wrong in errors.items()]
    return Invalid(message, code="invalid_rule", errors=listed)


def check(tenant: Tenant, wanted: Wanted) -> Checked:
    """The columns of a rule of this tenant; raises Invalid (invalid_rule) with an error for each wrong field."""
    errors: dict[str, str] = {}
    columns: dict[str, Any] = {"is_active": bool(wanted.is_active)}
    _one_of(RULE_EVENTS, "event", wanted.event, errors)
    _one_of(tuple(CHANNELS), "channel", wanted.channel, errors)
    columns |= {"event": wanted.event, "channel": wanted.channel}
    columns |= {"template": _template(tenant, wanted, errors)}
    columns |= _when(wanted, errors)
    users = _users(tenant, wanted, errors)
    columns |= _recipients(wanted, users, errors)
    if errors:
        raise invalid(errors)
    return Checked(columns, users)


def _one_of(allowed: tuple[str, ...], name: str, given: object, errors: dict[str, str]) -> None:
    if given not in allowed:
        errors[name] = f"expected {', '.join(allowed[:-1])} or {allowed[-1]}, got {given!r:.80}"


def _template(tenant: Tenant, wanted: Wanted, errors: dict[str, str]) -> Template | None:
    if not wanted.template:
        return None
    known = Template.objects.filter(tenant=tenant, deleted_at__isnull=True)
    template = known.filter(code=wanted.template).first() if wanted.template.isprintable() else None
    if template is None:
        errors["template"] = f"there is no template {wanted.template!r:.80}"
    elif template.event != template_event(wanted.event):
        errors["template"] = f"template {template.code} is for {template.event}"
    return template


def _when(wanted: Wanted, errors: dict[str, str]) -> dict[str, Any]:
    minutes, times = wanted.throttle_minutes, wanted.in_a_row
    if minutes is not None and not _is_whole(minutes, 1, MAX_THROTTLE_MINUTES):
        errors["throttle_minutes"] = f"expected 1 to {MAX_THROTTLE_MINUTES:,} minutes, got {minutes!r:.80}"
    if not _is_whole(times, 1, MAX_IN_A_ROW):
        errors["in_a_row"] = f"expected 1 to {MAX_IN_A_ROW}, got {times!r:.80}"
    elif times > 1 and wanted.event not in COUNTED_IN_A_ROW:
        errors["in_a_row"] = f"only {' and '.join(COUNTED_IN_A_ROW)} are counted in a row"
    if wanted.on_recovery and wanted.event not in RECOVERS:
        errors["on_recovery"] = f"only {', '.join(RECOVERS)} have a recovery"
    return {"throttle_minutes": minutes, "in_a_row": times, "on_recovery": bool(wanted.on_recovery)}


def _is_whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _users(tenant: Tenant, wanted: Wanted, errors: dict[str, str]) -> list[User]:
    names = list(dict.fromkeys(wanted.to_users))
    if len(names) > MAX_USERS:
        errors["to_users"] = f"at most {MAX_USERS} users; give a role"
        return []
    printable = [name for name in names if name.isprintable()]
    found = list(User.objects.filter(memberships__tenant=tenant, username__in=printable).order_by("username"))
    known = {user.get_username() for user in found}
    if missing := [name for name in names if name not in known]:
        errors["to_users"] = f"{missing[0]!r:.80} is no member of tenant {tenant.code}"
    return found


def _recipients(wanted: Wanted, users: list[User], errors: dict[str, str]) -> dict[str, Any]:
    roles, addresses = list(dict.fromkeys(wanted.to_roles)), list(dict.fromkeys(wanted.to_addresses))
    for role in roles:
        _one_of(tuple(Role.values), "to_roles", role, errors)
    if len(addresses) > MAX_ADDRESSES:
        errors["to_addresses"] = f"at most {MAX_ADDRESSES} addresses"
    else:
        addresses = [_address("email", "to_addresses", one, errors) for one in addresses]
    people = wanted.to_submitter or roles or wanted.to_users or addresses
    url = wanted.to_url
    if wanted.channel == "webhook":
        if people:
            errors["channel"] = "a webhook goes to its URL alone; notify people by another rule"
        url = _address("webhook", "to_url", url, errors)
    elif url:
        errors["to_url"] = "only a webhook goes to a URL"
    elif not people and "to_users" not in errors:
        errors["to_submitter"] = "there is nobody to notify; name the submitter, roles, users or addresses"
    if wanted.channel == "inbox" and addresses:
        errors["to_addresses"] = "an inbox is a user's; give e-mail addresses to a rule of the channel email"
    return {
        "to_submitter": bool(wanted.to_submitter),
        "to_roles": roles,
        "to_addresses": addresses,
        "to_url": url,
    }


def _address(channel: str, name: str, given: str, errors: dict[str, str]) -> str:
    try:
        return CHANNELS[channel].check_address(given)
    except Invalid as error:
        errors[name] = str(error)
        return given


# ---- Secrets of webhooks ------------------------------------------------------------------------------------------


def new_secret() -> str:
    """A secret as Standard Webhooks has them."""
    return SECRET_PREFIX + base64.b64encode(random_secrets.token_bytes(SECRET_BYTES)).decode()


def with_secret(stored: list[str] | None, secret: str) -> list[str]:
    """The sealed secrets with a new one before them; the previous one signs too until the next."""
    return [vault.sealed(secret), *(stored or [])][:KEPT_SECRETS]
