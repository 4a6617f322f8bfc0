"""The filters of lists: a bounded number of choices, and no other values."""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from jobsite.admin.access import access_of
from jobsite.tenants.models import Tenant

CHOICES_LIMIT = 100
"""A filter offers at most this many choices; beyond that, search."""
KEY_DIGITS = 19
"""A key with fewer digits fits its column."""


class ChoiceFilter(admin.SimpleListFilter):
    """A filter with few choices; any other value leads back to the unfiltered list."""

    template = "admin/jobsite/filter.html"
    field: str = ""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The rows of the chosen value."""
        value = self.value()
        if value is None:
            return queryset
        if value not in {str(key) for key, _ in self.lookup_choices}:
            raise IncorrectLookupParameters
        return self.narrow(queryset, value)

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """The rows with this value."""
        return queryset.filter(**{self.field: value})


class CodeFilter(ChoiceFilter):
    """By a row with a code: the rows of the tenants seen; if there are more than 100, only the one in the address."""

    model: type[Model]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Keys, with codes (and tenants, where there are several)."""
        access = access_of(request)
        rows = self.model._default_manager.filter(deleted_at__isnull=True).order_by("code", "id")
        if not access.is_platform:
            rows = rows.filter(tenant__in=access.tenants())
        columns = ("id", "code", "tenant__code")
        found = list(rows.values_list(*columns)[: CHOICES_LIMIT + 1])
        if len(found) > CHOICES_LIMIT:
            chosen = self.used_parameters.get(str(self.parameter_name), "")
            key = int(chosen) if chosen.isascii() and chosen.isdigit() and len(chosen) < KEY_DIGITS else 0
            found = list(rows.filter(pk=key).values_list(*columns))
        several = access.sees_several
        return [(str(key), f"{code} ({tenant})" if several else code) for key, code, tenant in found]


Choices = Iterable[tuple[str, str]]


def choice_filter(
    parameter: str, title: str, choices: Choices | Callable[[HttpRequest], Choices], *, field: str = ""
) -> type[ChoiceFilter]:
    """A filter on one column with these choices, or those that a function gives for the request."""

    def lookups(self: ChoiceFilter, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(choices(request) if callable(choices) else choices)

    body = {"parameter_name": parameter, "title": title, "field": field or parameter, "lookups": lookups}
    return type(f"{parameter.title()}Filter", (ChoiceFilter,), body)


class TenantFilter(ChoiceFilter):
    """By tenant, for those who see several."""

    title = "tenant"
    parameter_name = "tenant"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The tenants that the user sees; if there are more than 100, only the one in the address."""
        access = access_of(request)
        if not access.sees_several:
            return []
        rows = Tenant.objects.all() if access.is_platform else Tenant.objects.filter(pk__in=access.tenants())
        codes = list(rows.values_list("code", flat=True)[: CHOICES_LIMIT + 1])
        if len(codes) > CHOICES_LIMIT:
            chosen = self.used_parameters.get(self.parameter_name)
            codes = list(rows.filter(code=chosen).values_list("code", flat=True))
        return [(code, code) for code in codes]

    def narrow(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """By the tenant's key: with a join on its code, the planner misjudges how many rows there are."""
        return queryset.filter(tenant__in=list(Tenant.objects.filter(code=value).values_list("pk", flat=True)))
