"""The functions and triggers of the database: what their files say, and what the catalog says."""

import re
from pathlib import Path

from jobsite.database import Cursor
from jobsite.programs.rules.lifecycle import MOVES, TRANSITIONS, Status

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = sorted(
    path
    for folder in ("jobsite/tenants", "notifications", "programs")
    for path in (ROOT / folder / "sql").glob("*.sql")
)
GUARD = ROOT / "programs" / "sql" / "jobsite_job_guard.sql"
BEGIN, END = "-- Moves: begin\n", "-- Moves: end\n"

# A text in quotes stays as it is; comments and white space mean nothing to the server.
_QUOTED_OR_BLANK = re.compile(r"('(?:[^']|'')*')|(?:--[^\n]*|\s)+")
# All functions of the schema, except those that belong to an extension.
_FUNCTIONS = """
SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid)
FROM pg_proc p
WHERE p.pronamespace = current_schema()::regnamespace
      AND NOT EXISTS (SELECT FROM pg_depend d
                      WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
"""
_TRIGGERS = """
SELECT t.tgname || ' on ' || t.tgrelid::regclass, pg_get_triggerdef(t.oid)
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace
"""
_RULES = """
SELECT r.rulename || ' on ' || r.ev_class::regclass, pg_get_ruledef(r.oid)
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
WHERE c.relnamespace = current_schema()::regnamespace
"""


def defined(cursor: Cursor) -> dict[str, str]:
    """Each function, trigger and rule of the database, and its definition without comments and layout."""
    found: dict[str, str] = {}
    for question in (_FUNCTIONS, _TRIGGERS, _RULES):
        cursor.execute(question)
        found |= {name: squeezed(definition) for name, definition in cursor.fetchall()}
    return found


def squeezed(text: str) -> str:
    """The SQL without comments, each white space a single blank."""
    return _QUOTED_OR_BLANK.sub(lambda match: match[1] or " ", text)


def drop_all(cursor: Cursor) -> None:
    """Drop every function of the database, and with it its triggers."""
    cursor.execute(_FUNCTIONS)
    for signature, _ in cursor.fetchall():
        cursor.execute(f"DROP FUNCTION {signature} CASCADE")


def with_moves(text: str) -> str:
    """The text of the guard with the moves of the lifecycle between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    indent = before.rpartition("\n")[2]
    lines = "".join(f"{indent}{line}\n" for line in _moves())
    return f"{before}{BEGIN}{lines}{indent}{END}{after}"


def _moves() -> list[str]:
    lines = []
    for source in Status:
        targets = [target for target in Status if (source, target) in MOVES]
        if targets:
            lines.append(f"WHEN '{source}' THEN NEW.status IN (")
            for target in targets:
                listed = f"'{target}'" + ("," if target != targets[-1] else "")
                lines.append(f"    {listed:<12}  -- {_names(source, target)}")
            lines.append(")")
    return lines


def _names(source: Status, target: Status) -> str:
    return ", ".join(one.name for one in TRANSITIONS if source in one.sources and target in one.targets)
