"""docs/sql/ holds the hot statements as the code sends them."""

import re

import pytest

from jobsite.database import Cursor
from tests.sql.statements import FOLDER, STATEMENTS, Statement


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.name)
def test_the_page_of_a_statement_is_its_text(statement: Statement) -> None:
    assert statement.path.read_text() == statement.page, "run: python -m tests.sql"


def test_there_is_no_page_of_anything_else() -> None:
    assert {path.stem for path in FOLDER.glob("*.sql")} == {one.name for one in STATEMENTS}
    assert len({one.name for one in STATEMENTS}) == len(STATEMENTS)


def test_the_list_of_the_pages_is_complete() -> None:
    listed = re.findall(r"^\| `(\w+)` \| (.*) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE)

    assert listed == [(one.name, one.does) for one in STATEMENTS], "run: python -m tests.sql"


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda one: one.name)
def test_a_statement_can_be_explained(cursor: Cursor, statement: Statement) -> None:
    cursor.execute(f"EXPLAIN (GENERIC_PLAN) {statement.numbered}")

    assert "cost=" in cursor.fetchone()[0]
