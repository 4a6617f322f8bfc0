"""The codes of groups and templates: how they are written, and that each is given once in a tenant."""

from django.db import IntegrityError, transaction

from jobsite.errors import Conflict, Invalid
from jobsite.notifications.models import Group, Template
from jobsite.tenants.models import CODE_PATTERN


def check_code(code: str, refusal: str) -> None:
    """Raise Invalid, with `refusal` as its code, where this is not a valid code."""
    if not CODE_PATTERN.fullmatch(code):
        raise Invalid("code: expected up to 100 lower-case letters, digits, and _ . - inside", code=refusal)


def save_new(row: Group | Template, constraint: str, taken: str) -> None:
    """Insert a row; Conflict (code_taken) with the message `taken` where another has its code."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
    except IntegrityError as error:
        if constraint not in str(error):
            raise
        raise Conflict(taken, code="code_taken") from None
