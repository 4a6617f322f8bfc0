"""Moments: RFC 3339 with a zone in, UTC with milliseconds out, without guesses."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsite.values.times import TimeError, format_time, parse_scheduled_at, parse_since, parse_time, readable_time

NOW = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
BERLIN_WINTER = timezone(timedelta(hours=1))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T01:02:03Z", NOW),
        ("2026-11-22T02:02:03+01:00", NOW),
        ("2026-11-21T20:32:03-04:30", NOW),
        ("2026-11-22 01:02:03Z", NOW),
        ("2026-11-22t01:02:03z", NOW),
        ("2026-11-22T01:02:03-00:00", NOW),
        ("2026-11-22T01:02:03.5Z", NOW.replace(microsecond=500_000)),
        ("2026-11-22T01:02:03.123456789Z", NOW.replace(microsecond=123_456)),
    ],
)
def test_rfc_3339_with_a_zone_is_a_moment_in_utc(text, moment):
    parsed = parse_time(text)

    assert parsed == moment
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2026-11-22T01:02:03", 'the time "2026-11-22T01:02:03" has no zone: add "Z" or an offset'),
        ("tomorrow", '"tomorrow" is not a time: expected RFC 3339 such as "2026-11-22T01:02:03Z"'),
        ("", '"" is not a time'),
        ("2026-11-22", "is not a time: expected RFC 3339"),
        ("2026-11-22T01:02Z", "is not a time: expected RFC 3339"),
        ("20261122T010203Z", "is not a time: expected RFC 3339"),
        ("2026-W47-7T01:02:03Z", "is not a time: expected RFC 3339"),
        ("2026-11-22T01:02:03+0100", "is not a time: expected RFC 3339"),
        ("2026-11-22T01:02:03Z\n", "is not a time: expected RFC 3339"),
        ("2026-13-22T01:02:03Z", "is not a time: month must be in 1..12"),
        ("2026-02-30T01:02:03Z", "is not a time: day is out of range"),
        ("2026-11-22T24:00:00Z", "is not a time: hour must be in 0..23"),
        ("2026-11-22T01:02:60Z", "is not a time: second must be in 0..59"),
        ("0001-01-01T00:00:00+01:00", "is not a time"),
        ("٢٠٢٦-11-22T01:02:03Z", "is not a time"),
        (1_763_773_323, "a value of type int is not a time"),
        (None, "a value of type NoneType is not a time"),
        pytest.param("x" * 10_000, "is not a time", id="a long text"),
    ],
)
def test_anything_else_is_refused_with_the_reason(value, message):
    with pytest.raises(TimeError) as refused:
        parse_time(value)

    assert message in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-11-22T02:02:03+01:00", NOW),
        (NOW.astimezone(BERLIN_WINTER), NOW),
        ("1999-01-01T00:00:00Z", datetime(1999, 1, 1, tzinfo=UTC)),
        ("2031-11-22T01:02:03Z", datetime(2031, 11, 22, 1, 2, 3, tzinfo=UTC)),
    ],
)
def test_a_job_may_be_scheduled_in_the_past_and_up_to_five_years_ahead(value, moment):
    scheduled_at = parse_scheduled_at(value, now=NOW)

    assert scheduled_at == moment
    assert scheduled_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2031-11-22T01:02:04Z", "is more than 5 years ahead: at most 2031-11-22T01:02:03.000Z"),
        ("9999-12-31T23:59:59Z", "is more than 5 years ahead"),
        (NOW.replace(year=2032), "is more than 5 years ahead"),
        (NOW.replace(tzinfo=None), "the time 2026-11-22T01:02:03 has no zone"),
        (datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), "is out of range in UTC"),
        ("now", '"now" is not a time'),
        (None, "is not a time"),
    ],
)
def test_a_job_cannot_be_scheduled_without_zone_or_beyond_five_years(value, message):
    with pytest.raises(TimeError, match=message):
        parse_scheduled_at(value, now=NOW)


def test_five_years_after_a_29_february_end_on_1_march():
    leap_day = datetime(2028, 2, 29, tzinfo=UTC)

    assert parse_scheduled_at("2033-03-01T00:00:00Z", now=leap_day) == datetime(2033, 3, 1, tzinfo=UTC)
    with pytest.raises(TimeError):
        parse_scheduled_at("2033-03-01T00:00:01Z", now=leap_day)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1h", NOW - timedelta(hours=1)),
        ("1d12h", NOW - timedelta(hours=36)),
        ("2026-11-20T00:00:00Z", datetime(2026, 11, 20, tzinfo=UTC)),
    ],
)
def test_since_takes_a_duration_before_now_or_a_moment(text, moment):
    assert parse_since(text, now=NOW.astimezone(BERLIN_WINTER)) == moment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yesterday", 'is not a time: expected RFC 3339 such as "2026-11-22T01:02:03Z", or a duration'),
        (
            "2026-11-22T01:02:03",
            'has no zone: add "Z" or an offset such as "+01:00", or a duration such as "1h"',
        ),
        ("some days", '"some days" is not a duration: expected one such as "500ms"'),
        ("4000d", '"4000d" is too long: at most 3650d, or a time: RFC 3339'),
        ("60", 'or a duration such as "1h"'),
        ("", "is not a time"),
    ],
)
def test_since_refuses_anything_else_and_names_both_forms(text, message):
    with pytest.raises(TimeError) as refused:
        parse_since(text, now=NOW)

    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (NOW, "2026-11-22T01:02:03.000Z"),
        (NOW.replace(microsecond=123_999), "2026-11-22T01:02:03.123Z"),
        (NOW.astimezone(BERLIN_WINTER), "2026-11-22T01:02:03.000Z"),
    ],
)
def test_a_moment_is_formatted_in_utc_with_milliseconds(moment, text):
    assert format_time(moment) == text


@pytest.mark.parametrize(
    ("timespec", "text"), [("minutes", "2026-11-22 01:02 UTC"), ("seconds", "2026-11-22 01:02:03 UTC")]
)
def test_people_read_a_moment_in_utc(timespec, text):
    moment = NOW.replace(microsecond=999_999).astimezone(BERLIN_WINTER)

    assert readable_time(moment, timespec=timespec) == text
    assert readable_time(moment) == "2026-11-22 01:02 UTC"


@pytest.mark.parametrize("show", [format_time, readable_time])
def test_a_moment_without_a_zone_is_not_formatted(show):
    with pytest.raises(TimeError, match="has no zone"):
        show(datetime(2026, 11, 22))


ZONES: st.SearchStrategy[tzinfo] = st.integers(-23 * 60, 23 * 60).map(
    lambda minutes: timezone(timedelta(minutes=minutes))
)


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES))
def test_a_formatted_moment_is_read_back_to_the_millisecond(moment):
    cut = moment.replace(microsecond=moment.microsecond // 1_000 * 1_000)

    assert parse_time(format_time(moment)) == cut


@given(st.text() | st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(Z|[+-][0-9]{2}:[0-9]{2})\Z"))
def test_any_text_is_a_time_or_a_time_error(text):
    for parse in (parse_time, lambda each: parse_since(each, now=NOW)):
        try:
            assert parse(text).tzinfo is UTC
        except TimeError:
            continue
