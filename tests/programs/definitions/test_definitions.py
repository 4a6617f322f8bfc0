"""Program files: what a valid one becomes, and the message for each mistake."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsite.programs.definitions import (
    KINDS,
    ActionDefinition,
    DefinitionError,
    ProgramDefinition,
    from_mapping,
    parse,
)
from jobsite.programs.rules.lifecycle import Overlap
from jobsite.programs.rules.retries import RetryPolicy

QUEUES = ("default", "analytics")
TARGET = "jobsite.samples:recalculate_scores"

FILE = """
[[program]]
code = "scores.recalculate"
name = { en = "Recalculate scores", de = "Punkte neu berechnen" }
description = "Every night"
queue = "analytics"
priority = 5
timeout = "5m"
overlap = "REJECT"
overlap_keys = ["cohort"]
max_consecutive_failures = 3
scope = "TENANT"
max_worker_losses = 1
on_worker_lost = "FAIL"
retry_on_timeout = true
cancel_grace = "500ms"
transient = ["billing.Busy", "Again"]
permanent = ["ValueError"]
group = false
retry = { max_attempts = 5, initial_interval = "1s", coefficient = 2, maximum_interval = "60s", jitter = 0 }

[program.parameters]
type = "object"
required = ["cohort"]
additionalProperties = false
[program.parameters.properties.cohort]
type = "string"

[[program.action]]
kind = "python"
target = "jobsite.samples:recalculate_scores"
timeout = "1m"
name = "recalculate"

[[program.action]]
kind = "command"
argv = ["report", "--cohort", "{{ parameters.cohort }}", ""]
env = { LANG = "C", EMPTY = "" }
cwd = "reports"
"""

ALL_KINDS = "python, command, container, http, heartbeat, webhook"


def program(**keys: object) -> ProgramDefinition:
    """The definition of a small program with some keys set, or left out where they are None."""
    data = {"code": "a", "action": [{"kind": "python", "target": TARGET}], **keys}
    return from_mapping(data, where="f.toml: program 1", queues=QUEUES)


def error_of(**keys: object) -> str:
    with pytest.raises(DefinitionError) as refused:
        program(**keys)
    message = str(refused.value)
    assert message.startswith("f.toml: program 1")
    return message.removeprefix('f.toml: program 1 "a": ')


def command(**keys: object) -> dict[str, Any]:
    return {"kind": "command", "argv": ["true"], **keys}


def python(**keys: object) -> dict[str, Any]:
    return {"kind": "python", "target": TARGET, **keys}


def test_a_full_program_file_becomes_plain_values():
    [definition] = parse(FILE, source="f.toml", queues=QUEUES)

    assert definition == ProgramDefinition(
        code="scores.recalculate",
        name={"en": "Recalculate scores", "de": "Punkte neu berechnen"},
        description="Every night",
        queue="analytics",
        priority=5,
        parameters={
            "type": "object",
            "required": ["cohort"],
            "additionalProperties": False,
            "properties": {"cohort": {"type": "string"}},
        },
        timeout=300.0,
        retry=RetryPolicy(5, 1.0, 2.0, 60.0, 0.0),
        overlap=Overlap.REJECT,
        overlap_keys=("cohort",),
        max_consecutive_failures=3,
        scope="TENANT",
        max_worker_losses=1,
        on_worker_lost="FAIL",
        retry_on_timeout=True,
        cancel_grace=0.5,
        transient=("billing.Busy", "Again"),
        permanent=("ValueError",),
        group=False,
        actions=(
            ActionDefinition("python", {"target": TARGET}, name="recalculate", timeout=60.0),
            ActionDefinition(
                "command",
                {
                    "argv": ["report", "--cohort", "{{ parameters.cohort }}", ""],
                    "env": {"LANG": "C", "EMPTY": ""},
                    "cwd": "reports",
                },
            ),
        ),
    )


def test_the_smallest_program_gets_the_defaults():
    assert program() == ProgramDefinition(
        code="a",
        name={"en": "a"},
        description="",
        queue="default",
        priority=0,
        parameters={"type": "object", "additionalProperties": False},
        timeout=300.0,
        retry=RetryPolicy(max_attempts=3, initial_interval=1.0, coefficient=2.0, maximum_interval=30.0, jitter=0.1),
        overlap=Overlap.ALLOW,
        overlap_keys=(),
        max_consecutive_failures=None,
        scope="TENANT",
        max_worker_losses=3,
        on_worker_lost="RETRY",
        retry_on_timeout=False,
        cancel_grace=10.0,
        transient=(),
        permanent=(),
        group=True,
        actions=(ActionDefinition("python", {"target": TARGET}, name="", timeout=None),),
    )


def test_a_definition_cannot_be_changed_and_defaults_are_not_shared():
    with pytest.raises(dataclasses.FrozenInstanceError):
        program().priority = 1  # type: ignore[misc]

    program().parameters["type"] = "array"

    assert program().parameters["type"] == "object"


def test_none_stands_for_an_absent_key():
    keys = {field.name: None for field in dataclasses.fields(ProgramDefinition) if field.name != "actions"}

    assert program(**{**keys, "code": "a"}) == program()
    assert program(action=[python(timeout=None, name=None)]) == program()


def test_the_programs_of_a_file_keep_their_order():
    text = "\n".join(
        f'[[program]]\ncode = "{code}"\naction = [{{ kind = "command", argv = ["true"] }}]' for code in "cab"
    )

    assert [definition.code for definition in parse(text, source="f.toml", queues=QUEUES)] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("name", "Scores", {"en": "Scores"}),
        ("name", {"pt-BR": "Notas"}, {"pt-BR": "Notas"}),
        ("description", "", ""),
        ("priority", -100, -100),
        ("max_consecutive_failures", 100, 100),
        ("scope", "SYSTEM", "SYSTEM"),
        ("overlap", "QUEUE", Overlap.QUEUE),
        ("cancel_grace", "0s", 0.0),
        ("retry", {}, RetryPolicy()),
        ("retry", {"max_attempts": 1}, RetryPolicy(max_attempts=1)),
    ],
)
def test_allowed_values_are_kept(key, value, read):
    assert getattr(program(**{key: value}), key) == read


@pytest.mark.parametrize("code", ["a", "0", "scores.recalculate", "a_b-c.d", "a" * 100])
def test_good_codes(code):
    assert program(code=code).code == code


@pytest.mark.parametrize("code", ["", "A", ".a", "-a", "a b", "a/b", "ä", "a\n", "a" * 101, 5, ["a"]])
def test_bad_codes(code):
    assert "code: expected up to 100 of" in error_of(code=code)


@pytest.mark.parametrize(
    ("actions", "timeout"),
    [
        ([python()], 300.0),
        ([command()], 30.0),
        ([python(), command(), command()], 360.0),
        ([command(timeout="5s")], 30.0),
        ([command()] * 200, 3_600.0),
    ],
)
def test_without_a_timeout_the_kinds_of_the_actions_set_it(actions, timeout):
    assert program(action=actions).timeout == timeout


@pytest.mark.parametrize(
    ("action", "callback", "timeout"), [(command(), python(), 300.0), (python(), command(), 300.0)]
)
def test_the_callback_is_a_run_of_its_own_with_the_same_limit(action, callback, timeout):
    made = program(action=[action], callback=callback)

    assert (made.timeout, made.callback.name, made.callback.kind) == (timeout, "callback", callback["kind"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"timeout": "1d1s"}, "timeout: expected at most 1d for this kind of action, got 1d1s"),
        (
            {"callback": command(timeout="2h")},
            "callback: timeout: expected at most 1h for this kind of action, got 2h",
        ),
        (
            {"timeout": "10s", "callback": python(timeout="11s")},
            "callback: timeout: expected at most the program's timeout of 10s, got 11s",
        ),
        (
            {"action": [python(name="sum")], "callback": python(name="sum")},
            'callback: name: "sum" is also the name of an action, expected another',
        ),
        ({"callback": {"kind": "magic"}}, "callback: kind: expected "),
        ({"on_child_failure": "CRY"}, "on_child_failure: expected "),
        (
            {"timeout": "61m", "action": [command()]},
            "timeout: expected at most 1h for this kind of action, got 1h1m",
        ),
        (
            {"action": [python(), command(timeout="2h")]},
            "action: item 2: timeout: expected at most 1h for this kind of action, got 2h",
        ),
        (
            {"action": [python(timeout="6m")]},
            "action: item 1: timeout: expected at most the program's timeout of 5m, got 6m",
        ),
        ({"timeout": "0s"}, 'timeout: expected a duration above zero, got text "0s"'),
        (
            {"timeout": 300},
            'timeout: expected a duration such as "500ms", "30s", "5m", "1h" or "1d", got int',
        ),
        ({"timeout": "300"}, 'timeout: "300" has no unit: expected a duration such as'),
    ],
)
def test_a_timeout_stays_within_its_kinds_and_its_program(keys, message):
    assert error_of(**keys).startswith(message)


def test_the_longest_maximum_among_the_kinds_bounds_a_program():
    assert program(timeout="24h", action=[command(), python(timeout="24h")]).timeout == 86_400.0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"prioritty": 1}, 'prioritty: is not a known key (did you mean "priority"?), known are code, name,'),
        ({"zzz": 1}, "zzz: is not a known key, known are code, name, description, queue, priority,"),
        ({"code": None}, "f.toml: program 1: code: is required"),
        ({"action": None}, "action: is required"),
        ({"action": []}, "action: expected a list that is not empty, got empty list"),
        ({"action": {}}, "action: expected a list that is not empty, got empty table"),
        ({"action": ["x"]}, 'action: item 1: expected a table, got text "x"'),
        ({"name": ""}, 'name: expected text that is not empty, got text ""'),
        ({"name": {}}, "name: expected text, or a text by language, got empty table"),
        ({"name": {"en": 5}}, "name: en: expected text, got integer 5"),
        ({"name": {"English": "x"}}, 'name: expected a language such as "en", got text "English"'),
        ({"name": 5}, "name: expected a table, got integer 5"),
        ({"description": 5}, "description: expected text, got integer 5"),
        ({"description": "\0"}, "description: contains a NUL character or a lone surrogate"),
        (
            {"queue": "analytic"},
            'queue: expected one of default, analytics, got text "analytic" (did you mean',
        ),
        ({"queue": ["default"]}, "queue: expected one of default, analytics, got list"),
        ({"priority": 101}, "priority: expected an integer from -100 to 100, got integer 101"),
        ({"priority": True}, "priority: expected an integer from -100 to 100, got boolean true"),
        ({"priority": "5"}, 'priority: expected an integer from -100 to 100, got text "5"'),
        ({"priority": 5.0}, "priority: expected an integer from -100 to 100, got float 5.0"),
        ({"max_consecutive_failures": 2}, "max_consecutive_failures: expected an integer from 3 to 100, got"),
        ({"scope": "tenant"}, 'scope: expected one of TENANT, SYSTEM, got text "tenant"'),
        ({"max_worker_losses": 0}, "max_worker_losses: expected an integer of at least 1, got integer 0"),
        ({"max_worker_losses": 2**40}, "max_worker_losses: expected an integer of at least 1, got integer"),
        (
            {"on_worker_lost": "RETYR"},
            'on_worker_lost: expected one of RETRY, FAIL, got text "RETYR" (did you',
        ),
        ({"retry_on_timeout": 1}, "retry_on_timeout: expected true or false, got integer 1"),
        ({"group": "yes"}, 'group: expected true or false, got text "yes"'),
        ({"cancel_grace": 10}, "cancel_grace: expected a duration such as"),
        ({"transient": "X"}, 'transient: expected a list, got text "X"'),
        ({"transient": ["a b"]}, "transient: item 1: expected the name of an exception, bare or such as"),
        ({"permanent": ["X", "X"]}, "permanent: contains the same item twice, expected different ones"),
        ({"permanent": ["X"], "transient": ["X"]}, "permanent: X is also in transient, expected in one of"),
        ({"retry": 3}, "retry: expected a table, got integer 3"),
        ({"retry": {"attempts": 3}}, "retry: attempts: is not a known key"),
        (
            {"retry": {"max_attempts": 0}},
            "retry: max_attempts: expected an integer of at least 1, got integer 0",
        ),
        (
            {"retry": {"coefficient": 0.5}},
            "retry: coefficient: expected a number from 1 to 1000, got float 0.5",
        ),
        (
            {"retry": {"coefficient": float("nan")}},
            "retry: coefficient: expected a number from 1 to 1000, got",
        ),
        (
            {"retry": {"coefficient": True}},
            "retry: coefficient: expected a number from 1 to 1000, got boolean",
        ),
        ({"retry": {"jitter": 1.1}}, "retry: jitter: expected a number from 0 to 1, got float 1.1"),
        ({"retry": {"initial_interval": 1}}, "retry: initial_interval: expected a duration such as"),
        (
            {"retry": {"initial_interval": "1m"}},
            "retry: maximum_interval: expected at least the initial_interval, 1m, got 30s",
        ),
        ({"parameters": []}, "parameters: expected a schema (an object), got array []"),
        (
            {"parameters": {"type": "array"}},
            'parameters: /type expected "object" at the top, got string "array"',
        ),
        (
            {"parameters": {"type": "object", "properties": {"x": {"type": "strin"}}}},
            'parameters: /properties/x/type expected one of "array", "boolean"',
        ),
    ],
)
def test_an_error_says_in_one_line_what_is_wrong_and_what_is_allowed(keys, message):
    said = error_of(**keys)

    assert said.startswith(message)
    assert "\n" not in said


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"overlap": "REPLACE"}, 'overlap: expected one of ALLOW, REJECT, QUEUE, got text "REPLACE"'),
        (
            {"overlap_keys": ["cohort"]},
            'overlap_keys: need overlap = "REJECT" or "QUEUE", got "ALLOW"',
        ),
        (
            {"overlap": "QUEUE", "overlap_keys": ["cohrt"]},
            'overlap_keys: expected one of cohort, year, got text "cohrt" (did you mean "cohort"?)',
        ),
        ({"overlap": "REJECT", "overlap_keys": ["year", "year"]}, "overlap_keys: contains the same item twice"),
        ({"overlap": "REJECT", "overlap_keys": [5]}, "overlap_keys: item 1: expected text, got integer 5"),
    ],
)
def test_overlap_keys_name_parameters_and_need_a_policy(keys, message):
    schema = {"type": "object", "properties": {"cohort": {}, "year": {}}}

    assert error_of(parameters=schema, **keys).startswith(message)


def test_overlap_keys_without_parameters_name_nothing():
    assert error_of(overlap="QUEUE", overlap_keys=["x"]).startswith("overlap_keys: expected one of none, got")


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ({}, f"kind: expected one of {ALL_KINDS}, got nothing"),
        (
            {"kind": "pyhton"},
            f'kind: expected one of {ALL_KINDS}, got text "pyhton" (did you mean "python"?)',
        ),
        ({"kind": ["python"]}, f"kind: expected one of {ALL_KINDS}, got list"),
        ({"kind": "python"}, "target: is required"),
        (
            {"kind": "python", "tarjet": "a:b"},
            'tarjet: is not a known key (did you mean "target"?), known are',
        ),
        (python(argv=["x"]), "argv: is not a known key, known are kind, name, timeout, target"),
        (
            python(target="rm -rf /"),
            'target: expected "module:function" or the dotted name of a Celery task, got',
        ),
        (python(target="recalculate"), "target: expected"),
        (python(target="a:b:c"), "target: expected"),
        (python(target="a.b:"), "target: expected"),
        (python(target="../a:b"), "target: expected"),
        (python(name=5), "name: expected a name of at most 100 characters, got integer 5"),
        ({"kind": "command"}, "argv: is required"),
        (command(argv=[]), "argv: expected a list that is not empty, got empty list"),
        (command(argv="ls -l"), 'argv: expected a list that is not empty, got text "ls -l"'),
        (command(argv=["ls", 1]), "argv: item 2: expected text, got integer 1"),
        (command(argv=["ls", "a\0b"]), "argv: item 2: contains a NUL character or a lone surrogate"),
        (command(env={"PORT": 8080}), "env: PORT: expected text, got integer 8080"),
        (command(env={"A=B": "x"}), 'env: expected the name of an environment variable, got text "A=B"'),
        (command(env=["A=B"]), "env: expected a table, got list"),
        (command(cwd=""), 'cwd: expected text that is not empty, got text ""'),
    ],
)
def test_an_action_is_checked_by_its_kind(action, message):
    assert error_of(action=[action]).startswith(f"action: item 1: {message}")


@pytest.mark.parametrize("target", [TARGET, "module:function", "billing.tasks.send_invoices"])
def test_good_python_targets(target):
    assert program(action=[python(target=target)]).actions[0].configuration == {"target": target}


@pytest.mark.parametrize(("kind", "default", "maximum"), [("python", 300.0, 86_400.0), ("command", 30.0, 3_600.0)])
def test_the_kinds_have_the_limits_of_the_specification(kind, default, maximum):
    assert (KINDS[kind].default_timeout, KINDS[kind].maximum_timeout) == (default, maximum)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.toml: program: is required"),
        ("program = []", "f.toml: program: expected a list that is not empty, got empty list"),
        ("program = 5", "f.toml: program: expected a list that is not empty, got integer 5"),
        ("program = [5]", "f.toml: program: item 1: expected a table, got integer 5"),
        (
            '[[programs]]\ncode = "a"',
            'f.toml: programs: is not a known key (did you mean "program"?), known are',
        ),
        ("x = = 3", "f.toml: is not TOML: Invalid value (at line 1, column 5)"),
        pytest.param("x = " + "[" * 5_000, "f.toml: is not TOML: ", id="nested without end"),
        pytest.param("x = " + "9" * 5_000, "f.toml: is not TOML: ", id="a number without end"),
        pytest.param(
            FILE.replace("priority = 5", "priority = 0x" + "f" * 9_000),
            'f.toml: program 1 "scores.recalculate": priority: expected an integer from -100 to 100, got int',
            id="a hexadecimal number without end",
        ),
        (
            FILE.replace('timeout = "5m"', "timeout = 2026-11-22"),
            'f.toml: program 1 "scores.recalculate": timeout: expected a duration such as',
        ),
        (
            FILE.replace('type = "string"', "default = 2026-11-22"),
            'f.toml: program 1 "scores.recalculate": parameters: /properties/cohort/default is a date; use',
        ),
        (FILE + FILE, 'f.toml: program 2 "scores.recalculate": code: appears twice in this file'),
    ],
)
def test_an_error_in_a_file_names_the_file_and_the_program(text, message):
    with pytest.raises(DefinitionError) as refused:
        parse(text, source="f.toml", queues=QUEUES)

    assert str(refused.value).startswith(message)


def test_the_default_queue_must_exist_too():
    with pytest.raises(DefinitionError, match='p "a": queue: expected one of content, got text "default"'):
        from_mapping({"code": "a", "action": [python()]}, where="p", queues=["content"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
READ_KEYS = [field.name for field in dataclasses.fields(ProgramDefinition) if field.name != "actions"]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from([*READ_KEYS, "zzz"]), VALUES, max_size=4),
    st.lists(st.dictionaries(st.sampled_from(["kind", "target", "argv", "env", "timeout"]), VALUES), max_size=2),
)
def test_any_values_raise_a_definition_error_or_nothing(keys, actions):
    for action in ([python()], [*actions, command()], actions):
        try:
            from_mapping({"code": "a", **keys, "action": action}, where="x", queues=QUEUES)
        except DefinitionError as error:
            str(error).encode()


@given(st.text())
def test_any_text_raises_a_definition_error(text):
    with pytest.raises(DefinitionError, match=r"^f\.toml"):
        parse(text, source="f.toml", queues=QUEUES)
