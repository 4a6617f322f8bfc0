"""The one e-mail page that every HTML body is put into, and a body made of plain text. Tenants cannot edit it."""

import html
import re
from collections.abc import Mapping
from functools import cache
from string import Template

from jobsite.notifications.sections import FOLDER

RED, AMBER, GREEN, BLUE = "#c9372c", "#b8860b", "#2e8540", "#2d72d9"
COLORS = {
    **dict.fromkeys(("FAILED", "STUCK", "PROGRAM_TERMINATED", "SCHEDULE_MISSED"), RED),
    **dict.fromkeys(("RETRYING", "LATE", "CANCELED"), AMBER),
    **dict.fromkeys(("COMPLETED", "RECOVERED", "SCHEDULE_RECOVERED"), GREEN),
}
"""The color of the line on top of the page; for all other events it is blue."""

_OUTCOMES = {"WARNING": AMBER, "ERROR": RED}
_LINK = re.compile(r"https?://[^\s<>\"]+")
_ENDING = ".,;:!?)]'"


def page(body: str, *, subject: str, language: str, facts: Mapping[str, object]) -> str:
    """A whole HTML document; `body` is HTML, everything else is escaped here."""
    return _layout().substitute(
        body=body,
        subject=html.escape(subject),
        language=html.escape(language.replace("_", "-")),
        color=_color(facts),
        tenant=html.escape(str(_get(facts, "tenant", "name") or "")),
    )


def paragraphs(text: str) -> str:
    """The HTML body for a plain text: paragraphs, line breaks, and http(s) addresses as links."""
    blocks = re.split(r"\n(?:[ \t]*\n)+", text.strip())
    return "\n".join(f"<p>{'<br>'.join(map(_linked, block.splitlines()))}</p>" for block in blocks if block)


def _linked(line: str) -> str:
    """The line escaped, its addresses as links; they are found before escaping, since `&amp;` is part of none."""
    parts, end = [], 0
    for match in _LINK.finditer(line):
        url = match.group().rstrip(_ENDING)
        parts.append(html.escape(line[end : match.start()]))
        parts.append(f'<a href="{html.escape(url)}" style="color: {BLUE};">{html.escape(url)}</a>')
        end = match.start() + len(url)
    return "".join(parts) + html.escape(line[end:])


def _color(facts: Mapping[str, object]) -> str:
    name = _get(facts, "event", "name")
    if name == "COMPLETED" and (color := _OUTCOMES.get(str(_get(facts, "job", "outcome")))):
        return color
    return COLORS.get(str(name), BLUE)


def _get(facts: Mapping[str, object], thing: str, field: str) -> object:
    found = facts.get(thing)
    return found.get(field) if isinstance(found, Mapping) else None


@cache
def _layout() -> Template:
    return Template((FOLDER / "_layout.html").read_text(encoding="utf-8"))
