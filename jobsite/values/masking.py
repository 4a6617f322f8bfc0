"""Mask secrets wherever people read: in stored parameters, and in all that a run writes."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "••••"
SECRET_KEY = "$secret"  # noqa: S105 - the key under which a secret is stored, not a secret
MIN_LENGTH = 4
"""A shorter secret is not looked for in texts: it would match by chance, and the masks would reveal it."""
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
    """Masks the secrets of one run in all that it writes. Its own `repr` shows none."""

    def __init__(self, texts: Iterable[str], values: Iterable[str]) -> None:
        """`texts` are looked for in texts, however escaped; `values`, compact JSON, are compared with other values."""
        # The longest come first, so that a secret that contains another one is masked as a whole. Their number is
        # limited, because each line of a huge secret costs time at every character of every text.
        ordered = sorted(texts, key=len, reverse=True)[:MAX_TEXTS]
        self._pattern = re.compile("|".join(map(_escaped, ordered)))
        self._values = frozenset(values)
        self.longest = max(len(text) for text in ordered) * _LONGEST_ESCAPE
        """The bytes of the longest secret in any writing. Code that cuts a text before masking it must keep these."""

    def text(self, value: str) -> str:
        """`value` with every secret replaced by ••••. Call it before a text is cut."""
        return self._pattern.sub(MASK, value)

    def value(self, value: Any) -> Any:
        """A copy of JSON with •••• for every secret in its texts and keys, and for every value that is a secret."""
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
    """The mask for these secrets; None where none of them can be looked for."""
    parts = [part for secret in secrets for part in _parts(secret)]
    texts = {text for part in parts for text in _texts(part) if len(text) >= MIN_LENGTH}
    values = {text for part in parts if len(text := part if isinstance(part, str) else _compact(part)) >= MIN_LENGTH}
    return Mask(texts, values) if texts else None


def _parts(secret: object) -> Iterator[object]:
    """A secret and its parts, without true, false and null: these words are in every text."""
    if secret is None or isinstance(secret, bool):
        return
    yield secret
    for part in secret.values() if isinstance(secret, dict) else secret if isinstance(secret, list) else ():
        yield from _parts(part)


def _texts(part: object) -> Iterator[str]:
    """The ways to write a secret: a text also in a URL and line by line, any other value as JSON and in Python."""
    if isinstance(part, str):
        in_urls = (quote(part, safe=""), quote_plus(part), quote(part), quote(part, safe="/?:@!$&'()*+,;="))
        yield from (part, *in_urls, *map(str.strip, part.splitlines()))
    else:
        yield from (_compact(part), json.dumps(part, ensure_ascii=False), repr(part))


# JSON and `repr` escape a text, and one inside the other doubles every backslash. The quantifiers are possessive:
# otherwise two repetitions could share a run of backslashes, and matching would try every way to divide it.
_LONGEST_ESCAPE = 6
_NAMED = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}


def _escaped(text: str) -> str:
    """A pattern that matches a text however it is escaped."""
    return "".join(_after(run, char) for run, char in re.findall(r"(\\*)(.?)", text, re.DOTALL))


def _after(run: str, char: str) -> str:
    """A pattern for a run of backslashes, which may be empty, and the character after it, if there is one."""
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
    """What may follow the backslashes for an escaped character."""
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
