"""The child process that parses and renders what tenants wrote: `python -m jobsite.notifications.renderer`.

One line of JSON comes in on stdin, one goes out on stdout. It has no Django, no settings, no database and almost
nothing of its parent's environment. notifications.rendering starts it, limits its time, and replaces it when it ends.
"""

import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from liquid.exceptions import LiquidError

from jobsite.notifications import layout, liquid_rules
from jobsite.notifications.sections import LANGUAGES

MAX_GROWTH = 80 * 1024 * 1024
WORN_GROWTH = 32 * 1024 * 1024  # a child that has grown by more is replaced: the next rendering must not have less
LONGEST = 5  # seconds; only for a child whose parent died and cannot stop it
Answer = dict[str, Any]


def main() -> None:
    """Answer requests until the parent closes its end."""
    for language in LANGUAGES:
        liquid_rules.environment(language, "text", strict=False)
    idle = _limit_memory()
    _say({"value": "ready"})
    for line in sys.stdin.buffer:
        signal.alarm(LONGEST)
        answer = _answer(line)
        signal.alarm(0)
        is_last = bool(answer.get("is_last")) or _size() > idle + WORN_GROWTH
        _say(answer | {"is_last": is_last})
        if is_last:
            break


def _answer(line: bytes) -> Answer:
    """`value`, or `message` and `line` of an error; whatever a template does ends in one of the two."""
    source = ""
    try:
        request = json.loads(line)
        source = request["source"]
        return {"value": OPERATIONS[request["operation"]](request)}
    except MemoryError:
        return {"message": "it needs too much memory", "line": None, "is_last": True}
    except RecursionError:
        return {"message": "it is nested too deeply", "line": None}
    except LiquidError as error:
        return {"message": liquid_rules.reason_of(error), "line": liquid_rules.line_of(error, source)}
    except Exception as error:
        return {"message": f"{type(error).__name__}: {error}"[:300], "line": None}


def _render(request: Answer) -> str:
    return liquid_rules.render(
        request["source"],
        json.loads(request["facts"]),
        language=request["language"],
        part=request["part"],
        strict=request["strict"],
    )


def _page(request: Answer) -> str:
    body = _render(request) if request["source"].strip() else layout.paragraphs(request["text"])
    facts = json.loads(request["facts"])
    return layout.page(body, subject=request["subject"], language=request["language"], facts=facts)


def _problems(request: Answer) -> list[tuple[int | None, str]]:
    return list(liquid_rules.problems(request["source"], part=request["part"]))


OPERATIONS = {"render": _render, "page": _page, "problems": _problems}


def _limit_memory() -> int:
    """Let the process grow by MAX_GROWTH beyond the interpreter and the library; returns its size now."""
    idle = _size()
    if idle:
        resource.setrlimit(resource.RLIMIT_AS, (idle + MAX_GROWTH, idle + MAX_GROWTH))
    return idle


def _size() -> int:
    """Bytes of address space; 0 where the system does not say, and then time alone is limited."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def _say(answer: Answer) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
