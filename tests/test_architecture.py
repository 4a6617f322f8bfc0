"""The structure of the code, held by reading it: direction of imports, one writer of status, pure modules."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path
    for package in ("jobsite", "notifications", "programs")
    for path in (ROOT / package).rglob("*.py")
    if "migrations" not in path.parts
)

# What nobody imports: Django, Celery and uvicorn find these by name.
ENTRY_POINTS = ("jobsite.cli", "jobsite.programs.admin", "jobsite.programs.tasks", "jobsite.programs.beat", "jobsite.programs.worker_boot",
                "jobsite.programs.worker_consumer", "jobsite.bench", "jobsite.urls", "jobsite.asgi",
                "jobsite.samples")  # fmt: skip
# The one module that may open such a door after all.
DOORS = {"jobsite.bench": "jobsite.cli.management.commands.bench"}
PURE = ("lifecycle", "retries", "parameters", "schema_rules", "schema_checks", "schema_errors", "definitions",
        "schema_secrets", "definition_values", "durations", "times", "storable", "masking", "stops",
        "cron", "recurrence", "coroutines")  # fmt: skip
# Each module of programs imports only what stands in a line below its own, or beside it in the same line's package.
LAYERS = (
    ("worker_boot", "worker_consumer", "beat", "tasks", "apps", "periodic_tasks", "notifying"),
    ("execution",),
    ("watcher",),
    ("system_programs", "lookout"),
    ("completion", "registration"),
    ("program_cache", "queues", "group"),
    ("sweeps", "measures", "actions", "housekeeping"),
    ("steering", "pausing", "explain", "bulk", "context", "backfills", "schedules", "telling"),
    ("children", "firing"),
    ("readiness",),
    ("turns", "schedule_checks"),
    ("submission", "rotation"),
    ("preparation", "presentation", "queries", "diagnosis", "invariants"),
    ("quotas",),
    ("steps",),
    ("resolution",),
    ("workers", "dispatch", "audit", "asking"),
    ("job_log", "secrets"),
    ("transitions",),
    ("principals",),
    ("models",),
    PURE,
)
LEVEL = {name: len(LAYERS) - number for number, layer in enumerate(LAYERS) for name in layer}
# Where the code imports upwards, and why.
UPWARDS = {
    ("actions", "context"): "the runners name the context for the type checker",
    ("context", "actions"): "what an action is, and how it fails",
    ("children", "actions"): "how an action fails",
    ("queues", "sweeps"): "the rows of the sweeps are made with those of the queues",
}


def _name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if path.is_relative_to(ROOT / "jobsite") else f"jobsite.{name}"


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also `from package import module`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_nobody_imports_an_entry_point(path: Path) -> None:
    importer = _name(path)

    found = {
        (imported, entry)
        for imported in _imports(path)
        for entry in ENTRY_POINTS
        if _is_below(imported, entry) and not _is_below(importer, entry) and DOORS.get(entry) != importer
    }

    assert not found


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[-2] != "admin"], ids=_name)
def test_the_ground_floor_does_not_know_programs(path: Path) -> None:
    importer = _name(path)
    is_roof = any(_is_below(importer, entry) for entry in ENTRY_POINTS)
    if importer.startswith(("jobsite.programs", "jobsite.notifications")) or is_roof:
        return

    assert not [imported for imported in _imports(path) if _is_below(imported, "jobsite.programs")]


@pytest.mark.parametrize("path", [path for path in FILES if _is_below(_name(path), "jobsite.programs")], ids=_name)
def test_imports_inside_programs_point_down(path: Path) -> None:
    importer = _name(path).split(".")[2] if _name(path).count(".") > 1 else "apps"
    if importer == "admin":
        return

    for imported in _imports(path):
        module = imported.split(".")[2] if imported.startswith("jobsite.programs.") else None
        if module is None or module not in LEVEL or module == importer or (importer, module) in UPWARDS:
            continue
        assert LEVEL[module] <= LEVEL[importer], f"{importer} imports {module}, which stands above it"


def test_every_module_has_its_layer() -> None:
    modules = {path.stem for path in (ROOT / "programs").glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in (ROOT / "programs").glob("*/__init__.py")} - {"migrations", "admin"}

    assert modules | packages == set(LEVEL)


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_do_no_io_and_read_no_clock(name: str) -> None:
    path = ROOT / "programs" / f"{name}.py"
    text = path.read_text()

    forbidden = [
        module for module in _imports(path) if module.split(".")[0] in ("django", "psycopg", "redis", "celery")
    ]

    assert not forbidden
    assert not re.search(r"\.now\(|\.utcnow\(|time\.time\(|time\.monotonic\(|\bopen\(", text)


STATUS_WRITE = re.compile(
    r"UPDATE\s+jobsite_job\b(?:(?!\bWHERE\b).)*?\bSET\b(?:(?!\bWHERE\b).)*?\bstatus\s*=|INSERT\s+INTO\s+jobsite_job\s*\(",
    re.IGNORECASE | re.DOTALL,
)


# The benchmark fills a database of its own with millions of rows that were never jobs.
FILLERS = ("jobsite.bench.growth", "jobsite.bench.bodies.rules")


@pytest.mark.parametrize(
    "path", [path for path in FILES if "transitions" not in path.parts and _name(path) not in FILLERS], ids=_name
)
def test_only_transitions_write_a_jobs_status(path: Path) -> None:
    text = path.read_text()

    assert not STATUS_WRITE.search(text)
    assert not re.search(r"Job\.objects[^\n]*\.(update|create|bulk_create|bulk_update|update_or_create|delete)\(", text)


def test_the_search_for_writers_finds_those_there_are() -> None:
    writers = {
        path.stem for path in (ROOT / "programs" / "transitions").glob("*.py") if STATUS_WRITE.search(path.read_text())
    }

    assert writers >= {"submit", "dispatch", "claim", "finish", "give_back", "reap", "cancel", "hold"}


@pytest.mark.parametrize("path", sorted((ROOT / "programs" / "transitions").glob("*.py")), ids=_name)
def test_transitions_know_no_clock_but_the_databases(path: Path) -> None:
    assert not re.search(r"timezone\.now|datetime\.now|time\.(time|monotonic)\(", path.read_text())


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_everything_public_says_what_it_promises(path: Path) -> None:
    tree = ast.parse(path.read_text())
    if not tree.body:
        return  # an empty __init__.py
    silent = [
        node.name
        for node in [
            *tree.body,
            *(part for body in tree.body if isinstance(body, ast.ClassDef) for part in body.body if _is_public(body)),
        ]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and node.name != "Meta"
        and not ast.get_docstring(node)
        and not _is_obvious(node)
    ]

    assert ast.get_docstring(tree), "a module says in its first line what it owns"
    assert not silent


def _is_public(node: ast.ClassDef) -> bool:
    """Whether a class's methods are for others: a Protocol's are described by the class as a whole."""
    return not node.name.startswith("_") and not any("Protocol" in ast.unparse(base) for base in node.bases)


def _is_obvious(node: ast.AST) -> bool:
    """A TextChoices says all by its values, a property by its name."""
    if isinstance(node, ast.ClassDef):
        return any("TextChoices" in ast.unparse(base) for base in node.bases)
    decorators = getattr(node, "decorator_list", [])
    return any("property" in ast.unparse(decorator) for decorator in decorators)
