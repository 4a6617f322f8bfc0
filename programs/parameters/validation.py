"""A job's parameters by the JSON Schema (2020-12) of its program: checked, completed, typed from text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import lru_cache
from itertools import islice
from typing import Any

from jobsite.programs.parameters.schema_checks import (
    TooMuchWorkError,
    begin_work,
    chain,
    checker_for,
    quick_check,
    spend,
)
from jobsite.programs.parameters.schema_errors import (
    MAX_ERRORS,
    Hidden,
    ParametersError,
    Path,
    PointerError,
    curtailed,
    did_you_mean,
    in_words,
    raise_any,
    shown,
)
from jobsite.programs.parameters.schema_rules import Schema, schemas_in
from jobsite.programs.parameters.schema_secrets import Secrets
from jobsite.programs.parameters.text_values import NotReadableError, TextValues
from jobsite.values import storable
from jobsite.values.masking import MASK, SECRET_KEY

# The size of parameters is that of what was given: a secret that fits is never refused for how it is stored. What
# encryption adds, some 120 bytes to each and a third to all, is bounded by their number.
MAX_SECRETS = 100

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

__all__ = [
    "MAX_ERRORS",
    "ParametersError",
    "PointerError",
    "Validator",
    "canonical",
    "check_schema",
    "compiled",
    "did_you_mean",
    "from_text",
    "validate",
]


def canonical(parameters: object) -> bytes:
    """The one JSON text of a value, for fingerprints: sorted keys, no spaces, UTF-8. `1` and `1.0` differ."""
    return _canonical(parameters).encode()


def check_schema(schema: object) -> None:
    """Raise ParametersError, with pointers into the schema, unless `validate` can work with it.

    That is: within 64 KiB and 32 levels, an object at the top, valid under the metaschema; patterns compile;
    every `$ref` is a pointer to a schema in this one and never leads back to itself; defaults fit their own
    schemas; what is `writeOnly` stands under properties, items, prefixItems or $defs, and the schema does not
    reveal it by default, const or enum.
    """
    Validator(_plain(schema))


def validate(schema: object, parameters: object) -> dict[str, Any]:
    """A copy of `parameters` with the schema's defaults, or ParametersError; see `Validator.validate`."""
    return compiled(schema).validate(parameters)


def from_text(schema: object, pairs: Sequence[str]) -> dict[str, Any]:
    """Parameters from `KEY=VALUE` texts, typed by the schema; see `Validator.from_text`."""
    return compiled(schema).from_text(pairs)


def compiled(schema: object) -> "Validator":
    """The validator of a schema, from a cache by content. Raises ParametersError as `check_schema` does."""
    try:
        content = canonical(schema)
    except (TypeError, ValueError, RecursionError):
        check_schema(schema)
        raise
    return _compiled(content)


class Validator:
    """A schema that was checked, ready for many parameters; safe to share between threads."""

    def __init__(self, schema: object) -> None:
        """Check the schema as `check_schema` promises; it must not change afterwards."""
        self._schemas = schemas_in(schema)
        assert isinstance(schema, dict)
        # $id and $schema would change how the library reads references, which are all local here.
        self._schema: Schema = {key: schema[key] for key in schema if key not in ("$id", "$schema")}
        self._secrets = self._checked_secrets()
        self.has_secrets = bool(self._secrets)
        self._checker = checker_for(self._schema)
        self._accepts = quick_check(self._schema)
        self._texts = TextValues(self._schema, self._schemas)
        self._has_defaults = any("default" in part for part in self._schemas.values() if isinstance(part, dict))
        begin_work()
        raise_any(self._default_errors())

    def validate(self, parameters: object) -> dict[str, Any]:
        """A deep copy of `parameters` with defaults, valid in every respect; secrets are in plain text.

        Defaults of missing members are filled in through `properties`, `prefixItems`, `items` and `$ref`,
        and validated like what was given. Raises ParametersError with all errors, without any secret. An object
        with the key "$secret" is an error too, because secrets are stored in this way.
        """
        begin_work()
        wrong: list[PointerError] = []
        copy = storable.plain(parameters, refuse=_noted_in(wrong), mend=False, reserved=SECRET_KEY)
        if wrong and self._secrets:
            wrong = curtailed(wrong, self._hidden_in(copy))
        seen = {error.pointer for error in wrong}
        wrong += [error for error in self._errors(self._schema, copy) if error.pointer not in seen]
        raise_any(wrong)
        assert isinstance(copy, dict)
        if self._secrets:
            raise_any(PointerError(storable.pointer(path), _SHOWN) for path in self._masked_in(copy))
        return copy

    def _masked_in(self, parameters: object) -> Iterator[Path]:
        return (path for path in self.secrets_in(parameters) if storable.part(parameters, path) == MASK)

    def secrets_in(self, parameters: object) -> list[Path]:
        """Where in parameters, as `validate` returned them, the secrets are."""
        begin_work()
        return [path for path, is_secret in self._secrets.found_in(parameters).items() if is_secret]

    def is_secret(self, name: str) -> bool:
        """Whether the parameter of this name is a secret, or may hold some."""
        begin_work()
        return (name,) in self._secrets.found_in({name: None})

    def from_text(self, pairs: Sequence[str]) -> dict[str, Any]:
        """Parameters from `KEY=VALUE` texts, not validated yet.

        A string stays as it is. A number, boolean, null, array or object is read as JSON. Where the schema
        allows strings among others, what is not JSON of an allowed type stays text, as does the value of an
        unknown key. Raises ParametersError for a pair without key, a key given twice, and text that cannot
        be read.
        """
        begin_work()
        parameters: dict[str, Any] = {}
        wrong: list[PointerError] = []
        for pair in pairs:
            key, equals, text = pair.partition("=")
            if not key or not equals:
                wrong.append(PointerError("", f"-p {MASK if self._secrets else shown(pair)}: expected KEY=VALUE"))
            elif key in parameters:
                wrong.append(PointerError(storable.pointer([key]), "is given twice"))
            else:
                parameters[key] = self._read(key, text, wrong)
        raise_any(wrong)
        return parameters

    def _read(self, key: str, text: str, wrong: list[PointerError]) -> object:
        try:
            return self._texts.read(key, text)
        except NotReadableError as error:
            got = MASK if (key,) in self._hidden_in({key: None}) else shown(text)
            wrong.append(PointerError(storable.pointer([key]), f"expected {error} as JSON, got {got}"))
            return text

    def _errors(self, schema: Schema, value: Any) -> list[PointerError]:
        """Fill in the defaults of `value` in place, and return its errors."""
        wrong: list[PointerError] = []
        try:
            if self._has_defaults and self._fill(schema, value):
                storable.plain(value, refuse=_noted_in(wrong), mend=False)
            hidden = self._secrets.found_in(value) if self._secrets and schema is self._schema else {}
            if sum(hidden.values()) > MAX_SECRETS:
                wrong.append(PointerError("", f"holds more than {MAX_SECRETS} secrets"))
            if schema is self._schema and self._accepts(value):
                return wrong
            errors = self._checker.evolve(schema=schema).iter_errors(value)
            return [*wrong, *islice(in_words(errors, hidden), MAX_ERRORS)]
        except (TooMuchWorkError, RecursionError):
            return [_TOO_MUCH]

    def _checked_secrets(self) -> Secrets:
        secrets = Secrets(self._schemas)
        begin_work()
        try:
            raise_any(secrets.errors())
        except (TooMuchWorkError, RecursionError):
            raise ParametersError([_TOO_MUCH]) from None
        return secrets

    def _hidden_in(self, value: object) -> Hidden:
        try:
            return self._secrets.found_in(value)
        except TooMuchWorkError:
            return {(): True}

    def _default_errors(self) -> Iterator[PointerError]:
        for at, schema in self._schemas.items():
            if isinstance(schema, dict) and "default" in schema:
                wrong: list[PointerError] = []
                copy = storable.plain(schema["default"], refuse=_noted_in(wrong), mend=False, reserved=SECRET_KEY)
                for error in [*wrong, *self._errors(schema, copy)]:
                    yield PointerError(f"{at}/default{error.pointer}", error.message)

    def _fill(self, schema: Schema, value: Any) -> bool:
        """Put the defaults of missing members into `value`; True where there were any."""
        filled = False
        for part in chain(self._schemas, schema):
            for member, key in _members(part, value):
                spend(1)
                if isinstance(value, dict) and key not in value:
                    default = self._default(member)
                    if default is _MISSING:
                        continue
                    spend(len(canonical(default)))
                    value[key] = deepcopy(default)
                    filled = True
                filled |= self._fill(member, value[key])
        return filled

    def _default(self, schema: Schema) -> object:
        return next((part["default"] for part in chain(self._schemas, schema) if "default" in part), _MISSING)


_MISSING = object()
_SHOWN = f"is {MASK}, which is shown in place of a secret; give the secret itself"
_TOO_MUCH = PointerError("", "nests too deep, or takes too much work, to be checked by this schema")


@lru_cache(maxsize=256)
def _compiled(content: bytes) -> Validator:
    return Validator(_plain(json.loads(content)))


def _plain(schema: object) -> object:
    wrong: list[PointerError] = []
    copy = storable.plain(schema, refuse=_noted_in(wrong), mend=False)
    raise_any(wrong)
    return copy


def _noted_in(wrong: list[PointerError]) -> storable.Refuse:
    return lambda at, message: wrong.append(PointerError(at, message))


def _members(schema: Mapping[str, Any], value: object) -> Iterator[tuple[Schema, Any]]:
    """The schemas of the parts of a value, each with the key or index of its part."""
    if isinstance(value, dict):
        for key, member in schema.get("properties", {}).items():
            yield member, key
    elif isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        for index in range(len(value)):
            yield prefix[index] if index < len(prefix) else schema.get("items", True), index
