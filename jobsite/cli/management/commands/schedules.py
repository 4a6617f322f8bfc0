"""jobsite schedules: when programs run by themselves."""

import zoneinfo
from typing import Any

from django.utils import timezone
from rich.text import Text

from jobsite.cli import printing
from jobsite.cli.base import GroupCommand
from jobsite.errors import Invalid
from programs import cron, times

MOST = 1_000


class Command(GroupCommand):
    """Entry point."""

    help = "When programs run by themselves."

    def add_commands(self) -> None:
        """The sub-commands of INTERFACES that exist so far."""
        preview = self.sub("preview", preview_line, "The next times of a cron line.", tenant=False, json=True)
        preview.add_argument("--cron", required=True, metavar="LINE", help='such as "0 9 * * 1-5"')
        preview.add_argument("--timezone", default="UTC", metavar="ZONE", help="such as Europe/Berlin (default: UTC)")
        preview.add_argument("--from", dest="begin", metavar="TIME", help="after this moment (default: now)")
        preview.add_argument("-n", type=int, default=10, metavar="N", help="so many (default: 10)")


def preview_line(options: dict[str, Any]) -> None:
    """Print when a line fires: in UTC, by the clock on the wall, and where the clocks change in between."""
    if not 1 <= options["n"] <= MOST:
        raise Invalid(f"-n: expected 1 to {MOST:,}, got {options['n']}")
    try:
        line = cron.parse_line(options["cron"])
    except cron.CronError as error:
        raise Invalid(f"--cron: {error}") from error
    zone = _zone(options["timezone"])
    try:
        begin = times.parse_time(options["begin"]) if options["begin"] else timezone.now()
    except times.TimeError as error:
        raise Invalid(f"--from: {error}") from error
    found = cron.next_times(line, begin, zone, options["n"])
    locals_ = [at.astimezone(zone) for at in found]
    if options["json"]:
        items = [
            {"at": times.format_time(at), "local": local.isoformat()} for at, local in zip(found, locals_, strict=True)
        ]
        printing.print_json(items)
        return
    out = printing.console()
    out.print(Text(cron.words(line), style="bold") + Text(f"  in {zone.key}", style="dim"))
    rows, offset = [], begin.astimezone(zone).utcoffset()
    for at, local in zip(found, locals_, strict=True):
        changed = local.utcoffset() != offset
        offset = local.utcoffset()
        rows.append(
            {
                "at": f"{at:%Y-%m-%d %H:%M} UTC",
                "local": f"{local:%a %Y-%m-%d %H:%M}",
                "zone": f"{local:%Z}",
                "note": Text("the clocks have changed", style="yellow") if changed else Text(""),
            }
        )
    printing.print_table(rows, {"at": "at", "local": "local time", "zone": "zone", "note": ""}, empty="It never fires.")


def _zone(name: str) -> zoneinfo.ZoneInfo:
    if name not in zoneinfo.available_timezones():
        raise Invalid(f"--timezone: {name!r} is no IANA time zone such as Europe/Berlin")
    return zoneinfo.ZoneInfo(name)
