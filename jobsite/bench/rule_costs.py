"""What notification rules cost at the end of a job: no rules, many that do not match, and one that matches."""

import json
import subprocess
import sys

from rich.table import Table

from jobsite.bench.ground import Ground
from jobsite.bench.measure import Say
from jobsite.bench.processes import BenchError

DATABASE = "rules"
FINISHES = 1_000
WHAT = {
    "none": "without rules",
    "silent": "with {rules:,} rules, none of which matches",
    "telling": "with one rule that matches",
}


def measure(ground: Ground, rules: int, *, say: Say) -> dict[str, float]:
    """The median milliseconds of the statement that ends a job, by the rules of its program."""
    ground.create_database(DATABASE)
    say(f"{FINISHES:,} jobs of each kind end, in alternation, with {rules:,} rules in the database")
    argv = [sys.executable, "-m", "jobsite.bench.bodies.rules", str(rules), str(FINISHES)]
    environment = ground.environment(DATABASE) | {"DJANGO_SETTINGS_MODULE": "jobsite.settings"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the jobs could not be ended: {done.stderr[-2_000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[str, float], rules: int) -> Table:
    """What each case costs, and how much more than without rules."""
    shown = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("the end of a job", "ms", "more"):
        shown.add_column(heading, justify="left" if heading.startswith("the") else "right")
    for name, words in WHAT.items():
        more = "" if name == "none" else f"+{found[name] - found['none']:.2f}"
        shown.add_row(words.format(rules=rules), f"{found[name]:.2f}", more)
    return shown
