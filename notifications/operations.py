"""What people do with notifications: groups, rules, templates, deliveries and their inbox; for every door."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from jobsite.errors import Conflict, Invalid, NotFound
from jobsite.notifications import defaults, hints, outbox, rendering, rules, subjects, wordings
from jobsite.notifications.events import LANGUAGES, Event, template_event
from jobsite.notifications.models import Delivery, Group, Rule, Template, Translation
from jobsite.notifications.models.delivery import Status
from jobsite.notifications.rendering import Rendered, Wording
from jobsite.notifications.rules import Wanted
from jobsite.tenants import audit
from jobsite.tenants.models import CODE_PATTERN
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason
from jobsite.values import storable

MAX_NAME = 200
MAX_READ = 1_000


# ---- Groups -------------------------------------------------------------------------------------------------------


def find_group(principal: Principal, code: str) -> Group:
    """The group of this code in the principal's tenant; NotFound names it."""
    rows = Group.objects.filter(tenant=principal.tenant, deleted_at__isnull=True)
    found = rows.filter(code=code).first() if CODE_PATTERN.fullmatch(code) else None
    if found is None:
        raise NotFound(f"no notification group {storable.mended(code)[:100]} in tenant {principal.tenant.code}")
    return found


def create_group(principal: Principal, code: str, *, name: str = "") -> Group:
    """A new group without rules; Forbidden without jobs:admin, Invalid (invalid_group), Conflict (code_taken)."""
    principal.require("jobs:admin")
    if not CODE_PATTERN.fullmatch(code):
        raise Invalid("code: expected up to 100 lower-case letters, digits, and _ . - inside", code="invalid_group")
    if len(name) > MAX_NAME or not storable.is_storable(name):
        raise Invalid(f"name: expected at most {MAX_NAME} characters of valid text", code="invalid_group")
    with transaction.atomic(), connection.cursor() as cursor:
        row = Group(tenant=principal.tenant, code=code, name=name)
        _save_new(row, "group_code_once_per_tenant", f"there is a notification group {code} already")
        audit.record(cursor, principal, "group created", "group", code, "", None, {"name": name})
    return row


def delete_group(principal: Principal, code: str, *, reason: str = "") -> None:
    """Delete a group with its rules; Conflict (group_in_use) names a program that refers to it."""
    principal.require("jobs:admin")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        Group.objects.select_for_update().get(pk=find_group(principal, code).pk)
        row = find_group(principal, code)
        using = row.programs.filter(deleted_at__isnull=True).order_by("code").first()
        if using is not None:
            raise Conflict(f"program {using.code} tells this group; give it another first", code="group_in_use")
        Group.objects.filter(pk=row.pk).update(deleted_at=Now())
        Rule.objects.filter(group=row, deleted_at__isnull=True).update(deleted_at=Now())
        audit.record(cursor, principal, "group deleted", "group", code, reason, {"name": row.name}, None)


def _save_new(row: Group | Template, constraint: str, taken: str) -> None:
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        if constraint not in str(error):
            raise
        raise Conflict(taken, code="code_taken") from None


# ---- Rules --------------------------------------------------------------------------------------------------------


def rules_of(principal: Principal, *, group: str = "") -> QuerySet[Rule]:
    """The rules of the tenant, or of this group, in order."""
    principal.require("jobs:read")
    rows = Rule.objects.filter(tenant=principal.tenant, deleted_at__isnull=True).select_related("group", "template")
    rows = rows.prefetch_related("to_users").order_by("group__code", "pk")
    return rows.filter(group=find_group(principal, group)) if group else rows


def find_rule(principal: Principal, key: int) -> Rule:
    """The rule of this number in the principal's tenant; NotFound names it."""
    found = rules_of(principal).filter(pk=key).first()
    if found is None:
        raise NotFound(f"no rule {key} in tenant {principal.tenant.code}")
    return found


def create_rule(principal: Principal, group: str, wanted: Wanted) -> tuple[Rule, str]:
    """A new rule of a group; with it the secret of a webhook, which is shown this once, or an empty text.

    Raises Forbidden without jobs:admin, NotFound for the group, Invalid (invalid_rule) with an error for each field.
    """
    principal.require("jobs:admin")
    checked = rules.check(principal.tenant, wanted)
    secret = rules.new_secret() if wanted.channel == "webhook" else ""
    sealed = rules.with_secret(None, secret) if secret else None
    with transaction.atomic(), connection.cursor() as cursor:
        # Held until the commit, so that nobody deletes it meanwhile.
        Group.objects.select_for_update(no_key=True).get(pk=find_group(principal, group).pk)
        owner = find_group(principal, group)
        row = Rule.objects.create(tenant=principal.tenant, group=owner, secret=sealed, **checked.columns)
        row.to_users.set(checked.users)
        audit.record(cursor, principal, "rule created", "rule", str(row.pk), "", None, told(row))
    return row, secret


def change_rule(principal: Principal, key: int, changes: Mapping[str, Any]) -> tuple[Rule, str]:
    """Change these fields of Wanted; what becomes a webhook gets a secret, as with `create_rule`.

    Users who have left the tenant are left out from then on.
    """
    principal.require("jobs:admin")
    with transaction.atomic(), connection.cursor() as cursor:
        row = _locked_rule(principal, key)
        before = told(row)
        kept = wanted_of(row)
        members = set(row.to_users.filter(memberships__tenant=principal.tenant).values_list("username", flat=True))
        kept = replace(kept, to_users=tuple(name for name in kept.to_users if name in members))
        checked = rules.check(principal.tenant, replace(kept, **changes))
        secret = ""
        for name, value in checked.columns.items():
            setattr(row, name, value)
        if row.channel != "webhook":
            row.secret = None
        elif row.secret is None:
            secret = rules.new_secret()
            row.secret = rules.with_secret(None, secret)
        row.updated_at = Now()
        row.save()
        row.to_users.set(checked.users)
        audit.record(cursor, principal, "rule changed", "rule", str(key), "", before, told(row))
    row.refresh_from_db()
    return row, secret


def rotate_secret(principal: Principal, key: int) -> str:
    """A new secret for a webhook's rule, shown this once; the one before signs beside it until the next."""
    principal.require("jobs:admin")
    with transaction.atomic(), connection.cursor() as cursor:
        row = _locked_rule(principal, key)
        if row.channel != "webhook":
            raise Conflict(f"rule {key} sends by {row.channel}, which is not signed", code="not_signed")
        secret = rules.new_secret()
        row.secret = rules.with_secret(row.secret, secret)
        row.save(update_fields=["secret"])
        audit.record(cursor, principal, "rule's secret changed", "rule", str(key), "", None, None)
    return secret


def delete_rule(principal: Principal, key: int, *, reason: str = "") -> None:
    """Delete a rule; what waits to be sent by it is not sent any more."""
    principal.require("jobs:admin")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        row = _locked_rule(principal, key)
        Rule.objects.filter(pk=row.pk).update(deleted_at=Now())
        audit.record(cursor, principal, "rule deleted", "rule", str(key), reason, told(row), None)


def _locked_rule(principal: Principal, key: int) -> Rule:
    row = find_rule(principal, key)
    Rule.objects.select_for_update(no_key=True).get(pk=row.pk)
    return find_rule(principal, key)


def wanted_of(row: Rule) -> Wanted:
    """A rule as it would be asked for."""
    return Wanted(
        event=row.event,
        channel=row.channel,
        template=row.template.code if row.template else "",
        to_submitter=row.to_submitter,
        to_roles=tuple(row.to_roles),
        to_users=tuple(sorted(user.get_username() for user in row.to_users.all())),
        to_addresses=tuple(row.to_addresses),
        to_url=row.to_url,
        throttle_minutes=row.throttle_minutes,
        in_a_row=row.in_a_row,
        on_recovery=row.on_recovery,
        is_active=row.is_active,
    )


def told(row: Rule) -> dict[str, object]:
    """A rule as the audit and every door tell it; never its secret."""
    return {"group": row.group.code, **asdict(wanted_of(row))}


# ---- Templates ----------------------------------------------------------------------------------------------------


def templates_of(principal: Principal) -> QuerySet[Template]:
    """The templates of the tenant, with what it has written."""
    principal.require("jobs:read")
    rows = Template.objects.filter(tenant=principal.tenant, deleted_at__isnull=True)
    return rows.prefetch_related("translations").order_by("-is_default", "code")


def find_template(principal: Principal, code: str) -> Template:
    """The template of this code in the principal's tenant; NotFound names it."""
    found = templates_of(principal).filter(code=code).first() if CODE_PATTERN.fullmatch(code) else None
    if found is None:
        raise NotFound(f"no template {storable.mended(code)[:100]} in tenant {principal.tenant.code}")
    return found


def create_template(principal: Principal, code: str, event: str) -> Template:
    """A template for rules of this event to name; its words are the event's own until it is given others."""
    principal.require("jobs:admin")
    if not CODE_PATTERN.fullmatch(code):
        raise Invalid("code: expected up to 100 lower-case letters, digits, and _ . - inside", code="invalid_template")
    if event not in list(Event):
        raise Invalid(f"event: expected one of {', '.join(Event)}, got {event!r:.80}", code="invalid_template")
    with transaction.atomic(), connection.cursor() as cursor:
        row = Template(tenant=principal.tenant, code=code, event=event)
        _save_new(row, "template_code_once_per_tenant", f"there is a template {code} already")
        audit.record(cursor, principal, "template created", "template", code, "", None, {"event": event})
    return row


def delete_template(principal: Principal, code: str, *, reason: str = "") -> None:
    """Delete a template of the tenant's own; Conflict for an event's own, and where a rule names it."""
    principal.require("jobs:admin")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        row = find_template(principal, code)
        if row.is_default:
            raise Conflict(f"template {code} is the event's own; restore it instead", code="default_template")
        Template.objects.select_for_update().get(pk=row.pk)
        using = Rule.objects.filter(template=row, deleted_at__isnull=True).order_by("pk").first()
        if using is not None:
            raise Conflict(f"rule {using.pk} uses it; give that another first", code="template_in_use")
        Template.objects.filter(pk=row.pk).update(deleted_at=Now())
        audit.record(cursor, principal, "template deleted", "template", code, reason, {"event": row.event}, None)


def save_words(principal: Principal, code: str, language: str, wanted: Wording) -> None:
    """Take these words for the template in this language; those that it has anyway are none of its own.

    Raises Invalid (broken_template) with part and line.
    """
    principal.require("jobs:admin")
    _check_language(language)
    wanted = Wording(*(part.replace("\r\n", "\n") for part in (wanted.subject, wanted.text, wanted.html)))
    if problems := rendering.problems(wanted):
        errors = [{"pointer": f"/{one.part}", "message": str(one)} for one in problems]
        raise Invalid("; ".join(str(one) for one in problems), code="broken_template", errors=errors)
    for part in ("subject", "text", "html"):
        if not storable.is_storable(getattr(wanted, part)):
            raise Invalid(f"{part}: expected valid text", code="broken_template")
    with transaction.atomic(), connection.cursor() as cursor:
        template = find_template(principal, code)
        if wanted == wordings.without_own(template, language):
            _restore(cursor, principal, template, language)
            return
        before = wordings.of_tenant(template).get(language)
        Translation.objects.update_or_create(
            template=template,
            language=language,
            defaults={"tenant": principal.tenant, "updated_at": Now(), **asdict(wanted)},
        )
        _audit_words(cursor, principal, template, language, before, wanted, "template changed")


def restore_words(principal: Principal, code: str, language: str) -> bool:
    """Go back to the event's own words in this language; whether there were others."""
    principal.require("jobs:admin")
    _check_language(language)
    with transaction.atomic(), connection.cursor() as cursor:
        return _restore(cursor, principal, find_template(principal, code), language)


def _restore(cursor: Any, principal: Principal, template: Template, language: str) -> bool:
    before = wordings.of_tenant(template).get(language)
    if before is not None:
        template.translations.filter(language=language).delete()
        _audit_words(cursor, principal, template, language, before, None, "template restored")
    return before is not None


def _audit_words(
    cursor: Any,
    principal: Principal,
    template: Template,
    language: str,
    before: Wording | None,
    after: Wording | None,
    action: str,
) -> None:
    both = [None if one is None else {"language": language, **asdict(one)} for one in (before, after)]
    audit.record(cursor, principal, action, "template", template.code, "", both[0], both[1])


def _check_language(language: str) -> None:
    if language not in LANGUAGES:
        raise Invalid(f"language: expected {', '.join(LANGUAGES[:-1])} or {LANGUAGES[-1]}, got {language!r:.80}")


def preview(
    principal: Principal, code: str, language: str, *, words: Wording | None = None, job: int | None = None
) -> Rendered:
    """What a template makes of a job of the tenant, or of sample facts; an unknown name is an error here.

    `words` are tried instead of those in use. Raises NotFound for the job, Invalid (broken_template).
    """
    principal.require("jobs:read")
    _check_language(language)
    template = find_template(principal, code)
    event = Event(template.event)
    facts = defaults.sample(event, language)
    if job is not None:
        if facts["job"] is None:
            raise Invalid(f"template {code} tells of no job; try it with the sample", code="no_job_in_it")
        real = subjects.facts(
            tenant=principal.tenant, job_number=job, program_id=None, schedule_id=None, language=language, details={}
        )
        if real is None:
            raise NotFound(f"no job {job} in tenant {principal.tenant.code}")
        facts |= real
    facts["tenant"] = {"code": principal.tenant.code, "name": principal.tenant.name}
    try:
        return rendering.render(words or wordings.in_use(template, language), facts, language=language, strict=True)
    except rendering.RenderingFailed as error:
        raise Invalid(str(error), code="broken_template") from error


# ---- Deliveries ---------------------------------------------------------------------------------------------------


def deliveries_of(principal: Principal, *, job: int | None = None) -> QuerySet[Delivery]:
    """The deliveries of the tenant, or of one job, the newest first; of a listing only so many are to be taken."""
    principal.require("jobs:read")
    rows = Delivery.objects.filter(tenant=principal.tenant).select_related("rule__group", "user").order_by("-pk")
    return rows if job is None else rows.filter(job_number=job)


def find_delivery(principal: Principal, key: int) -> Delivery:
    """The delivery of this number in the principal's tenant; NotFound names it."""
    found = deliveries_of(principal).filter(pk=key).first()
    if found is None:
        raise NotFound(f"no delivery {key} in tenant {principal.tenant.code}")
    return found


def send_again(principal: Principal, key: int, *, reason: str = "") -> None:
    """Send a delivery that has ended once more, as a new message: receivers take it for none that they have had.

    Raises Forbidden without jobs:write, Conflict (still_pending) for one that waits to be sent.
    """
    principal.require("jobs:write")
    check_reason(reason)
    with transaction.atomic(), connection.cursor() as cursor:
        row = find_delivery(principal, key)
        cursor.execute(
            """
            UPDATE jobsite_delivery
            SET status = 'PENDING', finished_at = NULL, attempts = 1, identity = gen_random_uuid(), reason = '',
                due_at = statement_timestamp(), hinted_at = clock_timestamp(), read_at = NULL
            WHERE id = %s AND status <> 'PENDING'
            """,
            [key],
        )
        if not cursor.rowcount:
            raise Conflict(f"delivery {key} waits to be sent already", code="still_pending")
        before: dict[str, object] = {"status": row.status, "reason": row.reason}
        audit.record(cursor, principal, "delivery sent again", "delivery", str(key), reason, before, None)
    transaction.on_commit(lambda: hints.give([key]), robust=True)


TEST = f"""
WITH happened AS (
    SELECT r.tenant_id, r.group_id, %(event)s::text AS event, ARRAY[r.event::text] AS names, NULL::text AS recovery,
           NULL::text[] AS recovered, concat('test ', gen_random_uuid()) AS key, 'test' AS source,
           NULL::bigint AS job_number, NULL::bigint AS program_id, NULL::bigint AS schedule_id, NULL::uuid AS context,
           %(user)s::bigint AS user_id, false AS notify, false AS alerts, r.in_a_row::integer AS in_a_row,
           '{{"test": true}}'::jsonb AS details, r.id AS only_rule, true AS hinted
    FROM jobsite_rule r WHERE r.id = %(rule)s
){outbox.recorded("happened")}
SELECT id FROM deliveries ORDER BY id
"""


def test_rule(principal: Principal, key: int) -> list[Delivery]:
    """Send what a rule would send, of sample facts, to all its recipients; whoever asks is the submitter.

    Raises Forbidden without jobs:admin, Conflict: rule_off, or nobody_to_tell where it reaches nobody, such as an empty
    role, or the submitter where whoever asks is no user.
    """
    principal.require("jobs:admin")
    row = find_rule(principal, key)
    if not row.is_active:
        raise Conflict(f"rule {key} is switched off; switch it on first", code="rule_off")
    event = template_event(row.event)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(TEST, {"rule": row.pk, "event": event, "user": principal.user_id})
        keys = [one for (one,) in cursor.fetchall()]
        if not keys:
            raise Conflict(f"rule {key} reaches nobody now", code="nobody_to_tell")
        audit.record(cursor, principal, "rule tested", "rule", str(key), "", None, {"deliveries": keys})
    transaction.on_commit(lambda: hints.give(keys), robust=True)
    return list(deliveries_of(principal).filter(pk__in=keys))


# ---- The inbox ----------------------------------------------------------------------------------------------------


def inbox_of(principal: Principal) -> QuerySet[Delivery]:
    """What the principal was told in his inbox, the newest first; nothing where he is no user."""
    rows = Delivery.objects.filter(tenant=principal.tenant, channel="inbox", status=Status.SENT).order_by("-pk")
    return rows.filter(user_id=principal.user_id) if principal.user_id else rows.none()


def unread(principal: Principal) -> int:
    """How many of them he has not read; of very many, MAX_READ."""
    return inbox_of(principal).filter(read_at__isnull=True)[:MAX_READ].count()


def mark_read(principal: Principal, keys: Sequence[int] | None = None) -> int:
    """Mark these messages of his inbox read, or all; how many were not."""
    rows = inbox_of(principal).filter(read_at__isnull=True)
    return rows.filter(pk__in=keys).update(read_at=Now()) if keys is not None else rows.update(read_at=Now())
