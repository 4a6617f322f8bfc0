"""`jobsite bench --rules`: what the table shows, and that a small run measures all cases."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from jobsite.bench.rule_costs import table
from tests.bench.test_bench import _start


def test_the_table_says_how_much_more_each_costs() -> None:
    console = Console(width=100, color_system=None)
    with console.capture() as captured:
        console.print(table({"none": 0.6, "silent": 1.1, "telling": 1.75}, 1_000))
    lines = [line.split() for line in captured.get().splitlines()]

    assert lines[1] == ["without", "rules", "0.60"]
    assert lines[2][-2:] == ["1.10", "+0.50"]
    assert lines[3][-2:] == ["1.75", "+1.15"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_small_run_measures_all_three(tmp_path: Path) -> None:
    process = _start(tmp_path, "--rules", "20", "--json")
    out, err = process.communicate()

    assert process.returncode == 0, err
    found = json.loads(out)
    assert found["rules"] == 20
    assert found["finish_milliseconds"].keys() == {"none", "silent", "telling"}
    assert all(value > 0 for value in found["finish_milliseconds"].values())
