"""Which words a delivery uses: a tenant's own for a template, or the event's, and in which language."""

from collections.abc import Iterable

from jobsite.notifications import defaults
from jobsite.notifications.events import LANGUAGES, Event
from jobsite.notifications.models import Template
from jobsite.notifications.rendering import Wording


def of_tenant(template: Template) -> dict[str, Wording]:
    """What the tenant has written for a template, by language."""
    return {one.language: Wording(one.subject, one.text, one.html) for one in template.translations.all()}


def in_use(template: Template, language: str) -> Wording:
    """A template's words in one of LANGUAGES: the tenant's own, else the default ones."""
    return of_tenant(template).get(language) or without_own(template, language)


def without_own(template: Template, language: str) -> Wording:
    """A template's default words: those of jobsite for an event's own template, else those of the event."""
    if template.is_default:
        return defaults.wording(Event(template.event), language)
    return of_event(template.tenant_id, template.event, language)


def of_event(tenant_id: int, event: str, language: str) -> Wording:
    """The words of an event in one of LANGUAGES: as the tenant has changed them, else those of jobsite."""
    default = Template.objects.filter(tenant_id=tenant_id, event=event, is_default=True).first()
    changed = of_tenant(default) if default is not None else {}
    return changed.get(language) or defaults.wording(Event(event), language)


def chosen(tenant_id: int, event: str, template: Template | None, languages: Iterable[str]) -> tuple[str, Wording]:
    """The language and the words: the first of these languages that has words, else English.

    A template is used only for its own event, and until it is deleted. So a recovery uses the words of its own event.
    """
    wanted = tuple(languages)
    if template is not None and template.deleted_at is None and template.event == event:
        own = of_tenant(template)
        language = defaults.choose(wanted, own)
        if language in own:
            return language, own[language]
    language = defaults.choose(wanted, LANGUAGES)
    return language, of_event(tenant_id, event, language)
