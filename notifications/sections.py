"""Our own notification templates as files: sections `subject`, `text`, `html`, each begun by a line `--- name`."""

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "templates" / "notifications"
LANGUAGES = ("en", "de", "fr", "es")
_MARK = re.compile(r"^--- (subject|text|html)[ \t]*\n", re.MULTILINE)


@cache
def read(name: str) -> dict[str, str]:
    """The sections of templates/notifications/<name>.liquid by name, without the blank lines around each."""
    _before, *found = _MARK.split((FOLDER / f"{name}.liquid").read_text(encoding="utf-8"))
    return {part: source.strip() for part, source in zip(found[::2], found[1::2], strict=True)}


@cache
def partials(language: str, part: str) -> dict[str, str]:
    """What `{% render 'name' %}` finds in this part (`text` or `html`) of a template in this language.

    They are the files `_name.<language>.liquid`, and `_name.liquid` for what has no words.
    """
    files = [file for file in FOLDER.glob("_*.liquid") if file.name.split(".")[1] in (language, "liquid")]
    return {file.name.split(".")[0].removeprefix("_"): read(file.stem)[part] for file in sorted(files)}
