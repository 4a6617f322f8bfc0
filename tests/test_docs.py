"""What the Markdown files say is there: links, files, commands with their options, targets of the Makefile."""

import ast
import re
import tomllib
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.core.management import get_commands, load_command_class

import jobsite

ROOT = Path(__file__).resolve().parent.parent
# Not what tools make, nor what is reached by a link a second time.
FOLDERS = ("docs", "jobsite", "notifications", "programs", "templates", "tests", "deploy")
PAGES = sorted(
    [*ROOT.glob("*.md"), *chain.from_iterable((ROOT / folder).rglob("*.md") for folder in FOLDERS)],
    key=lambda page: page.relative_to(ROOT).parts,
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
FILE_ENDINGS = (".py", ".md", ".toml", ".sql", ".html", ".yaml", ".liquid", ".css")
COMMAND = re.compile(r"(?<!from )(?<!import )(?<!-A )(?<!--who )(?<![\w.-])jobsite ((?:(?!\bjobsite\b)[^`#\n|;&])+)")
TARGETS = ("install", "test", "one", "lint", "types", "demo")


def _prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text())


@cache
def _anchors(page: Path) -> frozenset[str]:
    """What the headings of a page are called in links, as GitHub has it."""
    plain = (heading.replace("`", "").lower() for heading in HEADING.findall(_prose(page)))
    return frozenset(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain)


@cache
def _files() -> frozenset[str]:
    """The names, without their folders, of all files that pages may mean."""
    below = chain.from_iterable((ROOT / folder).rglob("*") for folder in FOLDERS)
    return frozenset(path.name for path in [*ROOT.iterdir(), *below])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_to_a_file_and_to_a_heading_in_it(page):
    wrong = []
    for link in LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if target.is_dir():
            target /= "README.md"
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            wrong.append(link)

    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_that_is_named_exists(page):
    wrong = [code for code in CODE.findall(_prose(page)) if _looks_like_ours(code, page) and not _exists(code, page)]

    assert not wrong


def _looks_like_ours(code: str, page: Path) -> bool:
    """Whether the code is a path of the repository: by its first folder, or by how it ends."""
    if not PATH.fullmatch(code) or code.startswith((".jobsite", ".venv")):
        return False
    first = code.split("/")[0]
    return code.endswith(FILE_ENDINGS) or ("/" in code and (first in FOLDERS or (page.parent / first).is_dir()))


def _exists(code: str, page: Path) -> bool:
    if "/" not in code and code in _files():
        return True
    return any((place / f"{code}{ending}").exists() for place in (ROOT, page.parent) for ending in ("", ".py"))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_that_is_shown_exists_with_its_options(page):
    wrong = [f"jobsite {shown}: {error}" for shown in _commands(page) if (error := _error(shown))]

    assert not wrong


def _commands(page: Path) -> Iterator[str]:
    blocks = [text for language, text in FENCE.findall(page.read_text()) if language != "python"]
    for text in [*blocks, *CODE.findall(_prose(page))]:
        yield from (found.strip() for found in COMMAND.findall(text))


def _error(shown: str) -> str:
    """What is wrong with a command, such as `jobs list --since 1h`; empty where it is right."""
    words = shown.split()
    if not re.fullmatch(r"[a-z][a-z-]*", words[0]):
        return ""
    home = get_commands().get(words[0])
    if home is None:
        return f"no command {words[0]}"
    if home != "jobsite.cli":
        return ""
    parser: ArgumentParser = load_command_class(home, words[0]).create_parser("jobsite", words[0])
    for word in words[1:]:
        groups = [action for action in parser._actions if isinstance(action, _SubParsersAction)]
        if groups and re.fullmatch(r"[a-z][a-z-]*", word):
            if word not in groups[0].choices:
                return f"no sub-command {word}"
            parser = groups[0].choices[word]
        elif word.startswith("--") and word.partition("=")[0].rstrip(",") not in parser._option_string_actions:
            return f"no option {word}"
    return ""


@pytest.mark.parametrize(
    ("shown", "error"),
    [
        ("jobs list --since 1h", ""),
        ("jobs lst", "no sub-command lst"),
        ("jobs list --sinse 1h", "no option --sinse"),
        ("jbos list", "no command jbos"),
        ("notifications rules create ops --event FAILED", ""),
        ("notifications rules invent", "no sub-command invent"),
        ("migrate", ""),
    ],
)
def test_the_search_finds_what_is_wrong_with_a_command(shown, error):
    assert _error(shown) == error


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_example_is_whole_and_takes_only_public_names(page):
    for language, text in FENCE.findall(page.read_text()):
        if language == "toml":
            assert tomllib.loads(text)
        if language == "python":
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom) and node.module == "jobsite":
                    assert {alias.name for alias in node.names} <= {*jobsite.__all__}


def test_the_readme_can_be_read_in_one_go():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


PAGES_OF_THE_MANUAL = [page for page in PAGES if page.parent == ROOT / "docs"]


@pytest.mark.parametrize("page", PAGES_OF_THE_MANUAL, ids=[page.name for page in PAGES_OF_THE_MANUAL])
def test_a_page_of_the_manual_says_whom_it_is_for_and_is_in_the_index(page):
    assert re.match(r"# .+\n\nThis (page|index) is for ", page.read_text())
    assert page.name == "README.md" or f"({page.name})" in (ROOT / "docs" / "README.md").read_text()


def test_the_makefile_has_the_targets_that_one_needs_and_that_pages_name():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {found for page in PAGES for found in re.findall(r"^make ([a-z]+)", page.read_text(), re.MULTILINE)}

    assert targets >= {*TARGETS, *named}
