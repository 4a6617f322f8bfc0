"""Lists of large tables: newest first, one page at a time from a key on, without counting."""

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest

BEFORE = "before"
MAX_KEY = 2**63 - 1


class KeysetChangeList(ChangeList):
    """Django's list, except that `?before=KEY` takes the place of page numbers and no row is ever counted."""

    before: int | None = None
    has_older = False

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        """The filtered rows; the position in the list is taken from the address and is no filter."""
        if BEFORE in self.params:
            text = self.params.pop(BEFORE)
            self.filter_params.pop(BEFORE, None)
            if not (text.isascii() and text.isdigit() and int(text) <= MAX_KEY):
                raise IncorrectLookupParameters
            self.before = int(text)
        return super().get_queryset(request, exclude_parameters)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        """By key, whatever the address asks for: no other order has an index."""
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        """One page, and whether there are older rows."""
        rows = self.queryset if self.before is None else self.queryset.filter(pk__lt=self.before)
        found = self.page(request, rows, self.list_per_page + 1)
        self.has_older = len(found) > self.list_per_page
        self.result_list = found[: self.list_per_page]
        self.result_count = len(self.result_list)
        self.full_result_count = self.result_count  # of this page: the list has no total
        self.show_full_result_count = False
        self.show_admin_actions = bool(self.result_list)
        self.can_show_all = self.multi_page = False
        self.paginator = self.model_admin.get_paginator(request, self.result_list, self.list_per_page)

    def page(self, request: HttpRequest, rows: QuerySet[Any], limit: int) -> list[Any]:
        """The first matching rows."""
        return list(rows[:limit])

    @property
    def newest_link(self) -> str:
        """The address of the first page."""
        return self.get_query_string()

    @property
    def older_link(self) -> str:
        """The address of the next page, with older rows."""
        return self.get_query_string({BEFORE: self.result_list[len(self.result_list) - 1].pk})


def number_in(text: str) -> int | None:
    """The number that a search means, written `17` or `#17`; None where it means something else."""
    digits = text.strip().removeprefix("#")
    return int(digits) if digits.isascii() and digits.isdigit() else None
