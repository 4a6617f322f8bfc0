"""Make what an action returns storable in PostgreSQL: clean text, JSON of limited size and depth."""

import json
import math
import re
from collections.abc import Callable, Iterable

from jobsite.values.masking import Mask

MAX_BYTES = 64 * 1024
MAX_MESSAGE = 4 * 1024
MAX_DEPTH = 32
# Larger than any counter, and below the length at which Python refuses to turn an integer into text.
_MAX_INTEGER_BITS = 4_096

_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

Path = tuple["Path", str | int] | None
"""The place of a value: the path of its container, and its key or index there. None is the top."""
Refuse = Callable[[str, str], None]
"""Called with the JSON pointer of a value and what is wrong with it. It raises, or notes it and returns."""


class NotStorable(ValueError):
    """An action returned a value that cannot be stored. The message has the JSON pointer and the reason."""


class _FullError(Exception):
    """There are more values than MAX_BYTES has room for."""


def text(value: str, *, limit: int, mask: Mask | None = None) -> str:
    """`value` with NUL and lone surrogates as U+FFFD, in at most `limit` bytes (40 or more) of UTF-8.

    `mask` is applied first. A longer text is then cut between characters and ends with " … (N bytes cut)".
    """
    clean = mended(value if mask is None else mask.text(value))
    if len(clean) * 4 <= limit:
        return clean
    data = clean.encode()
    if len(data) <= limit:
        return clean
    kept = data[: limit - len(_cut_mark(len(data)).encode())].decode(errors="ignore")
    return kept + _cut_mark(len(data) - len(kept.encode()))


def result(value: object, *, mask: Mask | None = None) -> object:
    """A copy of `value` as JSON: tuples become lists, NUL and lone surrogates U+FFFD, in texts and in keys.

    `mask` is applied to the copy.

    Raises NotStorable for NaN, infinity, keys that are not text, every other type, more than 64 KiB of
    compact JSON, or nesting deeper than 32.
    """
    if value is None:
        return None
    copy = plain(value, refuse=_refuse_result, mend=True)
    return copy if mask is None else mask.value(copy)


def error(raised: BaseException, *, step: str, mask: Mask | None = None) -> dict[str, object]:
    """An exception as jobs and steps store it: its type, its message in at most 4 KiB, and the step (None for "")."""
    try:
        words = str(raised) or type(raised).__name__
    except Exception:  # its own __str__ may raise anything
        words = f"{type(raised).__name__} that cannot be shown"
    message = text(words, limit=MAX_MESSAGE, mask=mask)
    return {"type": type(raised).__name__, "message": message, "step": step or None}


def plain(value: object, *, refuse: Refuse, mend: bool, reserved: str | None = None) -> object:
    """A copy of `value` in the types of JSON only, within MAX_BYTES and MAX_DEPTH.

    `refuse` is called for everything that JSON or PostgreSQL cannot hold; where it returns, the copy has null. Text
    with NUL or lone surrogates is repaired with `mend`, and refused without it. The key `reserved` is refused.
    """
    copier = _Copier(refuse, mend=mend, reserved=reserved)
    try:
        copy = copier.copy(value, None, 0)
        size = len(_compact(copy).encode())
    except _FullError:
        copy, size = None, MAX_BYTES + 1
    if size > MAX_BYTES:
        refuse("", f"has more than {MAX_BYTES:,} bytes as JSON")
    return copy


def mended(value: str) -> str:
    """`value` with U+FFFD for every character that PostgreSQL cannot store (NUL and lone surrogates)."""
    return _UNSTORABLE.sub("\ufffd", value)


def is_storable(value: str) -> bool:
    """Whether PostgreSQL can store the text as it is."""
    return _UNSTORABLE.search(value) is None


def pointer(keys: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a chain of keys and indexes."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in keys)


def part(value: object, keys: Iterable[str | int]) -> object:
    """The part of a JSON value that a chain of keys and indexes leads to; None where there is none."""
    for key in keys:
        if not isinstance(value, (dict, list)):
            return None
        try:
            value = value[key]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _refuse_result(at: str, message: str) -> None:
    raise NotStorable(f"result could not be stored: {at or 'it'} {message}")


def _cut_mark(count: int) -> str:
    return f" … ({count} bytes cut)"


class _Copier:
    """One walk over a value. It counts what it has seen, so that it ends for a value that contains itself."""

    def __init__(self, refuse: Refuse, *, mend: bool, reserved: str | None) -> None:
        self._refuse = refuse
        self._mend = mend
        self._reserved = reserved
        self._room = MAX_BYTES  # every value takes at least one byte

    def copy(self, value: object, path: Path, depth: int) -> object:
        self._room -= 1
        if self._room < 0:
            raise _FullError
        # Subclasses (enums, SafeString, numpy's float64) are stored as their base type.
        if isinstance(value, str):
            return self._text(str.__str__(value), path)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return self._integer(int(value), path)
        if isinstance(value, float):
            return self._number(float(value), path)
        if isinstance(value, (dict, list, tuple)):
            return self._container(value, path, depth + 1)
        name = type(value).__name__
        article = "an" if name[:1].lower() in "aeio" else "a"
        self._wrong(path, f"is {article} {name}; use text, numbers, lists or objects")
        return None

    def _container(
        self, value: dict[object, object] | list[object] | tuple[object, ...], path: Path, depth: int
    ) -> object:
        if depth > MAX_DEPTH:
            self._wrong(path, f"is nested deeper than {MAX_DEPTH} levels")
            return None
        if isinstance(value, dict):
            members = ((self._key(key, path), member) for key, member in value.items())
            return {key: self.copy(member, (path, key), depth) for key, member in members}
        return [self.copy(item, (path, index), depth) for index, item in enumerate(value)]

    def _key(self, key: object, path: Path) -> str:
        if isinstance(key, str):
            if key == self._reserved:
                self._wrong(path, f'has the key "{key}", which is reserved')
            return self._text(str.__str__(key), path, "has a key that")
        self._wrong(path, f"has a key of type {type(key).__name__}; keys must be text")
        return ""

    def _text(self, value: str, path: Path, what: str = "") -> str:
        if _UNSTORABLE.search(value) is None:
            return value
        if not self._mend:
            self._wrong(path, f"{what} contains a NUL character or a lone surrogate".lstrip())
        return mended(value)

    def _integer(self, value: int, path: Path) -> object:
        if value.bit_length() > _MAX_INTEGER_BITS:
            self._wrong(path, f"is an integer of more than {_MAX_INTEGER_BITS:,} bits")
            return None
        return value

    def _number(self, value: float, path: Path) -> object:
        if not math.isfinite(value):
            self._wrong(path, f"is {value}; JSON has finite numbers only")
            return None
        return value

    def _wrong(self, path: Path, message: str) -> None:
        keys: list[str | int] = []
        while path is not None:
            path, key = path
            keys.append(key)
        self._refuse(pointer(reversed(keys)), message)
