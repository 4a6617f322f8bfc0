"""The secrets among parameters: where a schema may mark them `writeOnly`, and where they are in a value."""

from collections.abc import Iterator, Mapping

from jobsite.programs.parameters.schema_checks import spend
from jobsite.programs.parameters.schema_errors import Hidden, Path, PointerError
from jobsite.programs.parameters.schema_rules import Schema, children, target
from jobsite.values import storable

# Under these keywords a schema always applies to the part that it names. Under any other keyword it depends on the
# value whether a schema applies, and where it does not, a secret would be stored in clear.
_TO_PARTS = ("properties", "items", "prefixItems")
_ALLOWED = frozenset({*_TO_PARTS, "$defs"})
_IN_CLEAR = ("default", "const", "enum")


class Secrets:
    """The secrets of a schema; false if it has none."""

    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        """`schemas` by pointer, as `schemas_in` gives them; `errors` says what is wrong with their marks."""
        self._schemas = schemas
        self._marked = frozenset(
            at for at, schema in schemas.items() if isinstance(schema, Mapping) and schema.get("writeOnly") is True
        )
        self._holding = self._holders()

    def __bool__(self) -> bool:
        return "" in self._holding

    def found_in(self, value: object) -> Hidden:
        """The paths in a value that the schema describes as secrets (true), or as values that contain one (false)."""
        found: dict[Path, bool] = {}
        for path, is_secret in self._walk("", value, (), set()):
            found[path] = is_secret or found.get(path, False)
        return found

    def errors(self) -> Iterator[PointerError]:
        """Every mark in a place where it is not allowed, and every secret that the schema itself reveals."""
        if not self._marked:
            return
        for at, is_elsewhere in _places("", self._schemas[""], is_elsewhere=False):
            schema = self._schemas[at]
            if not isinstance(schema, Mapping):
                continue
            if at in self._marked and at == "":
                yield PointerError("/writeOnly", "marks a property as a secret, not all parameters at once")
            elif at in self._marked and is_elsewhere:
                yield PointerError(f"{at}/writeOnly", _ALLOWED_PLACES)
            elif is_elsewhere and "$ref" in schema and target(schema["$ref"]) in self._holding:
                yield PointerError(f"{at}/$ref", f"leads to a secret: {_ALLOWED_PLACES}")
            yield from self._revealed(at, schema)

    def _revealed(self, at: str, schema: Mapping[str, object]) -> Iterator[PointerError]:
        if at in self._marked:
            found = [(part, keyword) for part in self._chain(at) for keyword in _IN_CLEAR if keyword in self._of(part)]
        else:
            found = [(at, keyword) for keyword in _IN_CLEAR if keyword in schema and self._reveals(at, schema, keyword)]
        for part, keyword in found:
            yield PointerError(
                f"{part}/{keyword}", "would reveal a secret: what is writeOnly has no default, const or enum"
            )

    def _reveals(self, at: str, schema: Mapping[str, object], keyword: str) -> bool:
        value = schema[keyword]
        values = value if keyword == "enum" and isinstance(value, list) else [value]
        return any(is_secret for one in values for _, is_secret in self._walk(at, one, (), set()))

    def _holders(self) -> frozenset[str]:
        """The schemas that describe a secret, or a value with one somewhere inside."""
        above: dict[str, list[str]] = {}
        for at, schema in self._schemas.items():
            for keyword, below, _ in children(schema):
                if keyword in _TO_PARTS:
                    above.setdefault(at + below, []).append(at)
            if isinstance(schema, Mapping) and "$ref" in schema:
                above.setdefault(target(schema["$ref"]), []).append(at)
        holding: set[str] = set()
        found = list(self._marked)
        while found:
            at = found.pop()
            if at not in holding:
                holding.add(at)
                found += above.get(at, ())
        return frozenset(holding)

    def _walk(self, at: str, value: object, path: Path, seen: set[tuple[str, Path]]) -> Iterator[tuple[Path, bool]]:
        if at not in self._holding or (at, path) in seen:
            return
        seen.add((at, path))
        spend(1)
        parts = self._chain(at)
        if not self._marked.isdisjoint(parts):
            yield path, True
            return
        yield path, False
        for part in parts:
            for below, key in _parts_of(self._of(part), value):
                inner = value[key]  # type: ignore[index]
                yield from self._walk(part + below, inner, (*path, key), seen)

    def _chain(self, at: str) -> list[str]:
        """The schema and those that its `$ref` leads to, which all describe the same value."""
        chain = [at]
        while "$ref" in (schema := self._of(chain[-1])):
            chain.append(target(str(schema["$ref"])))
        return chain

    def _of(self, at: str) -> Mapping[str, object]:
        schema = self._schemas[at]
        return schema if isinstance(schema, Mapping) else {}


_ALLOWED_PLACES = "a secret is allowed only under properties, items, prefixItems and $defs"


def _places(at: str, schema: Schema, *, is_elsewhere: bool) -> Iterator[tuple[str, bool]]:
    yield at, is_elsewhere
    for keyword, below, child in children(schema):
        yield from _places(at + below, child, is_elsewhere=is_elsewhere or keyword not in _ALLOWED)


def _parts_of(schema: Mapping[str, object], value: object) -> Iterator[tuple[str, str | int]]:
    """The parts of a value that a schema names: the pointer to the schema of each, and its key or index."""
    if isinstance(value, dict):
        members = schema.get("properties")
        for name in members if isinstance(members, dict) else ():
            if name in value:
                yield storable.pointer(["properties", name]), name
    elif isinstance(value, list):
        prefix = schema.get("prefixItems")
        count = len(prefix) if isinstance(prefix, list) else 0
        for index in range(len(value)):
            if index < count:
                yield storable.pointer(["prefixItems", index]), index
            elif "items" in schema:
                yield "/items", index
