"""What a tenant starts with: a template for each event, and a group for events that need somebody's attention."""

from jobsite.notifications.events import Event
from jobsite.notifications.models import Group, Rule, Template
from jobsite.tenants.models import SYSTEM, Role, Tenant

DEFAULT_GROUP = "default"


def begin(tenant: Tenant) -> None:
    """Make the templates, and the group `default` with its rules; what is there stays as it is."""
    Template.objects.bulk_create(
        [Template(tenant=tenant, code=event.lower(), event=event, is_default=True) for event in Event],
        ignore_conflicts=True,
    )
    if tenant.code == SYSTEM or Group.objects.filter(tenant=tenant, code=DEFAULT_GROUP).exists():
        return
    group = Group.objects.create(tenant=tenant, code=DEFAULT_GROUP, name="Whoever submitted it, and the admins")
    Rule.objects.bulk_create(
        [
            Rule(tenant=tenant, group=group, event=Event.FAILED, channel="email", to_submitter=True),
            Rule(tenant=tenant, group=group, event=Event.PROGRAM_TERMINATED, channel="email", to_roles=[Role.ADMIN]),
            Rule(
                tenant=tenant,
                group=group,
                event=Event.SCHEDULE_MISSED,
                channel="email",
                to_roles=[Role.ADMIN],
                on_recovery=True,
            ),
        ]
    )
