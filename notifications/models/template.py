"""The words: a template for each event, with a translation where a tenant has changed them."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from jobsite.notifications.events import LANGUAGES, Event
from jobsite.tenants.models import CODE, Tenant

EVENTS = [(str(event), str(event)) for event in Event]


class Template(models.Model):
    """The words for an event; the event's own template (`is_default`) is used by every rule that names none.

    The words of the event stand in files. A translation that a tenant adds replaces them for its language; when it is
    deleted, they are used again.
    """

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="notification_templates", db_index=False)
    code = models.CharField(max_length=100, validators=[CODE])
    event = models.CharField(max_length=20, choices=EVENTS)
    is_default = models.BooleanField(db_default=False, default=False, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        db_table = "jobsite_template"
        verbose_name = "notification template"
        ordering: ClassVar = ["code"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "code"], condition=Q(deleted_at__isnull=True), name="template_code_once_per_tenant"
            ),
            models.UniqueConstraint(fields=["tenant", "id"], name="template_tenant_and_id"),
            models.UniqueConstraint(
                fields=["tenant", "event"], condition=Q(is_default=True), name="template_one_default_per_event"
            ),
            models.CheckConstraint(
                condition=Q(is_default=False) | Q(deleted_at__isnull=True), name="template_default_stays"
            ),
            models.CheckConstraint(condition=Q(event__in=list(Event)), name="template_event_known"),
        ]

    def __str__(self) -> str:
        return self.code


class Translation(models.Model):
    """A template's words in one language: Liquid; an empty `html` is made from the text."""

    tenant = models.ForeignKey(Tenant, models.PROTECT, related_name="+", db_index=False)
    template = models.ForeignKey(
        Template, models.CASCADE, related_name="translations", db_constraint=False, db_index=False
    )
    language = models.CharField(max_length=2, choices=[(language, language) for language in LANGUAGES])
    subject = models.TextField()
    text = models.TextField()
    html = models.TextField(blank=True, db_default="", default="")
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        db_table = "jobsite_translation"
        ordering: ClassVar = ["language"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["template", "language"], name="translation_once_per_language"),
            models.CheckConstraint(condition=Q(language__in=LANGUAGES), name="translation_language_known"),
        ]

    def __str__(self) -> str:
        return f"{self.template} in {self.language}"
