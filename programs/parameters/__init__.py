"""Parameters of jobs: checked against their JSON Schema, and encrypted where it marks them as secret."""

from jobsite.programs.parameters.schema_errors import MAX_ERRORS, ParametersError, Path, PointerError, did_you_mean
from jobsite.programs.parameters.validation import (
    MAX_SECRETS,
    Validator,
    canonical,
    check_schema,
    compiled,
    from_text,
    validate,
)

__all__ = [
    "MAX_ERRORS",
    "MAX_SECRETS",
    "ParametersError",
    "Path",
    "PointerError",
    "Validator",
    "canonical",
    "check_schema",
    "compiled",
    "did_you_mean",
    "from_text",
    "secrets",
    "validate",
]
