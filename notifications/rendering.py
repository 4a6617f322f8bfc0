"""Fill in the wording of a notification, in a child process that a hostile template may crash but not escape.

Each of our processes has one such child, started when it is first needed. It renders one wording at a time.
"""

import atexit
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIME_LIMIT = 1.5
START_LIMIT = 10.0
MAX_SUBJECT = 200
MAX_FACTS = 1024 * 1024
MAX_ANSWER = 16 * 1024 * 1024
LARGE = ("result", "parameters")
"""Facts of any size. They are left out where the facts are too large, so that the notification itself is sent."""

PARTS = ("subject", "text", "html")
# A renderer must not see passwords and keys. Python needs only these to find itself.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Wording:
    """The Liquid sources of one notification in one language. Without html it is made from the text."""

    subject: str
    text: str
    html: str = ""


@dataclass(frozen=True)
class Rendered:
    """What is sent: a subject in one line, a plain text, and a whole HTML document."""

    subject: str
    text: str
    html: str


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a wording: the part (subject, text, html), its line if it has one, and the reason."""

    part: str
    line: int | None
    message: str

    def __str__(self) -> str:
        return f"{self.part}, line {self.line}: {self.message}" if self.line else f"{self.part}: {self.message}"


class RenderingFailed(Exception):
    """A wording cannot be rendered; one sentence names the part, the line and the reason."""


def render(wording: Wording, facts: Mapping[str, object], *, language: str, strict: bool = False) -> Rendered:
    """The wording filled in with facts (plain JSON); raises RenderingFailed, within TIME_LIMIT of its turn.

    `language` picks the partials and is the `lang` of the page. A name that the facts do not have is empty; with
    `strict` (for a preview) it is an error.
    """
    known = {"facts": _encoded(facts), "language": language, "strict": strict}
    with _renderer.talk() as talk:
        subject = _one_line(talk.ask("render", "subject", source=wording.subject, **known))
        text = _clean(talk.ask("render", "text", source=wording.text, **known))
        page = talk.ask("page", "html", source=wording.html, subject=subject, text=text, **known)
    return Rendered(subject, text, _clean(page))


def problems(wording: Wording) -> list[Problem]:
    """What is wrong with the wording, as far as that can be seen without facts; safe for any source, in TIME_LIMIT."""
    found = [Problem(part, None, "it is empty") for part in ("subject", "text") if not getattr(wording, part).strip()]
    with _renderer.talk() as talk:
        for part in PARTS:
            try:
                answer = talk.ask("problems", part, source=getattr(wording, part))
            except _ProblemFound as failure:
                return [*found, failure.problem]
            found += [Problem(part, line, message) for line, message in answer]
    return found


class _ProblemFound(RenderingFailed):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Broken(Exception):
    """The child cannot be used any more."""


class _Child:
    """A process of jobsite.notifications.renderer and the socket to it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            # Its own session: a Ctrl-C in our terminal is for us; the child ends when our end of the socket closes.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobsite.notifications.renderer"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                cwd=Path(__file__).resolve().parent.parent,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,
            )
        self._is_ready = self._is_midway = False

    @property
    def is_usable(self) -> bool:
        """False also when an exception (a signal's, say) left an answer unread: it would be taken for the next one."""
        return not self._is_midway and self.process.poll() is None

    def get_ready(self) -> None:
        """Wait until it has started; this does not count as time for rendering."""
        if not self._is_ready:
            self._is_midway = True
            try:
                self._receive(time.monotonic() + START_LIMIT)
            except _Broken as broken:
                raise _Broken("the process that renders does not start") from broken
            self._is_ready, self._is_midway = True, False

    def ask(self, request: Mapping[str, object], *, until: float) -> dict[str, Any]:
        self._is_midway = True
        try:
            self._socket.settimeout(_left(until))
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except TimeoutError as error:
            raise _Broken(f"it takes longer than {TIME_LIMIT} s") from error
        except OSError as error:
            raise _Broken("the process that renders ended") from error
        answer = self._receive(until)
        self._is_midway = False
        return answer

    def _receive(self, until: float) -> dict[str, Any]:
        received = bytearray()
        try:
            while not received.endswith(b"\n"):
                self._socket.settimeout(_left(until))
                piece = self._socket.recv(65536)
                received += piece
                if not piece or len(received) > MAX_ANSWER:
                    raise _Broken("the process that renders ended" if not piece else "it makes too much")
            answer = json.loads(received)
        except TimeoutError as error:
            raise _Broken(f"it takes longer than {TIME_LIMIT} s") from error
        except (OSError, ValueError) as error:
            raise _Broken("the process that renders broke off") from error
        if not isinstance(answer, dict) or not {"value", "message"} & answer.keys():
            raise _Broken("the process that renders gave an unreadable answer")
        return answer

    def end(self) -> None:
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def leave_to_parent(self) -> None:
        """After a fork: close our copy of the socket, which would keep the child alive, and let go of the process."""
        self._socket.close()
        self.process.returncode = 0  # it is not ours: Popen would wait for it and warn that it still runs


class _Renderer:
    """The child of this process, which serves one caller at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None

    @contextlib.contextmanager
    def talk(self) -> Iterator["_Talk"]:
        """One turn, of at most TIME_LIMIT, with a child that is ready."""
        with self._lock:
            yield _Talk(self)

    @property
    def pid(self) -> int | None:
        return self._child.process.pid if self._child else None

    def ready_child(self) -> _Child:
        if self._child is None or not self._child.is_usable:
            self.replace()
        if self._child is None:
            raise _Broken("the process that renders cannot be started")
        self._child.get_ready()
        return self._child

    def replace(self) -> None:
        """End the child and start another, without waiting for it: it will be ready when it is needed."""
        self.close()
        with contextlib.suppress(OSError):  # no memory or no process left just now; the next turn tries again
            self._child = _Child()

    def close(self) -> None:
        child, self._child = self._child, None
        if child:
            child.end()

    def forget(self) -> None:
        """In a forked process: the lock may be held by a thread that was not copied, and the child is the parent's."""
        self._lock = threading.Lock()
        child, self._child = self._child, None
        if child:
            child.leave_to_parent()


class _Talk:
    """Questions of one turn; they share its time."""

    def __init__(self, renderer: _Renderer) -> None:
        self._renderer = renderer
        self._until: float | None = None

    def ask(self, operation: str, part: str, **fields: object) -> Any:
        """The child's answer; raises _ProblemFound, also where the child ended; then it is replaced."""
        try:
            child = self._renderer.ready_child()
            self._until = self._until or time.monotonic() + TIME_LIMIT
            answer = child.ask({"operation": operation, "part": part, **fields}, until=self._until)
        except _Broken as broken:
            self._renderer.replace()
            raise _ProblemFound(Problem(part, None, str(broken))) from broken
        if answer.get("is_last"):
            self._renderer.replace()
        if "value" not in answer:
            raise _ProblemFound(Problem(part, answer.get("line"), str(answer["message"])))
        return answer["value"]


_renderer = _Renderer()
atexit.register(_renderer.close)
os.register_at_fork(after_in_child=_renderer.forget)


def _left(until: float) -> float:
    """Seconds left. Not 0: a time limit of 0 would mean not to wait, and raise another error."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _encoded(facts: Mapping[str, object]) -> str:
    try:
        encoded = _json(facts)
        if len(encoded) > MAX_FACTS:
            encoded = _json({**facts, **dict.fromkeys(LARGE, "(too large to be shown)")})
    except (TypeError, ValueError, RecursionError) as error:
        raise RenderingFailed(f"the facts are not plain JSON: {error}") from error
    if len(encoded) > MAX_FACTS:
        raise RenderingFailed(f"the facts have more than {MAX_FACTS:,} characters")
    return encoded


def _json(value: object) -> str:
    """As JSON, with a question mark for each lone surrogate, which mail and database refuse."""
    return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()


def _clean(text: str) -> str:
    """Without control characters, which PostgreSQL (NUL) and mail clients refuse."""
    return _CONTROL.sub("", text.replace("\r\n", "\n")).strip() + "\n"


def _one_line(text: str) -> str:
    is_space = ("Cc", "Zl", "Zp")
    line = " ".join("".join(" " if unicodedata.category(one) in is_space else one for one in text).split())
    return line if len(line) <= MAX_SUBJECT else line[: MAX_SUBJECT - 1].rstrip() + "…"
