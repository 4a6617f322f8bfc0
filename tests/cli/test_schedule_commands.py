"""jobsite schedules preview: when a line fires, with the changes of clocks."""

from collections.abc import Callable

import pytest

from tests.cli.conftest import Answer

Run = Callable[..., Answer]


def test_a_line_is_told_in_words_with_its_next_times_and_the_change_of_clocks(run: Run) -> None:
    lines = run(
        *("schedules", "preview", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin"),
        *("--from", "2026-10-23T12:00:00Z", "-n", "3"),
    ).out.splitlines()

    assert lines[0] == "At 02:30  in Europe/Berlin"
    assert [line.split()[:6] for line in lines[2:]] == [
        ["2026-10-24", "00:30", "UTC", "Sat", "2026-10-24", "02:30"],
        ["2026-10-25", "00:30", "UTC", "Sun", "2026-10-25", "02:30"],
        ["2026-10-26", "01:30", "UTC", "Mon", "2026-10-26", "02:30"],
    ]
    assert ["the clocks have changed" in line for line in lines[2:]] == [False, False, True]


def test_as_json_it_is_a_list_of_moments(run: Run) -> None:
    options = ["--cron", "0 9 * * 1-5", "--timezone", "Europe/Berlin", "--from", "2026-11-22T00:00:00Z", "-n", "2"]

    assert run("schedules", "preview", *options, "--json").json == [
        {"at": "2026-11-23T08:00:00.000Z", "local": "2026-11-23T09:00:00+01:00"},
        {"at": "2026-11-24T08:00:00.000Z", "local": "2026-11-24T09:00:00+01:00"},
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--cron", "0 25 * * 8"],
            "--cron: hour: expected 0 to 23, got '25'; day of week: expected 0 to 7",
        ),
        (["--cron", "0 9 * *"], "--cron: minute: expected five fields"),
        (["--cron", "0 0 31 2 *"], "--cron: day of month: 31 is no day of month 2, so that it never fires"),
        (["--cron", "* * * * *", "--timezone", "Mars/Berlin"], "--timezone: 'Mars/Berlin' is no IANA time zone"),
        (["--cron", "* * * * *", "--from", "yesterday"], '--from: "yesterday" is not a time'),
        (["--cron", "* * * * *", "-n", "0"], "-n: expected 1 to 1,000, got 0"),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Run, options: list[str], sentence: str) -> None:
    answer = run("schedules", "preview", *options)

    assert (answer.status, sentence in answer.err) == (2, True), answer.err
    assert answer.err.count("\n") == 1
