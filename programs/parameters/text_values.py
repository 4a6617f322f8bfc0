"""Parameters from `KEY=VALUE` texts: how a value is read from its text, by the schema of its key."""

import json
import re
from collections.abc import Mapping

from jobsite.programs.parameters.schema_checks import TooMuchWorkError, chain
from jobsite.programs.parameters.schema_errors import is_any, type_of
from jobsite.programs.parameters.schema_rules import Schema

_ALL_TYPES = frozenset({"array", "boolean", "integer", "null", "number", "object", "string"})
_MISSING = object()


class NotReadableError(ValueError):
    """A text is not a value of the types that the schema allows for its key; the message names them."""


class TextValues:
    """How the members of a schema's parameters are read from text."""

    def __init__(self, schema: Schema, schemas: Mapping[str, Schema]) -> None:
        """The schema, and those inside it by pointer."""
        self._schema, self._schemas = schema, schemas

    def read(self, key: str, text: str) -> object:
        """The value that the text means for this key; raises NotReadableError where it means none."""
        try:
            types = self._types(self._member(key))
        except TooMuchWorkError:
            types = _ALL_TYPES
        if types == {"string"}:
            return text
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            value = _MISSING
        if value is not _MISSING and ("string" not in types or is_any(value, types)):
            return value
        if "string" not in types:
            expected = " or ".join(sorted(types)).replace("boolean", "boolean (true or false)")
            raise NotReadableError(expected)
        return text

    def _member(self, key: str) -> Schema:
        """The schema of a parameter; for an unknown one, a schema that allows text."""
        for part in chain(self._schemas, self._schema):
            members: Mapping[str, Schema] = part.get("properties", {})
            if key in members:
                return members[key]
            patterns: Mapping[str, Schema] = part.get("patternProperties", {})
            for pattern, schema in patterns.items():
                if re.search(pattern, key):
                    return schema
            others: Schema = part.get("additionalProperties", True)
            if isinstance(others, Mapping):
                return others
        return {"type": "string"}

    def _types(self, schema: Schema) -> frozenset[str]:
        """The JSON types that a schema allows, as far as its own keywords say."""
        for part in chain(self._schemas, schema):
            if "type" in part:
                return frozenset([part["type"]] if isinstance(part["type"], str) else part["type"])
            values = part.get("enum", [part["const"]] if "const" in part else [])
            if values:
                return frozenset(map(type_of, values))
            for keyword in ("anyOf", "oneOf"):
                if keyword in part:
                    return frozenset().union(*(self._types(choice) for choice in part[keyword]))
        return _ALL_TYPES


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
