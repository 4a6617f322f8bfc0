"""The forms of templates: a new one, and the words of a language."""

import re
from typing import Any

from django import forms

from jobsite.admin import display
from jobsite.admin.keyset import MAX_KEY, number_in
from jobsite.errors import NotFound, Refusal
from jobsite.notifications.models import Template
from jobsite.notifications.rendering import PARTS, Wording

MIN_ROWS, MAX_ROWS = 6, 20
_PART = re.compile(rf"({'|'.join(PARTS)})(?:, line \d+)?: ")


class NewTemplateForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new template: its words come later."""

    class Meta:
        help_texts = {
            "code": "Rules name it by this.",
            "event": "It begins with the words of this event, and only rules for this event may name it.",
        }

    def clean(self) -> dict[str, Any]:
        """Refuse a code that is taken; the domain refuses it too, where two are added at the same moment."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        code, tenant = values.get("code"), values.get("tenant")
        if code and tenant and Template.objects.filter(tenant=tenant, code=code, deleted_at__isnull=True).exists():
            self.add_error("code", f"There is a template {code} already.")
        return values


def _source() -> forms.Textarea:
    return forms.Textarea(attrs={"cols": 80, "class": "jobsite-json", "spellcheck": "false"})


class WordsForm(forms.Form):
    """The words of one language, and the job that they are previewed with."""

    subject = forms.CharField(
        required=False, strip=False, widget=forms.TextInput(attrs={"size": 80, "class": "jobsite-source"})
    )
    text = forms.CharField(required=False, strip=False, widget=_source())
    html = forms.CharField(
        required=False, strip=False, label="HTML", widget=_source(), help_text="Empty: made from the text."
    )
    job = forms.CharField(
        required=False,
        max_length=20,
        widget=forms.TextInput(attrs={"size": 12, "placeholder": "such as 4711"}),
        label="Job",
        help_text="Empty: sample data.",
    )

    def __init__(self, *args: Any, may_change: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for part in PARTS:
            self.fields[part].disabled = not may_change
            if part != "subject":
                lines = str(self.initial.get(part, "")).count("\n")
                self.fields[part].widget.attrs["rows"] = min(max(lines + 2, MIN_ROWS), MAX_ROWS)

    def clean_job(self) -> int | None:
        """A number, with or without its #."""
        given = self.cleaned_data["job"].strip()
        number = number_in(given)
        if given and (number is None or number > MAX_KEY):
            raise forms.ValidationError("Expected a job's number, such as 4711.")
        return number

    def words(self) -> Wording:
        """With line ends as they are stored; a browser sends others."""
        return Wording(**{part: self.cleaned_data[part].replace("\r\n", "\n") for part in PARTS})

    def refuse(self, refusal: Refusal) -> None:
        """Show each error beside its part."""
        listed = refusal.details.get("errors")
        said = [str(one["message"]) for one in listed] if isinstance(listed, list) else [str(refusal)]
        for one in said:
            match = _PART.match(one)
            name = "job" if isinstance(refusal, NotFound) else match[1] if match else None
            self.add_error(name, display.sentence(one))
