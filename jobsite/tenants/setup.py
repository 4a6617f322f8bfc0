"""Make a tenant, and let every application add what a tenant starts with."""

import zoneinfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.module_loading import import_string

from jobsite.errors import Conflict, Invalid
from jobsite.tenants.models import SYSTEM, Tenant


def create(code: str, *, name: str = "", language: str = "en", time_zone: str = "UTC") -> Tenant:
    """Make a tenant, with everything that the functions in JOBSITE_TENANT_SETUP add, in one transaction.

    Raises Invalid for an invalid code or time zone, Conflict when the code is taken.
    """
    if code == SYSTEM or Tenant.objects.filter(code=code).exists():
        raise Conflict(f"tenant {code} exists already", code="tenant_exists")
    tenant = Tenant(code=code, name=name or code, language=language, time_zone=time_zone)
    if time_zone not in zoneinfo.available_timezones():
        raise Invalid(f"{time_zone} is not an IANA time zone such as Europe/Berlin")
    try:
        tenant.clean_fields()
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise Invalid(f"{field}: {messages[0]}") from error
    with transaction.atomic():
        tenant.save()
        for path in settings.JOBSITE_TENANT_SETUP:
            import_string(path)(tenant)
    return tenant
