"""Actions in a program file: the kinds that exist, and the keys of each kind."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from jobsite.programs.definitions import values
from jobsite.values.durations import format_duration

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_TARGET = re.compile(rf"{_NAME}(\.{_NAME})*[.:]{_NAME}")


@dataclass(frozen=True)
class ActionDefinition:
    """One action of a program: its kind, the keys of that kind, and its own time limit in seconds if it has one."""

    kind: str
    configuration: dict[str, Any]
    name: str = ""
    timeout: float | None = None

    def name_at(self, position: int) -> str:
        """Its name, or the default name for this position, counted from 1."""
        return self.name or f"{self.kind} {position}"


def read_action(value: object) -> ActionDefinition:
    """An action from its table: the keys of its kind, and those that all kinds share. Raises WrongError."""
    table = values.table(value)
    name = table.get("kind")
    kind = KINDS[values.inside("kind", values.one_of(KINDS), name)]
    readers = {**_ACTION_KEYS, **kind.required, **kind.optional}
    given = values.members(table, readers, required=["kind", *kind.required])
    if "timeout" in given:
        check_maximum(given["timeout"], kind.maximum_timeout)
    return ActionDefinition(
        kind=given["kind"],
        configuration={key: given[key] for key in given if key not in _ACTION_KEYS},
        name=given.get("name", ""),
        timeout=given.get("timeout"),
    )


def check_maximum(timeout: float, maximum: float) -> None:
    """Raise WrongError if a time limit, in seconds, is above the maximum of its kind of action."""
    if timeout > maximum:
        longest, got = format_duration(maximum), format_duration(timeout)
        raise values.WrongError(f"timeout: expected at most {longest} for this kind of action, got {got}")


_ACTION_KEYS: dict[str, values.Reader] = {
    "kind": values.text,
    "name": values.matching(re.compile(r"\S(.{0,98}\S)?"), "a name of at most 100 characters"),
    "timeout": values.positive_duration,
}


@dataclass(frozen=True)
class Kind:
    """A kind of action: its default and maximum time limit in seconds (SPEC 5), its required and optional keys."""

    default_timeout: float
    maximum_timeout: float
    required: Mapping[str, values.Reader]
    optional: Mapping[str, values.Reader] = field(default_factory=dict)


_WEBHOOK_SECRET = re.compile(r"(whsec_)?[A-Za-z0-9+/]{32,88}={0,2}")


def _webhook_secret(value: object) -> str:
    form = "whsec_ and 24 to 64 random bytes in base64"
    secret: str = values.matching(_WEBHOOK_SECRET, form, is_secret=True)(value)
    encoded = secret.removeprefix("whsec_").rstrip("=")
    try:
        length = len(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
    except ValueError:
        length = 0
    if not 24 <= length <= 64:
        raise values.WrongError(f"expected {form}")
    return secret


def _webhook_secrets(value: object) -> list[str]:
    """One secret or several, newest first; each of them signs until it is removed."""
    secrets: list[str] = values.list_of(_webhook_secret, least=1)(
        value if isinstance(value, (list, tuple)) else [value]
    )
    return secrets


def _statuses(value: object) -> list[list[int]]:
    """Ranges, from a status, a range such as "200-299", or a list of both."""
    given = value if isinstance(value, (list, tuple)) else [value]
    ranges: list[list[int]] = values.list_of(_status_range, least=1)(given)
    return ranges


def _status_range(value: object) -> list[int]:
    found = _STATUSES.fullmatch(str(value)) if isinstance(value, (int, str)) else None
    if found is None or int(found[1]) > int(found[2] or found[1]):
        raise values.WrongError(f'expected a status such as 200, or a range such as "200-299", got {value!r:.80}')
    return [int(found[1]), int(found[2] or found[1])]


_STATUSES = re.compile(r"([1-5]\d\d)(?:-([1-5]\d\d))?")
_MAX_HEADERS = 100
_header = values.table_of(
    values.matching(re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"), "the name of a header"), values.any_text
)


def _headers(value: object) -> dict[str, str]:
    headers: dict[str, str] = _header(value)
    if len(headers) > _MAX_HEADERS:
        raise values.WrongError(f"expected at most {_MAX_HEADERS} headers, got {len(headers)}")
    return headers


_environment_name = values.matching(re.compile(r"[^=\0\ud800-\udfff]+"), "the name of an environment variable")
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "python": Kind(
            default_timeout=300.0,
            maximum_timeout=86_400.0,
            required={"target": values.matching(_TARGET, '"module:function" or the dotted name of a Celery task')},
        ),
        "command": Kind(
            default_timeout=30.0,
            maximum_timeout=3_600.0,
            required={"argv": values.list_of(values.any_text, least=1)},
            optional={
                "env": values.table_of(_environment_name, values.any_text),
                "cwd": values.text,
                "memory": values.size,
                "cpu_time": values.positive_duration,
            },
        ),
        "container": Kind(
            default_timeout=30.0,
            maximum_timeout=3_600.0,
            required={"image": values.text},
            optional={
                "command": values.list_of(values.any_text, least=1),
                "env": values.table_of(_environment_name, values.any_text),
                "memory": values.size,
                "cpus": values.number(0.01, 1_024),
                "network": values.text,
            },
        ),
        "http": Kind(
            default_timeout=300.0,
            maximum_timeout=86_400.0,
            required={"url": values.text},
            optional={
                "method": values.one_of(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
                "headers": _headers,
                "body": values.json_value,
                "expected_status": _statuses,
            },
        ),
        "heartbeat": Kind(
            default_timeout=10.0,
            maximum_timeout=300.0,
            required={"url": values.text},
            optional={"headers": _headers, "expected_status": _statuses},
        ),
        "webhook": Kind(
            default_timeout=300.0,
            maximum_timeout=86_400.0,
            required={"url": values.text, "secret": _webhook_secrets},
            optional={"headers": _headers},
        ),
    }
)
