"""The wording that tenants start with: complete, renderable, and each in its own language."""

import re
from itertools import product

import pytest

from jobsite.notifications.defaults import LANGUAGES, choose, sample, wording
from jobsite.notifications.events import Event
from jobsite.notifications.rendering import Rendered, problems, render

CASES = list(product(Event, LANGUAGES))


def rendered(event: Event, language: str, /, **changed: object) -> Rendered:
    return render(wording(event, language), sample(event, language) | changed, language=language, strict=True)


@pytest.mark.parametrize(("event", "language"), CASES)
def test_every_default_renders_strictly(event: Event, language: str) -> None:
    found = rendered(event, language)

    assert problems(wording(event, language)) == []
    assert 0 < len(found.subject) < 200
    assert f'<html lang="{language}">' in found.html
    for part in (found.subject, found.text, found.html):
        assert not re.search(r"{{|{%|%}|}}|\bNone\b|Undefined", part)
    assert "\n\n\n" not in found.text
    assert not re.search(r": ?$", found.text, re.MULTILINE)
    assert found.text == "\n".join(line.rstrip() for line in found.text.split("\n"))


@pytest.mark.parametrize("event", Event)
def test_the_languages_differ(event: Event) -> None:
    found = [rendered(event, language) for language in LANGUAGES]

    assert len({one.subject for one in found}) == len({one.text for one in found}) == len(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_events_differ(language: str) -> None:
    assert len({rendered(event, language).subject for event in Event}) == len(Event)


@pytest.mark.parametrize(("event", "language"), CASES)
def test_a_link_appears_only_with_an_address(event: Event, language: str) -> None:
    facts = sample(event, language)
    without = {name: value | {"url": ""} for name in ("job", "schedule") if isinstance(value := facts[name], dict)}

    found, unlinked = rendered(event, language), rendered(event, language, **without)

    is_linked = event is not Event.PROGRAM_TERMINATED
    assert ("https://jobs.example.com/" in found.text, 'href="https://jobs.' in found.html) == (is_linked, is_linked)
    assert "https://" not in unlinked.text
    assert "href" not in unlinked.html


@pytest.mark.parametrize("language", LANGUAGES)
def test_suppressed_messages_are_counted(language: str) -> None:
    one, seven = (
        rendered(Event.FAILED, language, event={"name": "FAILED", "suppressed": number, "in_a_row": 1})
        for number in (1, 7)
    )

    [line_of_one], [line_of_seven] = (
        [line for line in found.text.splitlines() if re.search(rf"\b{number}\b \w", line) and "Job" not in line]
        for found, number in ((one, 1), (seven, 7))
    )
    assert line_of_one.replace("1", "7") != line_of_seven
    assert line_of_seven in seven.html


@pytest.mark.parametrize("language", LANGUAGES)
def test_completed_mentions_a_warning_only_if_there_was_one(language: str) -> None:
    job = sample(Event.COMPLETED, language)["job"]
    assert isinstance(job, dict)

    warned = rendered(Event.COMPLETED, language)
    normal = rendered(Event.COMPLETED, language, job=job | {"outcome": "NORMAL"})

    assert "WARNING" in warned.text
    assert "WARNING" not in normal.text
    assert warned.subject != normal.subject


@pytest.mark.parametrize("language", LANGUAGES)
def test_recovered_and_terminated_count_the_failures(language: str) -> None:
    assert "3" in rendered(Event.RECOVERED, language).text.splitlines()[0].replace("4711", "")
    assert "5" in rendered(Event.PROGRAM_TERMINATED, language).text.splitlines()[0]


@pytest.mark.parametrize("language", LANGUAGES)
def test_retrying_says_when_and_why(language: str) -> None:
    found = rendered(Event.RETRYING, language)

    assert "2026-11-28 12:10 UTC" in found.text.splitlines()[0]
    assert "no answer from scores.example.com" in found.text


def test_a_name_in_html_is_escaped() -> None:
    found = rendered(Event.FAILED, "en", program={"code": "x", "name": "<script>"})

    assert "<script>" in found.subject
    assert "<script>" not in found.html


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["de-AT"], "de"), (["de_AT", "fr"], "de"), (["it", "fr"], "fr"), (["FR"], "fr"), (["it"], "en"), ([], "en"),
        (["", "es"], "es"),
    ],
)  # fmt: skip
def test_the_first_known_language_of_those_wanted_is_chosen(wanted: list[str], chosen: str) -> None:
    assert choose(wanted, LANGUAGES) == chosen


def test_a_language_with_its_country_is_preferred_if_it_is_known() -> None:
    assert choose(["de-AT"], ["de", "de-AT"]) == "de-AT"
