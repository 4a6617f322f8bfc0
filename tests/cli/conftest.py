"""Commands as users type them: in this process on the tests' database, or in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from jobsite import boot
from jobsite.cli.main import main

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(db: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Run a command, as in `run("jobs", "list", "--json")`. The servers and the tables exist already."""
    monkeypatch.setattr(boot, "prepare", lambda: None)
    # A command closes its connections at its end, which would end the transaction of the test.
    monkeypatch.setattr(connections, "close_all", lambda: None)

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    return call


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A JOBSITE_HOME for this test. Its servers are stopped at the end."""
    path = tmp_path / "home"
    yield path
    subprocess.run(
        [sys.executable, "-m", "jobsite.cli", "down"], env=environment(path), cwd=ROOT, check=True, timeout=60
    )


def environment(home: Path) -> dict[str, str]:
    """An environment in which only the folder is configured."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {"JOBSITE_HOME": str(home), "PYTHONUNBUFFERED": "1"}
