"""The forms of schedules: a schedule, and the range of a backfill."""

from functools import partial
from typing import Any, ClassVar

from django import forms
from django.forms.fields import InvalidJSONInput

from jobsite.admin import display
from jobsite.admin.reason_form import ReasonForm
from jobsite.errors import Invalid, Refusal
from jobsite.programs.models import CRON_FIELDS
from jobsite.programs.schedules import Wanted, check
from jobsite.tenants.principals import Principal
from jobsite.values import masking
from jobsite.values.masking import MASK

WHEN = (*CRON_FIELDS, "interval_minutes", "time_zone", "jitter_minutes", "starts_at", "ends_at")
WHAT = ("parameters", "priority", "overlap", "missed", "missed_cap", "description")


class BoundedJSONField(forms.JSONField):
    """Django's field breaks on a number of thousands of digits, or on thousands of brackets; this one refuses them."""

    def to_python(self, value: Any) -> Any:
        """The value, or what is wrong with it."""
        try:
            return super().to_python(value)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What is shown when the form comes back."""
        try:
            return super().bound_data(data, initial)
        except (ValueError, RecursionError):
            return InvalidJSONInput(data)

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether it was edited; unreadable text counts as edited."""
        try:
            return super().has_changed(initial, data)
        except (ValueError, RecursionError):
            return True


class ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]
    """A schedule's fields; the domain says which one is wrong, and why, so that every door says the same."""

    class Meta:
        widgets = {
            **{name: forms.TextInput(attrs={"size": 12}) for name in CRON_FIELDS},
            "description": forms.Textarea(attrs={"rows": 2}),
            "parameters": forms.Textarea(attrs={"rows": 6, "class": "jobsite-json"}),
        }
        help_texts = {
            "interval_minutes": "Instead of a cron line: the minutes from one time to the next, 1 to 10,080 (a week).",
            "time_zone": "Such as Europe/Berlin. Empty: the tenant's.",
            "jitter_minutes": "Fires up to this many minutes later, by a delay that stays the same; 0 to 59.",
            "starts_at": "In UTC. Empty: at once.",
            "ends_at": "In UTC. Empty: never.",
            "parameters": "A JSON object by the program's schema. Secrets show as ••••; they stay if you edit nothing.",
            "overlap": "SKIP: a time is skipped while the last job of this schedule is open.",
            "missed": "Which of the missed times run later: none, the newest, or all up to the cap.",
        }

    principal_in: ClassVar[partial[Principal]]
    """Who sends the form: set by the page, which makes a class of its own for each request."""

    time_zone = forms.CharField(required=False, max_length=64, help_text=Meta.help_texts["time_zone"])
    parameters = BoundedJSONField(
        required=False, widget=Meta.widgets["parameters"], help_text=Meta.help_texts["parameters"]
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["parameters"] = {}
        if self.instance.pk:
            self.initial["parameters"] = masking.masked(self.instance.parameters)
            self.initial["program"] = self.instance.program_id

    def _post_clean(self) -> None:
        """Do nothing: the domain checks and writes the fields, and the row on the page stays as it is."""

    def clean(self) -> dict[str, Any]:
        """All fields together, as the domain sees them."""
        cleaned: dict[str, Any] = super().clean() or {}
        tenant = cleaned.get("tenant") or (self.instance.tenant if self.instance.pk else None)
        if self.errors or tenant is None:
            return cleaned
        try:
            check(self.principal_in(tenant), self.wanted(), kept=self.instance if self.instance.pk else None)
        except Invalid as error:
            self._show(error)
        except Refusal as error:
            self.add_error(None, display.sentence(error))
        return cleaned

    def _show(self, error: Invalid) -> None:
        wrong = error.details.get("errors")
        for one in wrong if isinstance(wrong, list) else [{"pointer": "", "message": str(error)}]:
            name, _, inner = one["pointer"][1:].partition("/")
            message = f"/{inner} {one['message']}" if inner else one["message"]
            self.add_error(name if name in self.fields else None, display.sentence(message))

    def wanted(self) -> Wanted:
        """What the form asks for."""
        given = {name: self.cleaned_data[name] for name in (*WHEN, *WHAT)}
        given["parameters"] = self._parameters()
        return Wanted(program=self.cleaned_data["program"].code, **given)

    def _parameters(self) -> dict[str, Any]:
        given = self.cleaned_data["parameters"]
        if self.instance.pk and given == self.initial["parameters"]:
            return dict(self.instance.parameters)
        return {} if given is None else given

    def clean_parameters(self) -> Any:
        """An object; if it was edited, without the marks that stand for secrets."""
        given = self.cleaned_data["parameters"]
        if given is not None and not isinstance(given, dict):
            raise forms.ValidationError('Give a JSON object, such as {"cohort": "2026"}.')
        if given is not None and given != self.initial.get("parameters") and MASK in str(given):
            raise forms.ValidationError("Secrets are kept only if nothing is edited: give them again.")
        return given


class BackfillForm(ReasonForm):
    """A range of time that has passed."""

    field_order = ("begin", "end", "reason")
    begin = forms.DateTimeField(label="From (UTC)", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    end = forms.DateTimeField(label="To (UTC)", widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
