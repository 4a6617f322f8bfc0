"""Many runs one after another, each a process with servers of its own. A table of all is printed at the end."""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.installation import ROOT, Installation

COLUMNS = "{:<9} {:>5}  {:>6} {:>6} {:>9} {:>7} {:>7} {:>7}  {:<7} {}"
SHOWN_FAULTS = 4


@dataclass(frozen=True)
class Planned:
    """One run to do."""

    name: str
    seed: int
    limit: float


def run(options: argparse.Namespace) -> int:
    """Do the runs that the command line names. Returns 1 when one of them was broken."""
    if options.log:
        return _in_background(options.log)
    planned = _planned(options)
    began = time.monotonic()
    reports = []
    for place, one in enumerate(planned, start=1):
        _say(f"==== {place} of {len(planned)}: {one.name} seed {one.seed}, {time.monotonic() - began:.0f} s so far")
        reports.append(_one(one, options))
        _say(f"so far {sum(bool(report['broken']) for report in reports)} of {len(reports)} broken")
    _table(reports, time.monotonic() - began)
    return 1 if any(report["broken"] for report in reports) else 0


def _in_background(log: Path) -> int:
    words = [word for word in sys.argv[1:] if not word.startswith("--log=")]
    if "--log" in words:
        place = words.index("--log")
        del words[place : place + 2]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _say(f"process {process.pid} runs, its output is in {log}")
    return 0


def _planned(options: argparse.Namespace) -> list[Planned]:
    installation = Installation(ROOT / ".jobsite" / "chaos" / "list-0")
    installation.enter()
    import django

    django.setup()
    from tests.chaos.scenarios import SCENARIOS

    chosen = list(SCENARIOS) if options.names == ["all"] else options.names
    if unknown := [name for name in chosen if name not in SCENARIOS]:
        raise SystemExit(f"there is no scenario {', '.join(unknown)}; the scenarios are {', '.join(SCENARIOS)}")
    found = []
    for name in chosen:
        seeds = options.seed or range(1, (SCENARIOS[name].seeds if options.names == ["all"] else 1) + 1)
        found += [Planned(name, seed, SCENARIOS[name].limit) for seed in seeds]
    return found


def _one(planned: Planned, options: argparse.Namespace) -> dict[str, Any]:
    report = ROOT / ".jobsite" / "chaos" / f"{planned.name}-{planned.seed}.json"
    report.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "tests.chaos", planned.name, "--seed", str(planned.seed), "--report", str(report)]
    argv += ["--size", f"{options.size:g}"] + (["--grouped"] if options.grouped else [])
    ended = subprocess.run(argv, cwd=ROOT, check=False)
    if report.exists():
        found: dict[str, Any] = json.loads(report.read_text())
        return found
    return {"scenario": planned.name, "seed": planned.seed, "broken": [f"the run ended with {ended.returncode}"]}


def _table(reports: list[dict[str, Any]], seconds: float) -> None:
    _say(COLUMNS.format("scenario", "seed", "jobs", "lost", "runs lost", "twice", "ran 2x", "s", "", "faults"))
    for report in reports:
        faults = sorted(report.get("faults", {}).items(), key=lambda fault: -fault[1])
        shown = [report.get(key, "-") for key in ("jobs", "not_ended", "runs_lost", "completed_twice", "ran_twice")]
        _say(
            COLUMNS.format(
                report["scenario"] + (" grouped" if report.get("grouped") else ""),
                report["seed"],
                *shown,
                report.get("seconds", "-"),
                "BROKEN" if report["broken"] else "held",
                ", ".join(f"{count} {name}" for name, count in faults[:SHOWN_FAULTS]),
            )
        )
    for report in reports:
        for sentence in report["broken"]:
            _say(f"BROKEN {report['scenario']} seed {report['seed']}: {sentence}")
    _say(f"{len(reports)} runs, {sum(bool(report['broken']) for report in reports)} broken, {seconds:.0f} s")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
