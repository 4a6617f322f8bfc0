"""Durations as people write them: `500ms`, `30s`, `5m`, `1h`, `1d`, `1h30m`."""

import re

SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
MAX_SECONDS = 3_650 * SECONDS["d"]

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = re.compile("".join(f"(?:({_NUMBER}){unit})?" for unit in SECONDS))
_FORMS = 'such as "500ms", "30s", "5m", "1h" or "1d"'


class DurationError(ValueError):
    """A text is not a duration. The message gives examples of valid ones."""


def parse_duration(text: object) -> float:
    """The seconds of a duration: numbers with units from days down to milliseconds, at most 3,650 days.

    Raises DurationError for everything else, also for a number without a unit.
    """
    if not isinstance(text, str):
        raise DurationError(f"expected a duration {_FORMS}, got {type(text).__name__}")
    if re.fullmatch(_NUMBER, text):
        raise DurationError(f'"{text:.80}" has no unit: expected a duration {_FORMS}')
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise DurationError(f'"{text:.80}" is not a duration: expected one {_FORMS}')
    parts = zip(match.groups(default="0"), SECONDS.values(), strict=True)
    seconds = round(sum(float(number) * unit for number, unit in parts), 6)
    if seconds > MAX_SECONDS:
        raise DurationError(f'"{text:.80}" is too long: at most {format_duration(MAX_SECONDS)}')
    return seconds


def format_duration(seconds: float) -> str:
    """The text that `parse_duration` reads back, to the millisecond: 90 is `1m30s`, 0.5 `500ms`, 1.5 `1.5s`."""
    milliseconds = round(abs(seconds) * 1_000)
    sign = "-" if seconds < 0 and milliseconds else ""
    if 0 < milliseconds < 1_000:
        return f"{sign}{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    counts = {"d": minutes // 1_440, "h": minutes // 60 % 24, "m": minutes % 60}
    text = "".join(f"{count}{unit}" for unit, count in counts.items() if count)
    if milliseconds or not text:
        text += f"{milliseconds / 1_000:g}s"
    return sign + text
