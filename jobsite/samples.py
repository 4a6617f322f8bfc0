"""Actions for trying jobsite on real input: the IANA time-zone tables of the package tzdata.

They are also examples of how to write an action: the context first, then the job's parameters by name.
"""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from zoneinfo import ZoneInfo

from jobsite import Context, PermanentError, TransientError

FIRST_YEAR, LAST_YEAR = 1970, 2037  # the years for which the compiled zone files list every change
STEP_HOURS = 2


def noop(context: Context) -> None:
    """Do nothing, to show what running a job costs by itself."""


def import_zones(context: Context, path: str) -> dict[str, object]:
    """Write the zone table to a JSON file: zone, countries, coordinates. Warn of zones of several countries."""
    lines = [line for line in _table("zone1970.tab").splitlines() if line and not line.startswith("#")]
    zones, shared = [], 0
    for done, line in enumerate(lines, start=1):
        countries, coordinates, name, *comment = line.split("\t")
        codes = countries.split(",")
        shared += len(codes) > 1
        zones.append({"zone": name, "countries": codes, "coordinates": coordinates, "comment": "".join(comment)})
        context.progress(done, len(lines), f"Imported {name}")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(zones, indent=1), encoding="utf-8")
    context.log.info("wrote %d zones to %s", len(zones), path)
    if shared:
        context.warn("%d zones are shared by several countries", shared)
    return {"zones": len(zones), "countries": len({code for zone in zones for code in zone["countries"]})}


def recalculate_scores(context: Context, cohort: str) -> dict[str, object]:
    """Score each zone by its hours of daylight saving in the year `cohort`. Fails for any other text."""
    if not cohort.isdigit() or not FIRST_YEAR <= int(cohort) <= LAST_YEAR:
        raise PermanentError(f"cohort {cohort!r} is not a year from {FIRST_YEAR} to {LAST_YEAR}")
    names = sorted(set(_table("zones").split()) - {"Factory"})
    scores: Counter[str] = Counter()
    for done, name in enumerate(names, start=1):
        scores[name] = _hours_of_daylight_saving(name, int(cohort))
        context.progress(done, len(names), f"Scored {name}")
    observing = sum(1 for hours in scores.values() if hours)
    context.log.info("%d of %d zones observe daylight saving in %s", observing, len(names), cohort)
    return {"scored": len(names), "observing": observing, "most": scores.most_common(1)[0][0]}


def compare_cohorts(context: Context, cohorts: list[str]) -> dict[str, int]:
    """Recalculate several years, each as a child job. `best_cohort` runs when all of them have ended."""
    for cohort in cohorts:
        context.spawn("scores.recalculate", {"cohort": cohort}, key=cohort)
    return {"cohorts": len(cohorts)}


def best_cohort(context: Context, cohorts: list[str]) -> dict[str, object]:
    """The callback: find the year in which most zones observed daylight saving."""
    observing = {child.key: child.result["observing"] for child in context.children if child.status == "COMPLETED"}
    if len(observing) < len(cohorts):
        raise PermanentError(f"{len(observing)} of {len(cohorts)} cohorts were recalculated")
    best = max(observing, key=lambda cohort: (observing[cohort], cohort))
    return {"best": best, "observing": observing}


def _hours_of_daylight_saving(name: str, year: int) -> int:
    zone = ZoneInfo(name)
    start, hours = datetime(year, 1, 1, tzinfo=UTC), range(0, 365 * 24, STEP_HOURS)
    return STEP_HOURS * sum(1 for hour in hours if (start + timedelta(hours=hour)).astimezone(zone).dst())


def local_times(context: Context, moment: str, zones: list[str]) -> dict[str, str]:
    """Convert one moment to several zones. An unknown zone fails the job for good: a retry would not find it either."""
    at = datetime.fromisoformat(moment)
    found = {}
    for done, name in enumerate(zones, start=1):
        found[name] = at.astimezone(ZoneInfo(name)).isoformat()
        context.progress(done, len(zones), name)
    return found


def check_version(context: Context, successes_from: int = 3) -> dict[str, object]:
    """Get the version of the tables from a source that answers only from the given attempt on, to show retries."""
    if context.attempt < successes_from:
        raise TransientError(f"the source did not answer attempt {context.attempt}")
    version = _table("tzdata.zi").split("\n", 1)[0].removeprefix("# version ").strip()
    return {"version": version, "attempt": context.attempt}


def _table(name: str) -> str:
    package = resources.files("tzdata")
    source = package / "zones" if name == "zones" else package / "zoneinfo" / name
    return source.read_text(encoding="utf-8")
