"""What all pages of the admin have in common: rows and permissions by tenant, audited changes, bounded lists."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import ShowFacets
from django.contrib.admin.utils import unquote
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.core.paginator import Paginator
from django.db import connection, transaction
from django.db.models import ForeignKey, Model, QuerySet
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.functional import cached_property
from django.utils.text import capfirst

from jobsite.admin import display
from jobsite.admin.access import NOBODY, PLATFORM, READ, access_of, principal_of
from jobsite.errors import Refusal
from jobsite.tenants import audit
from jobsite.tenants.models import SYSTEM, AuditEntry, Tenant

M = TypeVar("M", bound=Model)

HISTORY_LIMIT = 200

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin
    AnyPaginator = Paginator[Any]
else:
    AnyPaginator = Paginator

    class ModelAdmin(admin.ModelAdmin, Generic[M]):
        """Django's ModelAdmin, which cannot be subscripted at run time."""


class BoundedPaginator(AnyPaginator):
    """Counts at most a thousand rows; for the lists that Django makes of large tables."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most 1,000."""
        rows = cast("QuerySet[Any]", self.object_list)
        return len(rows.values_list("pk")[:1_000])


class TenantScopedAdmin(ModelAdmin[M]):
    """Rows of the tenants that the user is a member of, by their role; Django's model permissions play no part.

    Each of the four scopes says what it takes to view, add, change or delete. Where the user may not see a row,
    the answer is 404, as for a row that is not there.
    """

    view_scope: ClassVar[str] = READ
    add_scope: ClassVar[str] = NOBODY
    change_scope: ClassVar[str] = NOBODY
    delete_scope: ClassVar[str] = NOBODY
    tenant_path: ClassVar[str | None] = "tenant"
    """How a query reaches the row's tenant; None where rows belong to the platform."""
    names_tenant: ClassVar[bool] = False
    """Whether the list gets the tenant as its second column, where the user sees several."""
    empty_hint: ClassVar[str] = "Nothing here yet."
    page_note: ClassVar[str] = ""
    """A sentence above the form."""

    change_list_template = "admin/jobsite/change_list.html"
    change_form_template = "admin/jobsite/change_form.html"
    show_facets = ShowFacets.NEVER
    list_per_page = 100
    list_max_show_all = 0

    # ---- Permissions ----------------------------------------------------------------------------------------

    def _may(self, request: HttpRequest, scope: str, obj: Model | None) -> bool:
        return access_of(request).may(scope, None if obj is None else self.tenant_id_of(obj))

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the index lists this model."""
        return access_of(request).may(self.view_scope)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """By `view_scope` in the row's tenant."""
        return self._may(request, self.view_scope, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """By `add_scope` in any tenant; the form offers only those."""
        return self._may(request, self.add_scope, None)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """By `change_scope` in the row's tenant."""
        return self._may(request, self.change_scope, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """By `delete_scope` in the row's tenant."""
        return self._may(request, self.delete_scope, obj)

    # ---- Rows -----------------------------------------------------------------------------------------------

    def tenant_id_of(self, obj: Model) -> int | None:
        """The key of the row's tenant."""
        key: int | None = getattr(obj, f"{self.tenant_path}_id") if self.tenant_path else None
        return key

    def tenant_of(self, obj: Model) -> Tenant:
        """The tenant in whose audit a change of the row is written: `system` for the platform's rows."""
        key = self.tenant_id_of(obj)
        return Tenant.objects.get(code=SYSTEM) if key is None else Tenant.objects.get(pk=key)

    def audit_target(self, obj: Model) -> str:
        """What audit entries call the row, beside the model's name."""
        return str(obj)

    @property
    def audit_kind(self) -> str:
        """What audit entries call such rows."""
        return str(self.opts.verbose_name)

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        """The rows that the user may see; everything in the admin starts from these."""
        rows = super().get_queryset(request)
        access = access_of(request)
        if access.is_platform:
            return rows
        if self.tenant_path is None or not access.may(self.view_scope):
            return rows.none()
        return rows.filter(**{f"{self.tenant_path}__in": access.tenants(self.view_scope)})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> M:
        """The row with this key; Http404 where it does not exist or the user may not see it."""
        found = super().get_object(request, object_id, from_field)
        if found is None:
            raise Http404(f"No such {self.opts.verbose_name}.")
        return found

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Only the lookups of the filters: any other could be slow, or look into related rows."""
        return lookup in {getattr(one, "parameter_name", None) for one in self.list_filter}

    def response_action(self, request: HttpRequest, queryset: QuerySet[M]) -> HttpResponse | None:  # type: ignore[override]
        """Refuse what our pages never send: an invalid key, and `all matching`, which has no bound."""
        try:
            for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
                self.opts.pk.to_python(key)
        except ValidationError as error:
            raise SuspiciousOperation("not a key") from error
        if request.POST.get("select_across", "0") not in ("", "0"):
            raise SuspiciousOperation("an action takes the rows of a page")
        return super().response_action(request, queryset)

    # ---- Form fields ----------------------------------------------------------------------------------------

    def formfield_for_foreignkey(self, db_field: ForeignKey[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        """Offer the tenants in which the user may add such rows, and no others."""
        if db_field.name == "tenant":
            access = access_of(request)
            kwargs["queryset"] = access.tenants_to_choose(self.add_scope)
            if len(access.tenants(self.add_scope)) == 1:
                kwargs["initial"] = access.tenants(self.add_scope)[0]
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Leave out the links to add or change the chosen row."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(field, forms.ModelChoiceField):
            field.widget = getattr(field.widget, "widget", field.widget)
        return field

    # ---- Changes, audited -----------------------------------------------------------------------------------

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Django's page; a refusal becomes a message, and nothing is changed."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except Refusal as refusal:
            self.message_user(request, display.sentence(refusal), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: M, form: "ModelForm[M]", change: bool) -> None:
        """Write only the fields that were changed, so that what the protocol wrote meanwhile is kept."""
        changed = [name for name in form.changed_data if name in form.cleaned_data]
        if change and not changed:
            return
        before = {name: form.initial.get(name) for name in changed} if change else None
        if change:
            obj.save(update_fields=[*changed, *self.touched_fields(obj)])
        else:
            obj.save()
        after = {name: form.cleaned_data[name] for name in changed}
        self.record(request, obj, "updated" if change else "created", before, after)

    def touched_fields(self, obj: M) -> Iterable[str]:
        """Set the fields that every change updates too, and return their names."""
        return ()

    def delete_model(self, request: HttpRequest, obj: M) -> None:
        """Delete the row and write an audit entry, both or neither."""
        with transaction.atomic():
            self.record(request, obj, "deleted", self.audited(obj), None)
            obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[M]) -> None:
        """Delete one by one, so that each has its audit entry."""
        with transaction.atomic():
            for obj in queryset:
                self.delete_model(request, obj)

    def audited(self, obj: M) -> dict[str, object]:
        """What an audit entry keeps of a row that is deleted."""
        return {}

    def record(
        self,
        request: HttpRequest,
        obj: M,
        done: str,
        before: dict[str, object] | None,
        after: dict[str, object] | None,
    ) -> None:
        """Write the audit entry of a change made here."""
        name = self.audit_kind
        principal = principal_of(request, self.tenant_of(obj))
        with connection.cursor() as cursor:
            audit.record(cursor, principal, f"{name} {done}", name, self.audit_target(obj)[:200], "", before, after)

    # Django's own log knows no tenant; the audit entries are the history.
    def log_addition(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing: save_model has recorded it."""

    def log_change(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing: save_model has recorded it."""

    def log_deletions(self, *args: Any, **kwargs: Any) -> Any:
        """Nothing: delete_model has recorded it."""

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The row's audit entries, the newest first."""
        obj = self.get_object(request, unquote(object_id))
        entries = AuditEntry.objects.filter(
            tenant=self.tenant_of(obj),
            target_type=self.audit_kind,
            target=self.audit_target(obj)[:200],
        )
        context = {
            **self.admin_site.each_context(request),
            "title": f"History of {self.opts.verbose_name} {obj}",
            "opts": self.opts,
            "object": obj,
            "entries": entries[:HISTORY_LIMIT],
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/jobsite/history.html", context)

    # ---- Pages ----------------------------------------------------------------------------------------------

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """With the tenant where there are several."""
        columns = list(super().get_list_display(request))
        if self.names_tenant and access_of(request).sees_several:
            columns.insert(1, "tenant")
        return columns

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Django's list with our title and, where it is empty, what to do next."""
        words = {
            "title": capfirst(str(self.opts.verbose_name_plural)),
            "empty_hint": self.empty_hint,
            "page_note": self.page_note,
        }
        return super().changelist_view(request, words | (extra_context or {}))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Django's form with the page's note."""
        return super().render_change_form(request, {"page_note": self.page_note} | context, *args, **kwargs)


class PlatformAdmin(TenantScopedAdmin[M]):
    """Rows of the platform: only superusers see them, and for all others they do not exist."""

    view_scope = PLATFORM
    tenant_path = None
