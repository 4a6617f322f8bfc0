"""Actions that the tests run."""

import asyncio
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from jobsite.logs import get_logger
from jobsite.programs import workers
from jobsite.programs.context import Context, PermanentError, TransientError
from jobsite.programs.transitions import cancel


def succeed(context: Context, **_: Any) -> dict[str, int]:
    return {"number": context.job_number}


def echo(context: Context, value: Any = None) -> Any:
    return value


def warn(context: Context) -> None:
    context.warn("3 students without marks")


def fail(context: Context) -> None:
    raise ValueError("this can never work")


def refuse(context: Context) -> None:
    raise PermanentError("no")


def fail_until(context: Context, attempt: int) -> str:
    if context.attempt < attempt:
        raise TransientError(f"attempt {context.attempt} fails on purpose")
    return "at last"


def need(context: Context, permission: str) -> str:
    context.require(permission)
    return "permitted"


def wait_for(context: Context, path: str, seconds: float = 30.0) -> str:
    """Wait until a file appears, which the test makes."""
    end = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        context.progress(0, 1, "waiting")
        time.sleep(0.02)
    return "seen"


def hang(context: Context, seconds: float = 60.0) -> None:
    """Sleep without a check for any request to stop."""
    time.sleep(seconds)


def effect(context: Context, path: str, seconds: float = 0.0) -> None:
    """Write one line to a file for each run that reaches its end."""
    time.sleep(seconds)
    with Path(path).open("a") as file:
        file.write(f"{context.job_number} {context.fence}\n")


def work(context: Context, folder: str, seconds: float = 0.0, first_seconds: float | None = None, go: str = "") -> None:
    """Write the pid to `<number>.<fence>`, take a while, and write one line to `effects`.

    With `go`, first wait until that file exists.
    """
    Path(folder, f"{context.job_number}.{context.fence}").write_text(str(os.getpid()))
    if go:
        wait_for(context, go)
    time.sleep(seconds if first_seconds is None or context.fence > 1 else first_seconds)
    with Path(folder, "effects").open("a") as file:
        file.write(f"{context.job_number} {context.fence}\n")


def unstorable(context: Context) -> dict[str, str]:
    return {"nul": "a\x00b", "lone": "\ud800 and \udfff", "fine": "ä€😀"}


def not_a_number(context: Context) -> dict[str, float]:
    return {"mean": float("nan")}


def ask_for_patience(context: Context, seconds: float) -> str:
    """Fail as with a service that answers 429 with Retry-After."""
    if context.attempt == 1:
        raise TransientError("too many requests", retry_after=seconds)
    return "served"


def swallow(context: Context, path: str) -> None:
    """Catch every exception that is raised in it, write it to a file, and go on."""
    while True:
        try:
            time.sleep(60)
        except BaseException as error:
            with Path(path).open("a") as file:
                file.write(f"{os.getpid()} {type(error).__name__}\n")


def die(context: Context, path: str) -> None:
    """Kill its own process."""
    with Path(path).open("a") as file:
        file.write(f"{context.job_number} {context.fence}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def perform(context: Context, act: str = "succeed", **arguments: Any) -> Any:
    """Call another of these actions, so that the jobs of a group, which have one program, can behave differently."""
    return globals()[act](context, **arguments)


def note(context: Context, path: str) -> dict[str, int]:
    """Write the job's number to its log, to a file (with fence and process), and to the result."""
    context.log.info("this is %d", context.job_number)
    with Path(path).open("a") as file:
        file.write(f"{context.job_number} {context.fence} {os.getpid()}\n")
    return {"number": context.job_number}


def snooze(context: Context, seconds: float) -> None:
    context.snooze(seconds)


def leave(context: Context, status: int) -> None:
    sys.exit(status)


def interrupt(context: Context) -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


def cancel_another(context: Context, number: int, seconds: float) -> None:
    """Cancel another job, as a user may do while this one runs."""
    with connection.cursor() as cursor:
        cancel.cancel(cursor, number=number, tenant_id=context.claimed.tenant_id, by="alice", reason="")
    time.sleep(seconds)


def forget_autocommit(context: Context) -> None:
    """Leave Django's connection in an open transaction."""
    connection.set_autocommit(False)


def rename_tenant(context: Context, name: str) -> None:
    """Write with Django's connection."""
    context.tenant.name = name
    context.tenant.save(update_fields=["name"])


def betray(context: Context, how: str = "return", **secrets: Any) -> Any:
    """Write its parameters in every possible way, and end as `how` says."""
    context.log.info("log: %s", secrets)
    logging.getLogger("betrayer").warning("logging: %r", secrets)
    try:
        raise LookupError(f"caught: {secrets}")
    except LookupError:
        logging.getLogger("betrayer").exception("logging an error")
        get_logger("betrayer").exception("an_error", secrets=secrets)
    get_logger("betrayer").warning("an_event", secrets=secrets, error=ValueError(secrets))
    context.warn("warn: %s", json.dumps(secrets))
    for name, value in secrets.items():
        context.progress(1, 2, f"{name} is {value}")
    context.log.info("the context: %s %s", context.parameters, vars(context))
    if how == "return":
        return {"all": secrets, "text": json.dumps(secrets, ensure_ascii=False), **{str(one): 1 for one in secrets}}
    kind = {"fail": ValueError, "again": TransientError}[how]
    raise kind(f"failed with {secrets}") from KeyError(str(secrets))


def signal_once(context: Context, path: str, number: int, to: str, seconds: float = 0.0) -> None:
    """In its first run, signal `group` (its worker with all children) or `parent` (the worker's main process)."""
    if context.fence == 1:
        if to == "group":
            os.killpg(0, number)
        else:
            os.kill(os.getppid(), number)
        time.sleep(seconds)
    note(context, path)


def measure(context: Context, value: str) -> dict[str, int]:
    return {"length": len(value)}


def _part(context: Context, name: str, path: str) -> dict[str, Any]:
    Path(path).with_suffix(".pid").write_text(str(os.getpid()))
    with Path(path).open("a") as file:
        file.write(f"{name} {context.fence}\n")
    return {"name": name, "seen": sorted(context.steps)}


def fetch(context: Context, path: str, **_: Any) -> dict[str, Any]:
    return _part(context, "fetch", path)


def reckon(context: Context, path: str, **_: Any) -> dict[str, Any]:
    return _part(context, "reckon", path)


def deliver(context: Context, path: str, seconds: float = 0.0, fails_until: int = 0) -> dict[str, Any]:
    """The last of three: fail in each attempt before `fails_until`, and take `seconds` in the first run."""
    part = _part(context, "deliver", path)
    if context.attempt < fails_until:
        raise TransientError("the receiver does not answer")
    time.sleep(seconds if context.fence == 1 else 0.0)
    return part


def in_steps(
    context: Context, path: str, names: list[str], act: str = "", fails_until: int = 0, **_: Any
) -> dict[str, Any]:
    """Run a step for each name, which writes one line. The last one also does what `act` says."""

    def one(name: str) -> Any:
        with Path(path).open("a") as file:
            file.write(f"{name} {context.fence}\n")
        if name == names[-1] and act:
            return STEP_ACTS[act](context)
        return {"name": name, "pair": (1, 2)}

    results = {name: context.step(name, one, name) for name in names}
    if context.attempt < fails_until:
        raise TransientError("after all steps")
    return results


def _lose_the_lock(context: Context) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE jobsite_job SET lock_token = gen_random_uuid() WHERE number = %s", [context.job_number])


STEP_ACTS: dict[str, Any] = {
    "fail": lambda context: fail(context),
    "set": lambda context: {1, 2},
    "secret": lambda context: {"login": f"Basic {context.parameters['secret']}"},
    "sleep": lambda context: time.sleep(30),
    "snooze": lambda context: context.snooze(60),
    "lose the lock": _lose_the_lock,
    "lose the database": lambda context: workers.drop_connection(),
    "nest": lambda context: context.step("inner", fail, context),
}


def step_without_the_lock(context: Context) -> None:
    _lose_the_lock(context)
    context.step("one", int)


def step_in_a_transaction(context: Context) -> None:
    with transaction.atomic():
        context.step("one", int)


def step_named(context: Context, names: list[Any], **_: Any) -> None:
    for name in names:
        context.step(name, int)


def steps_then_wait(context: Context, path: str, names: list[str], go: str) -> dict[str, Any]:
    """Run the steps, then wait until a file appears."""
    results = in_steps(context, path, names)
    wait_for(context, go)
    return results


async def at_leisure(context: Context, seconds: float = 0.0, fails: bool = False) -> dict[str, Any]:
    """An action as a coroutine."""
    context.progress(1, 2, "awaiting")
    await asyncio.sleep(seconds)
    if fails:
        raise TransientError("not today")
    return {"step": context.step("inside", int, "7"), "number": context.job_number}


def shrug_and_sleep(context: Context) -> None:
    """Go on for long after a step that failed."""
    try:
        context.step("one", fail, context)
    except ValueError:
        time.sleep(30)


def step_on_another_thread(context: Context) -> str:
    said = []

    def try_it() -> None:
        try:
            context.step("one", int)
        except RuntimeError as error:
            said.append(str(error))

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return said[0]


def in_other_steps(context: Context, names: list[str], **_: Any) -> dict[str, Any]:
    return {name: context.step(name, str, "otherwise") for name in names}


def warn_all(context: Context, **_: Any) -> None:
    context.warn("3 students without marks")


def exotic(context: Context) -> str:
    """Return a step's result as text; in the first run fail with this text."""
    given = json.dumps(context.step("one", dict, bb=1, a=1e22, z=-0.0, t=(1, 2)))
    if context.attempt == 1:
        raise TransientError(given)
    return given


async def gather_busily(context: Context) -> list[str]:
    """Return the results of two coroutines, where an exception counts as a result."""

    async def busy() -> str:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass
        return "done"

    return [str(one) for one in await asyncio.gather(busy(), busy(), return_exceptions=True)]


# ---- Families -------------------------------------------------------------------------------------------------------


def spawn_each(context: Context, program: str, children: list[Any], path: str = "") -> dict[str, int]:
    """Spawn a child for each of these parameters. With `path`, write the pid and the number of children to files."""
    if path:
        Path(path).with_suffix(".pid").write_text(str(os.getpid()))
    numbers = [context.spawn(program, one) for one in children]
    if path:
        with Path(path).open("a") as file:
            file.write(f"spawned {len(numbers)} under {context.fence}\n")
    return {"spawned": len(set(numbers))}


def spawn_and_warn(context: Context, program: str, children: list[Any]) -> None:
    context.warn("too early to say")
    spawn_each(context, program, children)


async def spawn_in_a_coroutine(context: Context, program: str, children: list[Any]) -> int:
    await asyncio.sleep(0)
    return len([context.spawn(program, one, key=f"child {place}") for place, one in enumerate(children)])


def spawn_then_wait(context: Context, program: str, children: list[Any], path: str, go: str) -> None:
    """Spawn, write so to a file, and wait: tests kill it meanwhile."""
    spawn_each(context, program, children, path)
    wait_for(context, go, seconds=60.0)


def spawn_then_fail(context: Context, program: str, children: list[Any]) -> None:
    spawn_each(context, program, children)
    raise ValueError("after its children were spawned")


def add_up(context: Context, **_: Any) -> dict[str, Any]:
    """A callback: return what became of the children."""
    children = list(context.children)
    return {
        "statuses": [child.status for child in children],
        "results": [child.result for child in children],
        "errors": [child.error["message"] if child.error else None for child in children],
        "attempt": context.attempt,
        "before": context.steps,
    }


def next_link(context: Context, program: str, children: list[Any]) -> Any:
    """A callback that makes a chain: the next child gets the result of the last one."""
    done = list(context.children)
    if len(done) < len(children):
        context.spawn(program, children[len(done)] | {"before": done[-1].result if done else None}, key=f"{len(done)}")
        return None
    return [child.result for child in done]


def link(context: Context, before: Any, name: str) -> str:
    return f"{before or 'begin'} > {name}"


def fail_first_callback(context: Context, **_: Any) -> int:
    if context.attempt == 1:
        raise TransientError("the first try of the callback fails")
    return context.attempt


def fail_then_spawn(context: Context, program: str, children: list[Any]) -> None:
    if context.attempt == 1:
        raise TransientError("the first try of the actions fails")
    spawn_each(context, program, children)


def next_link_in_steps(context: Context, count: int) -> int:
    """A callback that spawns one child each time, in a step of the same name."""
    done = len(context.children)
    if done < count:
        context.step("spawn", lambda: context.spawn("child", {"value": done}, key=f"{done}"))
    return done


def hand_on(context: Context, secret: str) -> int:
    return context.spawn("open", {"value": secret})


def spawn_in_spite_of_errors(context: Context, program: str, children: list[Any]) -> int:
    """Spawn children as an action does that goes on when one of them fails."""
    spawned = 0
    for one in children:
        try:
            context.spawn(program, one)
        except Exception:
            context.log.warning("one was not spawned")
        else:
            spawned += 1
    return spawned


def spawn_in_a_step_and_beside(context: Context, program: str, children: list[Any]) -> list[int]:
    """Spawn in a step and outside of it. A later run skips the step, but not the rest."""
    first = context.step("first", lambda: context.spawn(program))
    second = context.spawn(program)
    if context.attempt == 1:
        raise TransientError("after both")
    return [int(str(first)), second]


def spawn_beside_a_step(context: Context, program: str, children: list[Any]) -> list[int]:
    first = context.spawn(program)
    second = context.step("second", lambda: context.spawn(program))
    if context.attempt == 1:
        raise TransientError("after both")
    return [first, int(str(second))]


def spawn_one(context: Context, program: str, children: list[Any]) -> int:
    return context.spawn(program, children[0])


def spawn_one_then_fail(context: Context, program: str, children: list[Any]) -> int:
    number = context.spawn(program, children[0])
    if context.attempt == 1:
        raise TransientError("after both actions have spawned")
    return number


def spawn_each_once_more(context: Context, program: str, children: list[Any]) -> int:
    """A callback that spawns the same children again, once."""
    return sum(context.spawn(program, one) > 0 for one in children) if len(context.children) == len(children) else 0


def spawn_for(context: Context, secret: str) -> int:
    return context.spawn("hand.on", {}, key=f"for {secret}")
