"""Find the tenant that a command is for."""

from django.conf import settings

from jobsite.errors import Invalid, NotFound
from jobsite.tenants.models import SYSTEM, Tenant

NAMED = 10


def choose(code: str | None) -> Tenant:
    """The tenant with this code; without a code that of JOBSITE_TENANT, else the only tenant.

    Raises NotFound when there is no such tenant, Invalid when there are several to choose from.
    """
    wanted = code or settings.JOBSITE_TENANT
    if wanted:
        tenant = Tenant.objects.filter(code=wanted).first()
        if tenant is None:
            raise NotFound(f"no tenant {wanted}")
        return tenant
    tenants = list(Tenant.objects.exclude(code=SYSTEM)[: NAMED + 1])
    if not tenants:
        raise NotFound("there is no tenant yet; make one with: jobsite tenants create CODE")
    if len(tenants) > 1:
        codes = ", ".join(tenant.code for tenant in tenants[:NAMED]) + (", …" if len(tenants) > NAMED else "")
        raise Invalid(f"which tenant? give --tenant CODE or set JOBSITE_TENANT ({codes})")
    return tenants[0]
