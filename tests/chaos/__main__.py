"""Break everything on purpose: `python -m tests.chaos R2 --seed 7`, `--list`, or `all --log FILE`.

Several names run one after another, each on servers of its own. The exit status is 1 when something did not hold; the
output has the command that runs that seed again.
"""

import argparse
import json
import sys
from pathlib import Path

from tests.chaos.installation import ROOT, Installation


def main() -> int:
    """Entry point."""
    options = _parser().parse_args()
    if options.names == ["all"] or len(options.names) > 1 or len(options.seed) > 1:
        from tests.chaos import series

        return series.run(options)
    name, seed = (options.names or [""])[0], options.seed[0] if options.seed else 1
    folder = ROOT / ".jobsite" / "chaos" / f"{name or 'list'}-{seed}"
    installation = Installation(folder)
    installation.enter()
    return _run(options, installation, name, seed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="SCENARIO", help="such as R2; all: the complete run")
    parser.add_argument("--list", action="store_true", help="show the scenarios")
    parser.add_argument("--seed", type=int, action="append", default=[], help="may be given several times (default: 1)")
    parser.add_argument("--size", type=float, default=1.0, help="the share of the jobs: 0.1 is a tenth")
    parser.add_argument("--grouped", action="store_true", help="short jobs travel in groups")
    parser.add_argument("--keep", action="store_true", help="leave the folder even when everything held")
    parser.add_argument("--log", type=Path, help="run in the background, with the output in this file")
    parser.add_argument("--report", type=Path, help="write the report as JSON here")
    return parser


def _run(options: argparse.Namespace, installation: Installation, name: str, seed: int) -> int:
    import shutil

    import django

    django.setup()
    from tests.chaos import runner
    from tests.chaos.scenarios import SCENARIOS

    if options.list or name not in SCENARIOS:
        for one in SCENARIOS.values():
            _say(f"{one.name:5} {one.title}  (at most {one.limit:g} s, {one.seeds} seeds)")
        shutil.rmtree(installation.folder)
        if not options.list:
            _say(f"there is no scenario {name!r}" if name else "name a scenario, or all")
        return 0 if options.list else 2
    try:
        report = runner.run(SCENARIOS[name], installation, seed=seed, size=options.size, grouped=options.grouped)
        if options.report:
            options.report.write_text(json.dumps(vars(report)))
        _say(f"{json.dumps(dict(report.faults))} {json.dumps(report.figures)}")
        _say(f"{name} seed {seed}: {report.jobs} jobs, {report.not_ended} not ended, {report.runs_lost} runs lost, "
             f"{report.completed_twice} completed twice, {report.ran_twice} ran twice, {report.seconds:g} s: "
             f"{'BROKEN' if report.broken else 'all held'}")  # fmt: skip
        if report.broken:
            _say_what_broke(report.broken, installation)
            again = f"python -m tests.chaos {name} --seed {seed} --size {options.size:g}"
            _say(f"again: {again}{' --grouped' if options.grouped else ''}")
        elif not options.keep:
            installation.stop()
            shutil.rmtree(installation.folder)
        return 1 if report.broken else 0
    finally:
        installation.stop()


def _say_what_broke(broken: list[str], installation: Installation) -> None:
    for path in sorted(installation.folder.glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()[-40:]
        _say(f"---- the end of {path.relative_to(ROOT)}\n" + "\n".join(lines))
    _say("---- what did not hold")
    for sentence in broken:
        _say(f"  {sentence}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
