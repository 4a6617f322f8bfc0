"""What stands for a secret wherever people read: in parameters as they are stored, and in what a run says."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "••••"
SECRET_KEY = "$secret"  # noqa: S105 - the key under which a secret is stored, not a secret
MIN_LENGTH = 4
"""A shorter value is not looked for in texts: it would be found by chance, and reveal more than it hides."""
MAX_TEXTS = 500


def masked(value: Any) -> Any:
    """A copy of stored JSON in which every encrypted secret is ••••."""
    if isinstance(value, Mapping):
        if set(value) == {SECRET_KEY}:
            return MASK
        return {key: masked(one) for key, one in value.items()}
    if isinstance(value, list):
        return [masked(one) for one in value]
    return value


class Mask:
    """Hides the secrets of one run in what it says; its own `repr` shows none."""

    def __init__(self, texts: Iterable[str], values: Iterable[str]) -> None:
        """`texts` are looked for in texts, however escaped; `values`, as compact JSON, among numbers and containers."""
        # The longest first, so that a secret that contains another one is hidden as a whole; and not every short line
        # of a huge one, since each costs time at every character of every text.
        ordered = sorted(texts, key=len, reverse=True)[:MAX_TEXTS]
        self._pattern = re.compile("|".join(map(_escaped, ordered)))
        self._values = frozenset(values)
        self.longest = max(len(text) for text in ordered) * _LONGEST_ESCAPE
        """Bytes of the longest secret as it may be written: what cuts a text before `text` has seen it keeps these."""

    def text(self, value: str) -> str:
        """`value` with every secret in it as ••••; to be called before a text is cut."""
        return self._pattern.sub(MASK, value)

    def value(self, value: Any) -> Any:
        """A copy of JSON with every secret in its texts and keys, and every value that is one, as ••••."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, (int, float, dict, list)) and _compact(value) in self._values:
            return MASK
        if isinstance(value, dict):
            return {self.text(key): self.value(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.value(one) for one in value]
        return value


def mask_of(secrets: Iterable[object]) -> Mask | None:
    """The mask of these values; None where none of them can be looked for."""
    parts = [part for secret in secrets for part in _parts(secret)]
    texts = {text for part in parts for text in _texts(part) if len(text) >= MIN_LENGTH}
    values = {text for part in parts if len(text := part if isinstance(part, str) else _compact(part)) >= MIN_LENGTH}
    return Mask(texts, values) if texts else None


def _parts(secret: object) -> Iterator[object]:
    """A secret and what it consists of; true, false and null are words that stand in every text."""
    if secret is None or isinstance(secret, bool):
        return
    yield secret
    for part in secret.values() if isinstance(secret, dict) else secret if isinstance(secret, list) else ():
        yield from _parts(part)


def _texts(part: object) -> Iterator[str]:
    """How a secret may be written: a text also in a URL and line by line, another value as JSON and by Python."""
    if isinstance(part, str):
        in_urls = (quote(part, safe=""), quote_plus(part), quote(part), quote(part, safe="/?:@!$&'()*+,;="))
        yield from (part, *in_urls, *map(str.strip, part.splitlines()))
    else:
        yield from (_compact(part), json.dumps(part, ensure_ascii=False), repr(part))


# A text is escaped by JSON, by `repr`, and by one inside the other, which doubles every backslash. Possessive, since
# two repetitions that could share a run of backslashes would try every way to divide it.
_LONGEST_ESCAPE = 6
_NAMED = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


def _escaped(text: str) -> str:
    """A pattern for a text in every such writing."""
    return "".join(_after(run, char) for run, char in re.findall(r"(\\*)(.?)", text, re.DOTALL))


def _after(run: str, char: str) -> str:
    """A pattern for a run of backslashes, perhaps of none, and the character behind it, if there is one."""
    if not run and (not char or (char.isascii() and char.isalnum())):
        return char
    backslashes, optional = (rf"\\{{{len(run)},}}+", "") if run else (r"\\++", r"\\*+")
    if not char or (char.isascii() and char.isprintable()):
        return f"{backslashes if run else optional}{re.escape(char)}"
    codes = "|".join(_codes(char))
    if run:
        return f"{backslashes}(?:{re.escape(char)}|{codes})"
    return f"(?:{re.escape(char)}|{backslashes}(?:{codes}))"


def _codes(char: str) -> Iterator[str]:
    """What may stand behind the backslashes for a character that is not written as it is."""
    number = ord(char)
    if char in _NAMED:
        yield _NAMED[char]
    if number < 0x100:
        yield f"(?i:x{number:02x})"
    if number < 0x10000:
        yield f"(?i:u{number:04x})"
    else:
        high, low = divmod(number - 0x10000, 0x400)
        yield rf"(?i:U{number:08x}|u{0xD800 + high:04x}\\++u{0xDC00 + low:04x})"


_compact = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str).encode
