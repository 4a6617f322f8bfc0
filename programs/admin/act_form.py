"""The form that operators fill in before an act on jobs: a reason, and for some acts an end, a policy, parameters."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django import forms

from jobsite.admin import display
from jobsite.admin.reason_form import ReasonForm
from jobsite.admin.row_acts import Act
from jobsite.programs.admin.acts import Order
from jobsite.programs.models import Job


class ActForm(ReasonForm):
    """The reason; for some acts an end or a policy; for the retry of a single job also its parameters."""

    reason_help = "Kept with the job and in the audit."
    until_label = "Hold until (UTC)"
    until_help = "Empty: until somebody releases it."
    askable = (*ReasonForm.askable, "policy", "parameters")
    field_order = ("parameters", "reason", "until", "policy")

    parameters = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 10, "cols": 60, "class": "jobsite-json", "spellcheck": "false"}),
        help_text="A JSON object. Unchanged, the new job gets exactly what the old one had.",
    )
    policy = forms.ChoiceField(
        required=False,
        label="And then",
        choices=[("", "as the program says"), ("RETRY", "run again"), ("FAIL", "fail")],
    )

    def __init__(self, act: Act, data: Mapping[str, Any] | None = None, *, single: Job | None = None) -> None:
        """`single` is the job, where the act is on one job: for several, the form has no parameters."""
        super().__init__(data, asks=act.asks if single is not None else set(act.asks) - {"parameters"})
        if single is not None and "parameters" in self.fields:
            self._shown = display.pretty(single.parameters)
            self.fields["parameters"].initial = self._shown

    def clean_parameters(self) -> dict[str, Any] | None:
        """The edited parameters; None where they are as they were shown."""
        try:
            given = json.loads(self.cleaned_data["parameters"])
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError(f"This is not JSON: {error}") from error
        if not isinstance(given, dict):
            raise forms.ValidationError("Parameters are a JSON object, in braces.")
        # Compared as text: in Python, True equals 1 and 1 equals 1.0.
        is_unchanged = _canonical(given) == _canonical(json.loads(self._shown))
        return None if is_unchanged else given

    def order(self, tokens: Mapping[int, UUID]) -> Order:
        """What was filled in."""
        given = self.cleaned_data
        return Order(given["reason"], given.get("until"), given.get("policy", ""), given.get("parameters"), tokens)

    def refuse_parameters(self, errors: Sequence[Mapping[str, str]]) -> bool:
        """Show beside the parameters what their schema refuses, and where; True where there is an error."""
        for one in errors:
            self.add_error("parameters", f"{one['pointer'] or 'as a whole'}: {one['message']}")
        return bool(errors)


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True)
