"""The pages of worker managers and workers, for superusers."""

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.db.models import Case, Count, Model, Q, QuerySet, Value, When
from django.http import HttpRequest
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.admin.access import PLATFORM
from jobsite.admin.base import PlatformAdmin
from jobsite.admin.filters import choice_filter
from jobsite.programs.models import Worker, WorkerManager

LIVING = (Worker.Status.ACTIVE, Worker.Status.STOPPING)


@admin.register(WorkerManager)
class WorkerManagerAdmin(PlatformAdmin[WorkerManager]):
    """Pools of workers; the limit holds for all workers of a pool together."""

    add_scope = change_scope = PLATFORM
    empty_hint = display.words("No worker managers yet: add one, or run `jobsite migrate` for the default one.")
    list_display = ("name", "limit", "living", display.moments("created_at", "created (UTC)"))
    fields = ("name", "max_running")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerManager]:
        """With the number of living workers."""
        rows = super().get_queryset(request)
        return rows.annotate(living_workers=Count("workers", filter=Q(workers__status__in=LIVING)))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Iterable[str]:  # type: ignore[override]
        """The name, once workers may have been started under it."""
        return ("name",) if obj else ()

    def audit_target(self, obj: Model) -> str:
        """The name."""
        return str(obj)

    @admin.display(description="jobs at once")
    def limit(self, manager: WorkerManager) -> str:
        """The limit, where there is one."""
        return "no limit" if manager.max_running is None else str(manager.max_running)

    @admin.display(description="living workers")
    def living(self, manager: Any) -> int:
        """Active and stopping ones."""
        count: int = manager.living_workers
        return count


@admin.register(Worker)
class WorkerAdmin(PlatformAdmin[Worker]):
    """Worker processes, the living first. Information only: nothing depends on it being right."""

    empty_hint = display.words("No workers yet: start one with `jobsite worker`.")
    list_display = ("name", "status_shown", "manager", "queues_shown", "pool", "children", "host", "seen", "started")
    list_filter = (choice_filter("status", "status", Worker.Status.choices),)
    list_select_related = ("manager",)
    search_fields = ("name",)
    search_help_text = "A worker's name, or a part of it."
    ordering = (Case(When(status__in=LIVING, then=Value(0)), default=Value(1)).asc(), "name", "-id")
    fields = (
        "name",
        "status_shown",
        "manager",
        "queues_shown",
        "pool",
        "children",
        "host",
        "pid",
        "incarnation",
        "started",
        "seen",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """All of them."""
        return self.fields

    @admin.display(description="status", ordering="status")
    def status_shown(self, worker: Worker) -> SafeString:
        """A badge."""
        return display.badge(worker.status)

    @admin.display(description="queues")
    def queues_shown(self, worker: Worker) -> str:
        """Their names."""
        return ", ".join(worker.queues)

    @admin.display(description="last seen (UTC)", ordering="last_seen_at")
    def seen(self, worker: Worker) -> str:
        """The last heartbeat that was recorded."""
        return display.moment(worker.last_seen_at)

    @admin.display(description="started (UTC)", ordering="started_at")
    def started(self, worker: Worker) -> str:
        """When it registered."""
        return display.moment(worker.started_at)
