"""Check the structure of the code by reading it: floors, doors, one writer of status, pure modules, sizes."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# The folders programs, notifications and templates in `jobsite` are links, which rglob does not follow.
FILES = sorted(
    path
    for package in ("jobsite", "notifications", "programs")
    for path in (ROOT / package).rglob("*.py")
    if "migrations" not in path.parts
)

# From the bottom up. A room imports only rooms on lower floors. Rooms on one floor do not import each other.
FLOORS = (
    "jobsite.errors jobsite.env jobsite.processes jobsite.logs jobsite.vault jobsite.outgoing jobsite.database",
    "jobsite.failpoints jobsite.celery jobsite.embedded",
    "jobsite.boot jobsite.brokers",
    "jobsite.values",
    "jobsite.tenants",
    "jobsite.admin",
    "jobsite.notifications",
    "jobsite.programs.rules",
    "jobsite.programs.parameters jobsite.programs.models jobsite.programs.sql",
    "jobsite.programs.transitions jobsite.programs.invariants",
    "jobsite.programs.workers jobsite.programs.dispatch",
    "jobsite.programs.queues jobsite.programs.families jobsite.programs.submission",
    "jobsite.programs.context jobsite.programs.schedules",
    "jobsite.programs.actions jobsite.programs.inspection",
    "jobsite.programs.definitions",
    "jobsite.programs.execution jobsite.programs.operations",
    "jobsite.programs.upkeep",
    "jobsite.programs.worker jobsite.programs.admin",
    "jobsite.bench",
    "jobsite.cli",
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
# Django, Celery and uvicorn find these by name. No module imports them.
ROOF = (
    "jobsite",
    "jobsite.samples",
    "jobsite.programs",
    "jobsite.settings",
    "jobsite.urls",
    "jobsite.asgi",
    "jobsite.apps",
    "jobsite.programs.apps",
)
# Doors only translate. Of programs, they import nothing but these rooms.
DOORS = ("jobsite.programs.admin", "jobsite.cli")
BEHIND_DOORS = {
    f"jobsite.programs.{room}"
    for room in ("operations", "inspection", "submission", "schedules", "definitions", "models", "rules", "parameters")
}
BEHIND_DOORS_TOO = {
    ("jobsite.cli.management.commands.doctor", "jobsite.programs.invariants"): "it checks the invariants",
    ("jobsite.cli.management.commands.sweep", "jobsite.programs.upkeep"): "it runs the sweeps",
    ("jobsite.cli.management.commands.worker", "jobsite.programs.workers"): "it finds the manager before Celery starts",
}
PURE = ("jobsite.values", "jobsite.programs.rules", "jobsite.programs.parameters", "jobsite.programs.definitions")
IMPURE = {
    "jobsite.programs.parameters.secrets": "it encrypts with the installation's keys",
    "jobsite.programs.definitions.registration": "it enters programs into the database",
}
LONGEST_FILE, LONGEST_FUNCTION = 300, 50


def _name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name if path.is_relative_to(ROOT / "jobsite") else f"jobsite.{name}"


MODULES = {_name(path): path for path in FILES}


def _imports(path: Path) -> Iterator[tuple[str, str | None]]:
    """Everything of jobsite that a file imports: the module, and the name in it (None for the module itself)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in MODULES:
                    yield inner, None
                elif node.module in MODULES:
                    yield node.module, alias.name


def _room(module: str) -> str | None:
    """The room that a module is or belongs to; None on the roof."""
    parts = module.split(".")
    ways = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((way for way in ways if way in FLOOR), None)


def _all_of(module: str) -> list[str]:
    """The names in `__all__` of a package."""
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return []


def test_every_module_stands_on_a_floor() -> None:
    assert not [module for module in MODULES if _room(module) is None and module not in ROOF]
    assert not [room for room in FLOOR if room not in MODULES]


@pytest.mark.parametrize("module", [one for one in MODULES if one not in ROOF])
def test_imports_go_down(module: str) -> None:
    own = _room(module)
    assert own is not None

    for imported, _ in _imports(MODULES[module]):
        room = _room(imported)
        assert room is not None, f"{module} imports {imported}, which is for users, or found by name"
        assert room == own or FLOOR[room] < FLOOR[own], f"{module} imports {imported}, which is not below it"


def test_there_is_no_circle() -> None:
    graph = {module: {imported for imported, _ in _imports(path)} - {module} for module, path in MODULES.items()}

    while leaves := [module for module, imported in graph.items() if not imported & graph.keys()]:
        for leaf in leaves:
            del graph[leaf]

    assert not graph, f"these modules import each other, or modules that do: {sorted(graph)}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_package_is_entered_by_its_door(module: str) -> None:
    """Other packages import only the names in `__all__` of a package, or names in the modules listed there."""
    inside = _room(module)
    for imported, name in _imports(MODULES[module]):
        room = _room(imported)
        if room is None or room == inside or MODULES[room].name != "__init__.py":
            continue
        wanted = name if imported == room else imported.removeprefix(f"{room}.").split(".")[0]
        if wanted is not None:
            assert wanted in _all_of(room), f"{module} imports {imported} ({name}), which {room} does not offer"


@pytest.mark.parametrize("module", [one for one in MODULES if _room(one) in DOORS])
def test_doors_hold_no_rules(module: str) -> None:
    for imported, _ in _imports(MODULES[module]):
        room = _room(imported)
        if room is None or not room.startswith("jobsite.programs.") or room == _room(module):
            continue
        assert room in BEHIND_DOORS or (module, room) in BEHIND_DOORS_TOO, f"{module} imports {imported}"


@pytest.mark.parametrize(
    "module", [one for one in MODULES if _room(one) in PURE and one not in IMPURE and one not in PURE]
)
def test_pure_modules_do_no_io_and_read_no_clock(module: str) -> None:
    text = MODULES[module].read_text()
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert not imported & {"django", "psycopg", "redis", "celery"}
    assert not re.search(r"\.now\(|\.utcnow\(|time\.time\(|time\.monotonic\(|\bopen\(", text)


STATUS_WRITE = re.compile(
    r"UPDATE\s+jobsite_job\b(?:(?!\bWHERE\b).)*?\bSET\b(?:(?!\bWHERE\b).)*?\bstatus\s*=|INSERT\s+INTO\s+jobsite_job\s*\(",
    re.IGNORECASE | re.DOTALL,
)


# The benchmark fills a database of its own with millions of rows.
FILLERS = ("jobsite.bench.growth", "jobsite.bench.bodies.rules")


@pytest.mark.parametrize(
    "module", [one for one in MODULES if _room(one) != "jobsite.programs.transitions" and one not in FILLERS]
)
def test_only_transitions_write_a_jobs_status(module: str) -> None:
    text = MODULES[module].read_text()

    assert not STATUS_WRITE.search(text)
    assert not re.search(r"Job\.objects[^\n]*\.(update|create|bulk_create|bulk_update|update_or_create|delete)\(", text)


TRANSITIONS = [one for one in MODULES if _room(one) == "jobsite.programs.transitions"]


def test_the_search_for_writers_finds_the_known_ones() -> None:
    writers = {one.rpartition(".")[2] for one in TRANSITIONS if STATUS_WRITE.search(MODULES[one].read_text())}

    assert writers >= {"submit", "dispatch", "claim", "finish", "give_back", "reap", "cancel", "hold"}


@pytest.mark.parametrize("module", TRANSITIONS)
def test_transitions_know_no_clock_but_the_databases(module: str) -> None:
    assert not re.search(r"timezone\.now|datetime\.now|time\.(time|monotonic)\(", MODULES[module].read_text())


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nothing_is_too_long_to_read(module: str) -> None:
    text = MODULES[module].read_text()

    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_everything_public_says_what_it_promises(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
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
    """Whether a class's methods need docstrings. Those of a Protocol are described by the class."""
    return not node.name.startswith("_") and not any("Protocol" in ast.unparse(base) for base in node.bases)


def _is_obvious(node: ast.AST) -> bool:
    """Whether it needs no docstring: a TextChoices is clear from its values, a property from its name."""
    if isinstance(node, ast.ClassDef):
        return any("TextChoices" in ast.unparse(base) for base in node.bases)
    decorators = getattr(node, "decorator_list", [])
    return any("property" in ast.unparse(decorator) for decorator in decorators)
