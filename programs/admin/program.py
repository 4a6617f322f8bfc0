"""The pages of programs: all can be read, and what is harmless can be changed; definitions come from program files."""

import re
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import ADMIN
from jobsite.admin.filters import TenantFilter, choice_filter
from jobsite.admin.row_acts import ActedAdmin, RowAct
from jobsite.programs.models import Action, Program
from jobsite.programs.operations import pausing
from jobsite.values.durations import format_duration
from jobsite.values.masking import MASK

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
MAX_NAME = 200
HARMLESS = ("names", "description", "priority")


class ProgramForm(forms.ModelForm):  # type: ignore[type-arg]
    """The fields that no run depends on."""

    class Meta:
        widgets = {"names": forms.Textarea(attrs={"rows": 3}), "description": forms.Textarea(attrs={"rows": 3})}

    priority = forms.IntegerField(
        min_value=-100, max_value=100, help_text="From -100 to 100, higher first. For jobs submitted from now on."
    )

    def clean_names(self) -> dict[str, str]:
        """Text by language, at least one."""
        names = self.cleaned_data["names"]
        if not isinstance(names, dict) or not names:
            raise forms.ValidationError('Give names by language, such as {"en": "Recalculate scores"}.')
        for language, name in names.items():
            if not LANGUAGE.fullmatch(language):
                raise forms.ValidationError(f'"{language}" is not a language such as "en" or "pt-BR".')
            if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
                raise forms.ValidationError(f"The name in {language} must be text of 1 to {MAX_NAME} characters.")
        return names


class ActionInline(admin.TabularInline):  # type: ignore[type-arg]
    """The actions of a program, read-only."""

    model = Action
    extra = 0
    max_num = 0
    can_delete = False
    fields = readonly_fields = ("place", "kind", "name", "definition", "limit")
    verbose_name_plural = "actions, in order"

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """As the program itself."""
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never: actions come from program files."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    @admin.display(description="place")
    def place(self, action: Action) -> str:
        """Its position; the callback has none among the others."""
        return "after the children" if action.is_callback else str(action.position)

    @admin.display(description="definition")
    def definition(self, action: Action) -> SafeString:
        """Target, command and the like; a webhook's secret stays hidden."""
        shown = {key: MASK if key == "secret" else value for key, value in dict(action.configuration).items()}
        return display.code_block(shown)

    @admin.display(description="time limit")
    def limit(self, action: Action) -> str:
        """Its own, or the program's."""
        return format_duration(action.timeout_seconds) if action.timeout_seconds else "the program's"


ACTS = (
    RowAct(
        "pause",
        "Pause",
        "Its jobs wait, and so do those that are submitted from now on. Running jobs go on to their end, and no "
        "waiting job is lost.",
        run=pausing.pause_program,
        said="is paused; its jobs wait",
        applies=lambda program: program.status == "ACTIVE",
        asks=("reason", "until"),
    ),
    RowAct(
        "resume",
        "Resume",
        "Waiting jobs start as soon as they are due and there is room.",
        run=pausing.resume_program,
        said="goes on",
        applies=lambda program: program.status == "PAUSED",
    ),
    RowAct(
        "terminate",
        "Terminate",
        "Its schedules submit no more jobs, and their waiting jobs are canceled; this cannot be undone. Running jobs "
        "go on to their end, and jobs that people submit still run. A pause ends.",
        run=pausing.terminate_program,
        said="is terminated; the waiting jobs of its schedules are canceled",
        applies=lambda program: program.status != "TERMINATED",
    ),
    RowAct(
        "reactivate",
        "Reactivate",
        "Its schedules submit jobs again, and its failures in a row are counted from 0. Canceled jobs stay canceled.",
        run=pausing.reactivate_program,
        said="is active again",
        applies=lambda program: program.status == "TERMINATED",
    ),
)


@admin.register(Program)
class ProgramAdmin(ActedAdmin[Program]):
    """Programs of the tenants that the user is a member of."""

    row_acts = ACTS

    change_scope = ADMIN
    names_tenant = True
    page_note = display.words(
        "Programs are defined in program files: change the file and run `jobsite programs load FILE`. "
        "Names, description and priority can be changed here, until the file is loaded again."
    )
    empty_hint = display.words("No programs yet: write a program file and load it with `jobsite programs load FILE`.")
    form = ProgramForm
    inlines = (ActionInline,)
    list_display = ("code", "name", "status_shown", "queue", "priority", "limit", "attempts", "version", "jobs")
    list_filter = (choice_filter("status", "status", Program.Status.choices), TenantFilter)
    list_select_related = ("queue", "tenant")
    search_fields = ("code",)
    search_help_text = "A program's code, or a part of it."
    ordering = ("code", "id")
    fieldsets = (
        (None, {"fields": ("tenant", "code", *HARMLESS)}),
        ("State", {"fields": ("status_shown", "pause", "consecutive_failures", "max_consecutive_failures", "jobs")}),
        (
            "Running",
            {
                "fields": (
                    "queue_name",
                    "limit",
                    "retries",
                    "losses",
                    "overlap",
                    "grace",
                    "children",
                    "group",
                    "version",
                    "updated_at",
                )
            },
        ),
        ("Parameters (JSON Schema)", {"fields": ("schema",)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Program]:
        """Those that are not deleted."""
        return super().get_queryset(request).filter(deleted_at__isnull=True)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """All but the harmless ones."""
        shown = flatten_fieldsets(self.fieldsets)
        return [name for name in shown if name not in HARMLESS]

    def touched_fields(self, obj: Program) -> Iterable[str]:
        """When it was changed."""
        obj.updated_at = Now()
        return ("updated_at",)

    def audit_target(self, obj: Model) -> str:
        """The code, as registration calls it."""
        return str(obj)

    @admin.display(description="name")
    def name(self, program: Program) -> str:
        """In the tenant's language."""
        return program.name_in(program.tenant.language)

    @admin.display(description="status")
    def status_shown(self, program: Program) -> SafeString:
        """A badge."""
        return display.badge(program.status)

    @admin.display(description="paused")
    def pause(self, program: Program) -> str | SafeString:
        """Since when, by whom, why, until when."""
        return display.pause(program)

    @admin.display(description="queue")
    def queue_name(self, program: Program) -> str:
        """Its name, without a link: the queue's own page is for superusers."""
        return program.queue.name

    @admin.display(description="time limit")
    def limit(self, program: Program) -> str:
        """Of one run."""
        return format_duration(program.timeout_seconds)

    @admin.display(description="attempts")
    def attempts(self, program: Program) -> int:
        """The most that there may be."""
        return program.max_attempts

    @admin.display(description="retries")
    def retries(self, program: Program) -> str:
        """The retry policy in words."""
        policy = program.retry_policy
        if policy.max_attempts == 1:
            return "one attempt, no retries"
        words = (
            f"{policy.max_attempts} attempts, {format_duration(policy.initial_interval)} apart at first, "
            f"{policy.coefficient:g} times longer each time, at most {format_duration(policy.maximum_interval)}"
        )
        return words + (", time-outs too" if program.retry_on_timeout else "")

    @admin.display(description="lost workers")
    def losses(self, program: Program) -> str:
        """What becomes of a job whose worker is lost."""
        if program.on_worker_lost == Program.OnWorkerLost.FAIL:
            return "the job fails"
        return f"the job runs again, at most {program.max_worker_losses} times"

    @admin.display(description="overlap")
    def overlap(self, program: Program) -> str:
        """The policy and its keys."""
        keys = ", ".join(program.overlap_keys)
        return f"{program.overlap_policy} by {keys}" if keys else program.overlap_policy

    @admin.display(description="grace on cancel")
    def grace(self, program: Program) -> str:
        """Between being asked to stop and being stopped."""
        return format_duration(program.cancel_grace_seconds)

    @admin.display(description="children")
    def children(self, program: Program) -> str:
        """What a failed child does to its parent, and a failed parent to its children."""
        words = {
            "WARN": "one that does not complete leaves a warning",
            "FAIL": "one that does not complete fails the job",
            "IGNORE": "it does not matter how they end",
        }[program.on_child_failure]
        return words + ("; a failed job cancels those that are open" if program.cancel_children_on_failure else "")

    @admin.display(description="notification group")
    def group(self, program: Program) -> str | SafeString:
        """The group whose rules say who is notified of its jobs."""
        if program.notification_group is None:
            return "none: only those who submit a job with notify are notified"
        url = reverse("admin:jobsite_notifications_group_change", args=[program.notification_group_id])
        return format_html('<a href="{}">{}</a>', url, program.notification_group.code)

    @admin.display(description="schema")
    def schema(self, program: Program) -> SafeString:
        """The parameters' schema."""
        return display.code_block(program.parameters_schema)

    @admin.display(description="jobs")
    def jobs(self, program: Program) -> SafeString:
        """A link to its jobs."""
        url = reverse("admin:jobsite_programs_job_changelist")
        return format_html('<a href="{}?program={}">Jobs</a>', url, program.pk)
