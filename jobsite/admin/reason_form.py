"""The form that operators fill in before an act: why, and for some acts until when."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, ClassVar

from django import forms

from jobsite.admin import display
from jobsite.errors import Invalid
from jobsite.tenants import reasons

SHOWN = "Shown to everybody concerned, and kept in the audit."
KEPT = "Kept in the audit."


class ReasonForm(forms.Form):
    """The form that all acts share. Its texts are those of a pause; other kinds of act set their own."""

    reason_help: ClassVar[str] = SHOWN
    until_label: ClassVar[str] = "Until (UTC)"
    until_help: ClassVar[str] = "Empty: until somebody resumes it."
    askable: ClassVar[tuple[str, ...]] = ("reason", "until")
    """The fields that are there only for acts that ask for them."""

    reason = forms.CharField(
        required=False, max_length=reasons.MAX_REASON, widget=forms.Textarea(attrs={"rows": 2, "cols": 60})
    )
    until = forms.DateTimeField(required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        asks: Collection[str] = ("reason",),
        reason_help: str = "",
    ) -> None:
        """`asks` names the askable fields that the form keeps."""
        super().__init__(data)
        self.fields["reason"].help_text = reason_help or self.reason_help
        self.fields["until"].label = self.until_label
        self.fields["until"].help_text = self.until_help
        for name in set(self.askable).difference(asks):
            del self.fields[name]

    def clean_until(self) -> datetime | None:
        """A moment in the future."""
        try:
            return reasons.end_of(self.cleaned_data["until"])
        except Invalid as refusal:
            raise forms.ValidationError(display.sentence(refusal)) from refusal
