"""Durations: accepted texts, refused texts, and that a formatted duration is read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsite.values.durations import MAX_SECONDS, DurationError, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("300ms", 0.3),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h", 3_600.0),
        ("1d", 86_400.0),
        ("0s", 0.0),
        ("1h30m", 5_400.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("3650d", MAX_SECONDS),
    ],
)
def test_a_number_with_its_unit_is_a_duration(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("30", '"30" has no unit: expected a duration such as "500ms", "30s", "5m", "1h" or "1d"'),
        ("1.5", '"1.5" has no unit'),
        (30, 'expected a duration such as "500ms", "30s", "5m", "1h" or "1d", got int'),
        (True, "got bool"),
        (None, "got NoneType"),
        pytest.param(16**9_000, "got int", id="an integer too long to be shown"),
        ("", '"" is not a duration'),
        ("s", '"s" is not a duration'),
        ("soon", '"soon" is not a duration: expected one such as "500ms"'),
        ("-5s", '"-5s" is not a duration'),
        ("5 s", '"5 s" is not a duration'),
        ("5S", '"5S" is not a duration'),
        (" 5s", '" 5s" is not a duration'),
        ("5s\n", "is not a duration"),
        ("30m1h", '"30m1h" is not a duration'),
        ("1e3s", '"1e3s" is not a duration'),
        ("٣s", "is not a duration"),
        ("5w", '"5w" is not a duration'),
        ("3651d", '"3651d" is too long: at most 3650d'),
        pytest.param("9" * 5_000 + "s", "is too long", id="thousands of digits"),
    ],
)
def test_anything_else_is_refused_with_valid_examples(value, message):
    with pytest.raises(DurationError) as refused:
        parse_duration(value)

    assert message in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.5, "500ms"),
        (0.9999, "1s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.999, "59.999s"),
        (60, "1m"),
        (90, "1m30s"),
        (300, "5m"),
        (3_600, "1h"),
        (5_400, "1h30m"),
        (86_400, "1d"),
        (90_061.5, "1d1h1m1.5s"),
        (-1.5, "-1.5s"),
        (-0.2, "-200ms"),
        (-0.0001, "0s"),
    ],
)
def test_seconds_are_formatted_in_the_units_that_people_use(seconds, text):
    assert format_duration(seconds) == text


@given(st.integers(0, int(MAX_SECONDS * 1_000)))
def test_a_formatted_duration_is_read_back_to_the_millisecond(milliseconds):
    assert round(parse_duration(format_duration(milliseconds / 1_000)) * 1_000) == milliseconds


@given(st.integers(1, 59), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_single_unit_that_suffices_is_kept(count, unit):
    if unit == "h":
        count %= 24
    text = f"{count}{unit}" if count else "0s"

    assert format_duration(parse_duration(text)) == text


@given(st.text())
def test_any_text_is_a_duration_or_a_duration_error(text):
    try:
        seconds = parse_duration(text)
    except DurationError:
        return

    assert 0 <= seconds <= MAX_SECONDS
