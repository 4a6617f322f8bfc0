"""Rendering what tenants wrote: the output, what is refused, and that nothing they write harms the process."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from jobsite.notifications import rendering
from jobsite.notifications.rendering import Problem, RenderingFailed, Wording, problems, render

FACTS: dict[str, object] = {
    "event": {"name": "FAILED", "suppressed": 0, "in_a_row": 1},
    "job": {"number": 4711, "outcome": "ERROR"},
    "program": {"code": "recalc", "name": "Recalculate"},
    "schedule": None,
    "parameters": {"name": "<script>alert(1)</script>", "lines": "a\r\nBcc: x", "items": [3, 1, 2]},
    "result": None,
    "error": None,
    "tenant": {"code": "acme", "name": "Acme & Co"},
    "user": None,
}
GROWTH = 100 * 1024


def written(text: str = "x", *, subject: str = "s", html: str = "", strict: bool = False) -> rendering.Rendered:
    return render(Wording(subject, text, html), FACTS, language="en", strict=strict)


def child() -> int:
    """The process id of a child that is ready."""
    written()
    pid = rendering._renderer.pid
    assert pid is not None
    return pid


def kilobytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


class Watched:
    """The peak memory of a child, read while it works, since a killed child leaves no figure behind."""

    def __init__(self, pid: int) -> None:
        self.pid, self.peak, self._is_over = pid, 0, threading.Event()
        self.idle = kilobytes(pid, "VmRSS")
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while True:
            is_over = self._is_over.wait(0.001)
            with contextlib.suppress(OSError):
                self.peak = max(self.peak, kilobytes(self.pid, "VmHWM"))
            if is_over:
                return

    def __enter__(self) -> "Watched":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def doubling(step: str, times: int = 40) -> str:
    return "{% assign a = 'aaaaaaaaaa' %}" + step * times + "{{ a | size }}"


LONG = "{% capture a %}{% for i in (1..6000) %}aaaaaaaaaa{% endfor %}{% endcapture %}"
NESTED = "{% for i in (1..100) %}" * 4 + "x" + "{% endfor %}" * 4
BOMBS = {
    "nested loops": NESTED,
    "loops one after the other": "{% for i in (1..9999) %}{% if i == 0 %}x{% endif %}{% endfor %}" * 120,
    "loops that call a partial": "{% for i in (1..9000) %}{% render 'facts' %}{% endfor %}",
    "a huge range": "{% for i in (1..100000000000) %}x{% endfor %}",
    "a huge range backwards": "{% for i in (1..100000000000) reversed %}x{% endfor %}",
    "a range beyond 64 bits": "{% for i in (1..99999999999999999999999999) %}x{% endfor %}",
    "a huge range joined": "{{ (1..100000000000) | join: ',' }}",
    "a search in a huge range": "{% assign r = (1..100000000000) %}{% if r contains 'x' %}x{% endif %}",
    "doubling append": doubling("{% assign a = a | append: a %}"),
    "a chain of append": LONG + "{{ a" + " | append: a" * 1000 + " | size }}",
    "doubling capture": doubling("{% capture a %}{{ a }}{{ a }}{% endcapture %}"),
    "doubling replace": doubling("{% assign a = a | replace: 'a', a %}", 10),
    "replace of nothing": LONG + "{{ a | replace: '', a | size }}",
    "join with a long separator": LONG + "{% assign l = (1..9000) | join: ' ' | split: ' ' %}{{ l | join: a | size }}",
    "split into characters": LONG + "{{ a | split: '' | size }}",
    "a number that is squared": "{% assign n = 99999999999 %}" + "{% assign n = n | times: n %}" * 30 + "{{ n }}",
    "braces that never close": "{{" * 240 + "{" * 15_000,
    "a tag that never closes": "{% a" + " " * 16_000,
    "many tags that never close": ("{% if" + " " * 60) * 240,
    "deep blocks": "{% if job %}" * 200 + "{% endif %}" * 200,
    "deep brackets": "{{ " + "job[" * 3000 + "1" + "]" * 3000 + " }}",
    "a long chain of conditions": "{% if " + "job and " * 1900 + "job %}{% endif %}",
    "a long chain of filters": "{{ 'a'" + "|upcase" * 2300 + " }}" + NESTED,
    "a million characters": "a" * 1_000_000,
    "too many tags": "{{ job.number }}" * 900,
    "an include": "{% include 'facts' %}",
    "a file": "{% render '/etc/passwd' %}",
    "a tag that is not ours": "{% tablerow i in (1..3) %}{% endtablerow %}",
    "a filter that is not ours": "{{ 'a' | safe }}",
}


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in BOMBS.items()])
def test_a_bomb_fails_within_two_seconds_and_100_megabytes(source: str) -> None:
    with Watched(child()) as watched:
        began = time.monotonic()
        with pytest.raises(RenderingFailed, match=r"^text(, line \d+)?: ."):
            written(source)
        took = time.monotonic() - began

    assert took < 2
    assert watched.peak - watched.idle < GROWTH
    assert written("still {{ job.number }}").text == "still 4711\n"


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in BOMBS.items()])
def test_the_check_of_a_bomb_ends_within_two_seconds(source: str) -> None:
    child()
    began = time.monotonic()

    problems(Wording("s", "x", source))

    assert time.monotonic() - began < 2
    assert written("still {{ job.number }}").text == "still 4711\n"


def test_a_child_killed_between_two_renderings_is_not_noticed() -> None:
    first = child()
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)

    assert written("{{ job.number }}").text == "4711\n"
    assert rendering._renderer.pid != first


def test_a_child_killed_while_rendering_fails_only_that_rendering() -> None:
    timer = threading.Timer(0.3, os.kill, (child(), signal.SIGKILL))
    timer.start()

    with pytest.raises(RenderingFailed, match=r"^text: the process that renders ended"):
        written(BOMBS["a search in a huge range"])

    timer.join()
    assert written("{{ job.number }}").text == "4711\n"


def test_a_child_that_hangs_is_replaced() -> None:
    os.kill(child(), signal.SIGSTOP)
    began = time.monotonic()

    with pytest.raises(RenderingFailed, match=r"^subject: it takes longer than 1.5 s"):
        written()

    assert time.monotonic() - began < 2
    assert written("{{ job.number }}").text == "4711\n"


@pytest.mark.parametrize("garbage", [b"no json\n", b"[]\n", b"{}\n", b"\xff\n", b'{"value": '])
def test_a_child_that_answers_garbage_is_replaced(
    garbage: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "python").write_bytes(
        b"#!/bin/sh\necho '{\"value\": \"ready\"}'\nread line\nprintf '%s' '" + garbage + b"'\n"
    )
    (tmp_path / "python").chmod(0o755)
    rendering._renderer.close()
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", str(tmp_path / "python"))
        child_of_garbage = rendering._Child()
    rendering._renderer._child = child_of_garbage

    with pytest.raises(RenderingFailed, match=r"^subject: the process that renders"):
        written()

    assert written("{{ job.number }}").text == "4711\n"


def test_an_interrupted_rendering_does_not_leave_its_answer_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    child()

    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(Interrupted):
        written(BOMBS["a search in a huge range"])
    signal.signal(signal.SIGALRM, before)

    assert written("{{ job.number }}").text == "4711\n"


def test_two_threads_each_get_their_own_text() -> None:
    found: dict[int, set[str]] = {}

    def work(number: int) -> None:
        found[number] = {written(f"thread {number}: {{{{ job.number }}}}").text for _ in range(30)}

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == {0: {"thread 0: 4711\n"}, 1: {"thread 1: 4711\n"}}


def test_a_fork_renders_with_its_own_child_while_the_parent_uses_its_child() -> None:
    ours = child()
    with rendering._renderer.talk():
        forked = os.fork()
        if not forked:
            try:
                is_own = written("{{ job.number }}").text == "4711\n" and rendering._renderer.pid not in (ours, None)
                rendering._renderer.close()
            except BaseException:
                is_own = False
            os._exit(0 if is_own else 1)
        _, status = os.waitpid(forked, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert child() == ours


def test_the_child_ends_with_its_parent() -> None:
    reader, writer = os.pipe()
    forked = os.fork()
    if not forked:
        os.write(writer, str(child()).encode())
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(forked, 0)
    grandchild = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)

    until = time.monotonic() + 5
    while is_alive(grandchild) and time.monotonic() < until:
        time.sleep(0.02)

    assert not is_alive(grandchild)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_child_gets_no_secrets_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "CANARY")
    rendering._renderer.close()

    assert b"CANARY" not in Path(f"/proc/{child()}/environ").read_bytes()


def test_html_escapes_facts_and_text_does_not() -> None:
    rendered = written("{{ parameters.name }}", html="<b>{{ parameters.name }}</b>")

    assert rendered.text == "<script>alert(1)</script>\n"
    assert "<b>&lt;script&gt;alert(1)&lt;/script&gt;</b>" in rendered.html


@pytest.mark.parametrize(
    "source",
    [
        "{{ parameters.name | upcase }}",
        "{% capture x %}{{ parameters.name }}{% endcapture %}{{ x | replace: '&lt;', '<' }}",
        "{% capture x %}{{ parameters.name }}{% endcapture %}{{ x | split: '&lt;' | join: '<' }}",
        "{{ '' | append: parameters.name }}",
        "{{ parameters.name | newline_to_br }}",
        "{% assign x = parameters.name | split: '|' %}{{ x }}",
        "{{ parameters | json }}",
        "{{ parameters }}",
        "{% cycle parameters.name %}",
        "{% echo parameters.name %}",
        "{{ parameters.name | date: '%Y' }}",
        "{{ parameters.name | when }}",
        "{{ parameters.name | duration }}",
        "{{ parameters.name | url_encode | replace: '%3C', '<' | replace: '%3E', '>' }}",
        "{% render 'row', label: 'x', value: parameters.name %}",
    ],
)
def test_no_filter_or_tag_bypasses_the_escaping(source: str) -> None:
    assert "<script" not in written(html=source).html.lower()


def test_html_is_made_from_the_text_with_paragraphs_and_links() -> None:
    page = written("One <b>.\nTwo\n\nSee https://jobs.example.com/jobs/1?a=1&b=2.\n{{ parameters.name }}").html

    assert "<p>One &lt;b&gt;.<br>Two</p>" in page
    assert '<a href="https://jobs.example.com/jobs/1?a=1&amp;b=2"' in page
    assert "&amp;b=2</a>.<br>&lt;script&gt;" in page
    assert '<html lang="en">' in page
    assert "Acme &amp; Co" in page


def test_the_subject_is_one_line() -> None:
    subject = written(subject="Hello {{ parameters.lines }}\n\tand\x00 more\u2028here").subject

    assert subject == "Hello a Bcc: x and more here"


def test_the_subject_is_cut_to_200_characters() -> None:
    subject = written(subject="word " * 100).subject

    assert len(subject) <= 200
    assert subject.endswith("word…")


def test_text_has_no_control_characters() -> None:
    assert written("{{ parameters.lines }}\x00\x1b[0m").text == "a\nBcc: x[0m\n"


def test_a_lone_surrogate_is_replaced() -> None:
    facts = FACTS | {"result": "\ud83d"}

    assert render(Wording("s", "{{ result }}"), facts, language="en").text == "?\n"


def test_an_unknown_name_is_empty_and_in_a_preview_an_error() -> None:
    assert written("a{{ parameters.nope }}b").text == "ab\n"
    with pytest.raises(RenderingFailed, match=r"^text, line 2: parameters.nope is undefined$"):
        written("a\n{{ parameters.nope }}b", strict=True)
    assert written("{{ parameters.nope | default: 'none' }}", strict=True).text == "none\n"


@pytest.mark.parametrize(
    ("wording", "words"),
    [
        (Wording("{{ 1 | divided_by: 0 }}", "x"), r"^subject, line 1: .*can't divide by 0"),
        (Wording("s", "a\nb {{ 'x' | shout }}"), r"^text, line 2: unknown filter 'shout'"),
        (Wording("s", "x", "<p>\n\n{% if %}"), r"^html, line 3: "),
    ],
)
def test_a_failure_names_the_part_the_line_and_the_reason(wording: Wording, words: str) -> None:
    with pytest.raises(RenderingFailed, match=words):
        render(wording, FACTS, language="en")


def test_facts_must_be_json() -> None:
    with pytest.raises(RenderingFailed, match="not plain JSON"):
        render(Wording("s", "x"), {"job": object()}, language="en")


def test_a_result_that_is_too_large_does_not_stop_the_message() -> None:
    facts = FACTS | {"result": "x" * 2_000_000}

    assert render(Wording("s", "{{ job.number }} {{ result }}"), facts, language="en").text == (
        "4711 (too large to be shown)\n"
    )


def test_a_million_characters_of_facts_can_be_rendered() -> None:
    facts = FACTS | {"result": [{} for _ in range(250_000)]}

    assert render(Wording("s", "{{ result | size }}"), facts | {"job": {"number": 1}}, language="en").text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("2026-11-28T12:00:00.000Z", "2026-11-28 12:00 UTC"),
        ("2026-11-28T13:00:00+01:00", "2026-11-28 12:00 UTC"),
        ("2026-11-28T12:00:00", "2026-11-28T12:00:00"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00"),
        ("soon", "soon"),
        (None, ""),
    ],
)
def test_the_filter_when_shows_a_moment(value: object, shown: str) -> None:
    assert render(Wording("s", "[{{ result | when }}]"), {"result": value}, language="en").text == f"[{shown}]\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0 ms"), (0.4, "400 ms"), (1, "1 s"), (45.2, "45 s"), (59.7, "1 min"), (200, "3 min 20 s"), (3600, "1 h"),
        (7500, "2 h 5 min"), (100_800, "1 d 4 h"), (None, ""), ("soon", "soon"),
    ],
)  # fmt: skip
def test_the_filter_duration_shows_seconds(value: object, shown: str) -> None:
    assert render(Wording("s", "[{{ result | duration }}]"), {"result": value}, language="en").text == f"[{shown}]\n"


def test_problems_give_part_line_and_reason() -> None:
    found = problems(Wording("{{ jbo.number }}", "a\n{{ 'x' | shout }}\n{{ now }}", "<p>\n{% oops %}"))

    assert [(one.part, one.line) for one in found] == [("subject", 1), ("text", 2), ("text", 3), ("html", 2)]
    assert [one.message.split(";")[0] for one in found] == [
        "unknown name 'jbo'",
        "unknown filter 'shout'",
        "unknown name 'now'",
        "unexpected tag 'oops'",
    ]
    assert str(found[1]).startswith("text, line 2: unknown filter")


def test_an_empty_and_a_too_long_part_are_problems() -> None:
    assert problems(Wording("", "a" * 20_000)) == [
        Problem("subject", None, "it is empty"),
        Problem("text", None, "it has 20,000 characters, at most 16,384 are allowed"),
    ]


def test_an_unknown_partial_is_a_problem_that_names_the_known_ones() -> None:
    [problem] = problems(Wording("s", "x\n{% render 'nope' %}"))

    assert (problem.part, problem.line) == ("text", 2)
    assert problem.message == "there is no partial nope; there are facts, link, row"


def test_allowed_tags_and_names_have_no_problems() -> None:
    source = (
        "{% comment %}{{ anything }}{% endcomment %}{% for one in parameters.items %}{{ one }}{{ forloop.index }}"
        "{% endfor %}{% assign x = job.number %}{{ x | plus: 1 }}{% raw %}{{ nope }}{% endraw %}{% # note %}"
        "{% unless job %}{% endunless %}{% case job.number %}{% when 1 %}{% else %}{% endcase %}{% render 'facts' %}"
    )

    assert problems(Wording("s", source, source)) == []
