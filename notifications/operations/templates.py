"""Templates, the words of notifications: found, made, edited, tried out and deleted by people."""

from dataclasses import asdict
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from jobsite.errors import Conflict, Invalid, NotFound
from jobsite.notifications import defaults, rendering, subjects, wordings
from jobsite.notifications.events import LANGUAGES, Event
from jobsite.notifications.models import Rule, Template, Translation
from jobsite.notifications.operations.codes import check_code, save_new
from jobsite.notifications.rendering import Rendered, Wording
from jobsite.tenants import audit
from jobsite.tenants.models import CODE_PATTERN
from jobsite.tenants.principals import Principal
from jobsite.tenants.reasons import check_reason
from jobsite.values import storable


def templates_of(principal: Principal) -> QuerySet[Template]:
    """The templates of the tenant, with the words that it has written."""
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
    check_code(code, "invalid_template")
    if event not in list(Event):
        raise Invalid(f"event: expected one of {', '.join(Event)}, got {event!r:.80}", code="invalid_template")
    with transaction.atomic(), connection.cursor() as cursor:
        row = Template(tenant=principal.tenant, code=code, event=event)
        save_new(row, "template_code_once_per_tenant", f"there is a template {code} already")
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
            raise Conflict(f"rule {using.pk} uses it; give the rule another template first", code="template_in_use")
        Template.objects.filter(pk=row.pk).update(deleted_at=Now())
        audit.record(cursor, principal, "template deleted", "template", code, reason, {"event": row.event}, None)


def save_words(principal: Principal, code: str, language: str, wanted: Wording) -> None:
    """Save these words for the template in this language; words that equal its default are not stored.

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
    """Go back to the event's own words in this language; True where there were others."""
    principal.require("jobs:admin")
    _check_language(language)
    with transaction.atomic(), connection.cursor() as cursor:
        return _restore(cursor, principal, find_template(principal, code), language)


def preview(
    principal: Principal, code: str, language: str, *, words: Wording | None = None, job: int | None = None
) -> Rendered:
    """Render a template with a job of the tenant, or with sample facts; an unknown name is an error here.

    `words` are used instead of the current ones. Raises NotFound for the job, Invalid (broken_template).
    """
    principal.require("jobs:read")
    _check_language(language)
    template = find_template(principal, code)
    event = Event(template.event)
    facts = defaults.sample(event, language)
    if job is not None:
        if facts["job"] is None:
            raise Invalid(f"template {code} is about no job; try it with the sample", code="no_job_in_it")
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
