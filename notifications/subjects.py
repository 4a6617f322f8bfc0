"""What deliveries are about: the settings name functions of the applications above that describe it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from jobsite.tenants.models import Tenant


class Subject(NamedTuple):
    """A job, schedule or program: what it is called, and its page in the admin; "" where it was deleted."""

    name: str
    page: str


def facts(
    *,
    tenant: Tenant,
    job_number: int | None,
    program_id: int | None,
    schedule_id: int | None,
    language: str,
    details: Mapping[str, Any],
) -> dict[str, Any] | None:
    """The variables of a template, by JOBSITE_NOTIFICATION_FACTS; None when what it is about is gone."""
    describe = import_string(settings.JOBSITE_NOTIFICATION_FACTS)
    described: Mapping[str, Any] | None = describe(
        tenant=tenant,
        job_number=job_number,
        program_id=program_id,
        schedule_id=schedule_id,
        language=language,
        details=details,
    )
    return None if described is None else dict(described)


def subject(
    *, tenant_id: int, job_number: int | None, program_id: int | None, schedule_id: int | None
) -> Subject | None:
    """The job, else the schedule, else the program, by JOBSITE_NOTIFICATION_SUBJECT; None where there never was one."""
    find = import_string(settings.JOBSITE_NOTIFICATION_SUBJECT)
    found: Subject | None = find(
        tenant_id=tenant_id, job_number=job_number, program_id=program_id, schedule_id=schedule_id
    )
    return found
