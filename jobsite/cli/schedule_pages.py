"""jobsite schedules list, show and preview: how the command line shows schedules."""

import json
import zoneinfo
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.utils import timezone
from rich.text import Text

from jobsite.cli import printing
from jobsite.cli.base import principal_of
from jobsite.errors import Invalid
from jobsite.programs import schedules
from jobsite.programs.inspection import presentation
from jobsite.programs.rules import cron, recurrence
from jobsite.programs.schedules import MAX_PREVIEW, Coming
from jobsite.values import times


def list_schedules(options: dict[str, Any]) -> None:
    """Print the schedules."""
    items = [presentation.schedule(row) for row in schedules.of_tenant(principal_of(options))]
    if options["json"]:
        printing.print_json(items)
        return
    rows = [
        item | {"next": when(item), "fired": printing.ago(item["fired_at"]), "state": _state(item)} for item in items
    ]
    columns = {
        "code": "schedule", "program": "program", "words": "when", "time_zone": "time zone", "next": "next",
        "fired": "last fired", "state": "state",
    }  # fmt: skip
    empty = 'No schedules yet. Make one with: jobsite schedules create CODE --program P --cron "0 9 * * 1-5"'
    printing.print_table(rows, columns, empty=empty)


def _state(item: dict[str, Any]) -> Text:
    if item["pause"]:
        return Text("PAUSED", style="yellow")
    if item["late_since"]:
        return Text("LATE", style="red")
    if item["problem"]:
        return Text(item["problem"], style="red")
    return Text("ENDED", style="dim") if item["next_at"] is None else Text("ACTIVE", style="green")


def when(item: dict[str, Any]) -> str | None:
    """When it fires next, in the local time of its zone; None where it does not."""
    if item["pause"] or item["fires_at"] is None:
        return None
    local = datetime.fromisoformat(item["fires_at"]).astimezone(zoneinfo.ZoneInfo(item["time_zone"]))
    return f"{local:%a %Y-%m-%d %H:%M} ({printing.ago(item['fires_at'])})"


def show_schedule(options: dict[str, Any]) -> None:
    """Print one schedule, its next times and its last ones."""
    row = schedules.find(principal_of(options), options["code"])
    item = presentation.schedule(row)
    item["history"] = [presentation.firing(*one) for one in schedules.history(row)]
    if options["json"]:
        printing.print_json(item)
        return
    out = printing.console()
    out.print(Text(f"{row.code}  ", style="bold") + _state(item))
    item |= {"when": item["words"], "next": when(item), "last fired": printing.ago(item["fired_at"])}
    item |= {"runs as": item["owner"], "parameters": json.dumps(item["parameters"], ensure_ascii=False)}
    if item["pause"]:
        paused = item["pause"]
        until = f" until {paused['until']}" if paused["until"] else ""
        item["paused"] = f"by {paused['by']} since {paused['at']}{until}: {paused['reason']}".removesuffix(": ")
    shown = ("when", "cron", "time_zone", "next", "last fired", "program", "parameters", "priority", "runs as",
             "overlap", "missed", "missed_cap", "jitter_minutes", "starts_at", "ends_at", "paused", "late_since",
             "problem", "description")  # fmt: skip
    silent = {"missed_cap"} if item["missed"] != "ALL" else set()
    for key in shown:
        if item.get(key) not in (None, "", "{}", 0) and key not in silent:
            out.print(Text(f"  {key.replace('_', ' '):<15}", style="dim") + printing.cell(item[key]))
    out.print()
    rows = [
        {
            "at": one["nominal_at"][:16].replace("T", " "),
            "result": one["result"]
            + (" (late)" if one["was_missed"] and one["result"] == "FIRED" and not one["is_backfill"] else ""),
            "job": one["job"],
            "status": one["status"],
            "took": printing.span(one["seconds"]),
            "reason": _reason(one),
        }
        for one in item["history"]
    ]
    columns = {"at": "time (UTC)", "result": "result", "job": "job", "status": "status", "took": "took", "reason": ""}
    printing.print_table(rows, columns, empty="None of its times has come yet.", right=["job"])


def _reason(one: dict[str, Any]) -> str:
    if one["through"]:
        return f"and all others before {one['through'][:16].replace('T', ' ')}"
    return one["reason"] or ("backfill" if one["is_backfill"] else "")


def preview_times(options: dict[str, Any]) -> None:
    """Print the next times in UTC and in local time, and mark where the clocks change in between."""
    if not 1 <= options["n"] <= MAX_PREVIEW:
        raise Invalid(f"-n: expected 1 to {MAX_PREVIEW:,}, got {options['n']}")
    if (options["code"] is None) == (options["cron"] is None):
        raise Invalid("give the code of a schedule, or a line with --cron")
    begin = moment_of("--from", options["begin"]) if options["begin"] else timezone.now()
    if options["cron"] is None:
        row = schedules.find(principal_of(options), options["code"])
        words, zone = recurrence.words(row), zoneinfo.ZoneInfo(row.time_zone)
        found = schedules.coming(row, count=options["n"], after=begin)
    else:
        line = _line(options["cron"])
        words, zone = cron.words(line), _zone(options["timezone"] or "UTC")
        found = [Coming(at, at) for at in cron.next_times(line, begin, zone, options["n"])]
    if options["json"]:
        printing.print_json([_as_json(one, zone) for one in found])
        return
    printing.console().print(Text(words, style="bold") + Text(f"  in {zone.key}", style="dim"))
    _print_times(found, begin, zone)


def _as_json(one: Coming, zone: zoneinfo.ZoneInfo) -> dict[str, str]:
    shown = {"at": times.format_time(one.nominal_at), "local": one.nominal_at.astimezone(zone).isoformat()}
    return shown if one.fires_at == one.nominal_at else shown | {"fires_at": times.format_time(one.fires_at)}


def _print_times(found: Iterable[Coming], begin: datetime, zone: zoneinfo.ZoneInfo) -> None:
    rows, offset, has_jitter = [], begin.astimezone(zone).utcoffset(), False
    for one in found:
        local = one.nominal_at.astimezone(zone)
        changed = local.utcoffset() != offset
        offset = local.utcoffset()
        has_jitter = has_jitter or one.fires_at != one.nominal_at
        rows.append(
            {
                "at": times.readable_time(one.nominal_at),
                "local": f"{local:%a %Y-%m-%d %H:%M}",
                "zone": f"{local:%Z}",
                "fires": f"{one.fires_at.astimezone(zone):%H:%M}",
                "note": Text("the clocks have changed", style="yellow") if changed else Text(""),
            }
        )
    columns = {"at": "at", "local": "local time", "zone": "zone"} | ({"fires": "fires"} if has_jitter else {})
    printing.print_table(rows, columns | {"note": ""}, empty="It never fires.")


def _line(text: str) -> cron.Cron:
    try:
        return cron.parse_line(text)
    except cron.CronError as error:
        raise Invalid(f"--cron: {error}") from error


def moment_of(option: str, text: str) -> datetime:
    """The moment that an option gives. Raises Invalid, which names the option."""
    try:
        return times.within_reason(times.parse_time(text))
    except times.TimeError as error:
        raise Invalid(f"{option}: {error}") from error


def _zone(name: str) -> zoneinfo.ZoneInfo:
    if name not in zoneinfo.available_timezones():
        raise Invalid(f"--timezone: {name!r} is not an IANA time zone such as Europe/Berlin")
    return zoneinfo.ZoneInfo(name)
