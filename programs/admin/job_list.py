"""The list of jobs: its filters, its search, and pages that are read along an index and never counted."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from django.db.models import QuerySet, Subquery, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from jobsite.admin.access import access_of
from jobsite.admin.filters import CHOICES_LIMIT, ChoiceFilter, CodeFilter
from jobsite.admin.keyset import KeysetChangeList, number_in
from jobsite.programs.models import Job, Program, Queue
from jobsite.programs.rules.lifecycle import OPEN, Blocked, Status
from jobsite.tenants.models import Tenant

WINDOW = 100_000
"""A filter without an index searches at most this many of a tenant's newest jobs."""
INDEXED_BY_TENANT = {"OPEN", "PENDING", "QUEUED", "WAITING", "FAILED", "REVIEW", *map(str, Blocked)}
"""Choices of the status filter that the partial indexes on a tenant's open and failed jobs serve."""

Rows = QuerySet[Job]


def programs_of_code(request: HttpRequest, text: str) -> list[int]:
    """The keys of the programs with this code in the tenants that the user sees; at most 100."""
    programs = Program.objects.filter(code=text.strip().removeprefix("program:").strip())
    access = access_of(request)
    if not access.is_platform:
        programs = programs.filter(tenant__in=access.tenants())
    return list(programs.values_list("pk", flat=True)[:CHOICES_LIMIT])


class StatusFilter(ChoiceFilter):
    """By status, by whether the job is open, or by what it waits for."""

    title = "status"
    parameter_name = "status"
    EXTRA: ClassVar = {"OPEN": "any open", "REVIEW": "needs review"} | {
        one: f"pending: {one.lower()}" for one in map(str, Blocked)
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The statuses, and the groups that operators ask for."""
        return [(str(one), str(one)) for one in Status] + list(self.EXTRA.items())

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """The jobs of the chosen status or group."""
        if value == "OPEN":
            return queryset.filter(status__in=sorted(OPEN))
        if value == "REVIEW":
            return queryset.filter(status=Status.FAILED, needs_review=True)
        if value in self.EXTRA:
            return queryset.filter(status=Status.PENDING, blocked=value)
        return queryset.filter(status=value)


class ProgramFilter(CodeFilter):
    """By program."""

    title = "program"
    parameter_name = "program"
    field = "program_id"
    model = Program


def queue_names(request: HttpRequest) -> list[tuple[str, str]]:
    """The choices of the queue filter."""
    names = Queue.objects.values_list("id", "name")[:CHOICES_LIMIT]
    return [(str(key), name) for key, name in names]


class JobChangeList(KeysetChangeList):
    """Each page is read along an index: by a branch for each tenant, or in a window where no index fits a filter."""

    is_windowed = False

    def chosen(self) -> dict[str, str]:
        """The filters that are on."""
        specs = cast("list[ChoiceFilter]", self.filter_specs)
        return {str(spec.parameter_name): value for spec in specs if (value := spec.value()) is not None}

    def page(self, request: HttpRequest, rows: QuerySet[Any], limit: int) -> list[Any]:
        """The first matching jobs, newest first, with what the columns show."""
        by_program = self._branches_by_program(request)
        branches = self._branches(request, rows) if by_program is None else by_program
        if not branches:
            return []
        if len(branches) > 1 or by_program is not None:
            first, *others = [one.order_by("-number").values_list("number", flat=True)[:limit] for one in branches]
            merged = first.union(*others, all=True).order_by("-number")[:limit] if others else first
            rows = rows.filter(pk__in=list(merged))
        else:
            rows = branches[0]
        shown = rows.annotate(submitted_by=KeyTextTransform("submitted_by", "context__content"))
        large = ("parameters", "result", "error", "program__parameters_schema", "program__description")
        return list(shown.defer(*large)[:limit])

    def matching(self, request: HttpRequest, tenant: Tenant) -> Rows:
        """All jobs of one tenant that match, in the same window that the list searches."""
        [rows] = self._branches(request, self.queryset.filter(tenant=tenant)) or [self.queryset.none()]
        return rows

    def _branches_by_program(self, request: HttpRequest) -> list[Rows] | None:
        """Where the program is the only filter: its jobs along their index.

        The tenant is left out on purpose: with both conditions the planner treats programs and tenants as
        independent, and reads all jobs of the two. The page itself is read through the user's own rows.
        """
        chosen = self.chosen()
        if chosen.keys() == {"program"} and not self.query:
            keys = [int(chosen["program"])]
        elif self.query and not chosen and number_in(self.query) is None:
            keys = programs_of_code(request, self.query)
        else:
            return None
        position = {} if self.before is None else {"number__lt": self.before}
        return [Job.objects.filter(program=key, **position) for key in keys]

    def _branches(self, request: HttpRequest, rows: Rows) -> list[Rows]:
        """The queries that make up the list, each along an index or in a window."""
        chosen = self.chosen()
        narrowing = chosen.keys() - {"tenant"}
        if number_in(self.query) is not None:
            return [rows]
        if "program" in chosen:
            return [self._window(rows, Job.objects.filter(program=int(chosen["program"])))]
        by_tenant = not self.query and narrowing == {"status"} and chosen["status"] in INDEXED_BY_TENANT
        tenants = self._tenants(request, chosen)
        if tenants is None and by_tenant:
            keys = list(Tenant.objects.values_list("pk", flat=True)[: CHOICES_LIMIT + 1])
            tenants = keys if len(keys) <= CHOICES_LIMIT else None
        # Running jobs are few, and have an index of their own; without a filter the keys are the order.
        fits = not self.query and (not narrowing or chosen.get("status") == "RUNNING")
        if tenants is None:
            return [rows if fits else self._window(rows, Job.objects.all())]
        fits = fits or by_tenant
        return [
            rows.filter(tenant=one) if fits else self._window(rows.filter(tenant=one), Job.objects.filter(tenant=one))
            for one in tenants
        ]

    def _tenants(self, request: HttpRequest, chosen: Mapping[str, str]) -> list[int] | None:
        """The tenants whose jobs are listed; None for all there are."""
        if "tenant" in chosen:
            return list(Tenant.objects.filter(code=chosen["tenant"]).values_list("pk", flat=True))
        access = access_of(request)
        return None if access.is_platform else access.tenants()

    def _window(self, rows: Rows, scope: Rows) -> Rows:
        """Those of the rows that are among the newest of the scope."""
        self.is_windowed = True
        oldest = scope.order_by("-number").values("number")[WINDOW : WINDOW + 1]
        return rows.filter(number__gte=Coalesce(Subquery(oldest), Value(0)))
