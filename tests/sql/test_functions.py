"""The .sql files hold exactly the functions and triggers that the migrations make."""

import ast
import re
from pathlib import Path

import pytest

from jobsite.database import Cursor
from jobsite.programs.rules.lifecycle import MOVES
from tests.sql.functions import FILES, GUARD, ROOT, defined, drop_all, squeezed, with_moves

MIGRATIONS = sorted(
    path
    for folder in ("jobsite/tenants", "notifications", "programs")
    for path in (ROOT / folder / "migrations").glob("[0-9]*.py")
)


def test_the_migrated_database_has_what_the_files_say(cursor: Cursor) -> None:
    migrated = defined(cursor)
    drop_all(cursor)
    assert defined(cursor) == {}

    for path in FILES:
        cursor.execute(path.read_text())

    assert defined(cursor) == migrated


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE FUNCTION forgotten() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "DROP FUNCTION jobsite_lane_is_empty",
        "CREATE OR REPLACE FUNCTION jobsite_lane_is_empty(queue bigint, tenant bigint) RETURNS boolean"
        " LANGUAGE sql AS 'SELECT true'",
        "CREATE TRIGGER forgotten BEFORE DELETE ON jobsite_tenant"
        " FOR EACH ROW EXECUTE FUNCTION jobsite_never_deleted()",
        "DROP TRIGGER audit_guard ON jobsite_auditentry",
        "CREATE RULE forgotten AS ON DELETE TO jobsite_auditentry DO INSTEAD NOTHING",
    ],
)
def test_any_other_difference_is_noticed(cursor: Cursor, statement: str) -> None:
    before = defined(cursor)

    cursor.execute(statement)

    assert defined(cursor) != before


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_can_be_executed_again_and_defines_the_function_of_its_name(cursor: Cursor, path: Path) -> None:
    drop_all(cursor)
    for _ in range(2):
        cursor.execute(path.read_text())

    assert {name.partition("(")[0] for name in defined(cursor) if "(" in name} == {path.stem}


def test_comments_and_layout_are_not_compared_but_texts_are() -> None:
    assert squeezed("SELECT  1, -- one\n  -- more\n'a  -- b'") == "SELECT 1, 'a  -- b'"
    assert squeezed("SELECT 'a  b'") != squeezed("SELECT 'a b'")


def test_the_guards_moves_are_those_of_the_lifecycle() -> None:
    text = GUARD.read_text()

    assert with_moves(text) == text, "run: python -m tests.sql"
    listed = [
        (source, target)
        for source, targets in re.findall(r"WHEN '(\w+)' THEN NEW.status IN \((.*?)\)", text, re.DOTALL)
        for target in re.findall(r"'(\w+)'", targets)
    ]
    assert len(listed) == len(MOVES)
    assert set(listed) == MOVES


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_a_migration_imports_nothing_of_jobsite_and_reads_no_file(path: Path) -> None:
    text = path.read_text()
    imported = {
        name
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [f"{'.' * node.level}{node.module or ''}"]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert {name.partition(".")[0] for name in imported} <= {"django"}
    assert not re.search(r"import_module|__import__|read_text|open\(", text)


def test_there_are_migrations_of_each_application() -> None:
    assert {path.parent.parent.name for path in MIGRATIONS} == {"tenants", "notifications", "programs"}
