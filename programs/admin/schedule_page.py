"""What the page of a schedule shows of its times: the next ones, and what became of the last ones."""

import zoneinfo
from collections.abc import Iterable

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobsite.admin import display
from jobsite.programs import schedules
from jobsite.programs.admin import job_display
from jobsite.programs.models import Firing, Job, Schedule

COMING, HISTORY = 10, 25


def coming(row: Schedule) -> str | SafeString:
    """The next times: in UTC, in local time, and where the clocks change."""
    found = schedules.coming(row, count=COMING, after=timezone.now())
    if not found:
        return "None: it has ended."
    zone = zoneinfo.ZoneInfo(row.time_zone)
    rows, offset = [], timezone.now().astimezone(zone).utcoffset()
    for one in found:
        local = one.nominal_at.astimezone(zone)
        note = "the clocks have changed" if local.utcoffset() != offset else ""
        offset = local.utcoffset()
        rows.append((display.moment(one.fires_at), f"{local:%a %Y-%m-%d %H:%M %Z}", note))
    return _table(("Fires (UTC)", f"Nominal time in {zone.key}", ""), rows)


def history(row: Schedule) -> str | SafeString:
    """What became of the last times."""
    found = schedules.history(row, limit=HISTORY)
    if not found:
        return "None of its times has come yet."
    return _table(("Nominal time (UTC)", "Result", "Job", "Took", ""), (_past(*one) for one in found))


def _past(one: Firing, job: Job | None) -> tuple[object, ...]:
    number: object = display.NOTHING
    if job is not None:
        url = reverse("admin:jobsite_programs_job_change", args=[job.number])
        number = format_html('<a href="{}">#{}</a> {}', url, job.number, display.badge(job.status))
    elif one.job_number is not None:
        number = f"#{one.job_number}"
    note = one.reason
    if one.through is not None:
        note = f"and all others before {one.through:%Y-%m-%d %H:%M}"
    elif one.result == Firing.Result.FIRED:
        note = "backfill" if one.is_backfill else "late" if one.was_missed else ""
    took = None if job is None or not job.is_terminal else job_display.run_seconds(job)
    return display.moment(one.nominal_at), display.badge(one.result), number, display.duration(took), note


def _table(heads: Iterable[str], rows: Iterable[tuple[object, ...]]) -> SafeString:
    head = format_html_join("", "<th>{}</th>", ((one,) for one in heads))
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows)
    )
    table = '<table class="jobsite-small-table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
    return format_html('<div class="jobsite-scroll">' + table + "</div>", head, body)
