"""jobsite: a multi-tenant job platform on Django and Celery, where every job is a row that can say what became of it.

This is the public face. `import jobsite` loads nothing else; each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobsite.errors import Conflict, Forbidden, Invalid, NotFound, Refusal, TooMany
    from jobsite.programs.context import Context
    from jobsite.programs.rules.failures import PermanentError, TransientError
    from jobsite.programs.rules.stops import JobCanceled, JobTimeout, LockLost
    from jobsite.programs.submission import submit, submit_many

__all__ = [
    "Conflict",
    "Context",
    "Forbidden",
    "Invalid",
    "JobCanceled",
    "JobTimeout",
    "LockLost",
    "NotFound",
    "PermanentError",
    "Refusal",
    "TooMany",
    "TransientError",
    "submit",
    "submit_many",
]

_HOMES = {
    "jobsite.errors": ("Conflict", "Forbidden", "Invalid", "NotFound", "Refusal", "TooMany"),
    "jobsite.programs.context": ("Context",),
    "jobsite.programs.rules.failures": ("PermanentError", "TransientError"),
    "jobsite.programs.rules.stops": ("JobCanceled", "JobTimeout", "LockLost"),
    "jobsite.programs.submission": ("submit", "submit_many"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
