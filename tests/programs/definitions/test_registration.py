"""Loading programs: who may, what is refused, what a second load changes, and the audit."""

from pathlib import Path

import pytest
from django.contrib.auth.models import User

from jobsite.errors import Forbidden, Invalid
from jobsite.programs.definitions import from_mapping, parse
from jobsite.programs.definitions.registration import Loaded, load
from jobsite.programs.models import Action, Program
from jobsite.tenants import principals
from jobsite.tenants.models import AuditEntry, Membership, Role
from tests.programs.conftest import refused

pytestmark = pytest.mark.django_db

QUEUES = ("default", "content")
PYTHON = {"kind": "python", "target": "tests.sample_actions:succeed"}


def definition(code="scores", **keys):
    keys.setdefault("action", [PYTHON])
    return from_mapping({"code": code, **keys}, where="test", queues=QUEUES)


FULL = """
[[program]]
code = "scores.recalculate"
name = { en = "Scores", de = "Noten" }
description = "All marks anew."
queue = "content"
priority = 7
timeout = "2m"
cancel_grace = "3s"
max_worker_losses = 2
on_worker_lost = "FAIL"
retry_on_timeout = true
transient = ["ValueError"]
permanent = ["KeyError"]
group = false
overlap = "REJECT"
overlap_keys = ["student"]
max_consecutive_failures = 5
on_child_failure = "FAIL"
cancel_children_on_failure = true
retry = { max_attempts = 5, initial_interval = "2s", coefficient = 3.0, maximum_interval = "1m", jitter = 0.2 }

[program.parameters]
type = "object"
required = ["student"]
properties = { student = { type = "integer" } }

[[program.action]]
kind = "python"
name = "load"
target = "tests.sample_actions:succeed"
timeout = "30s"

[[program.action]]
kind = "command"
argv = ["/bin/echo", "{{ parameters.student }}"]

[program.callback]
kind = "python"
target = "tests.sample_actions:add_up"
timeout = "10s"
"""


def test_a_program_is_stored_as_it_is_defined(operator):
    [loaded] = load(operator, parse(FULL, source="f", queues=QUEUES))

    assert loaded == Loaded("scores.recalculate", "created")
    program = Program.objects.get()
    expected = {
        "code": "scores.recalculate",
        "names": {"en": "Scores", "de": "Noten"},
        "description": "All marks anew.",
        "status": "ACTIVE",
        "priority": 7,
        "timeout_seconds": 120.0,
        "cancel_grace_seconds": 3.0,
        "max_worker_losses": 2,
        "on_worker_lost": "FAIL",
        "retry_on_timeout": True,
        "transient": ["ValueError"],
        "permanent": ["KeyError"],
        "travels_in_groups": False,
        "overlap_policy": "REJECT",
        "overlap_keys": ["student"],
        "max_consecutive_failures": 5,
        "on_child_failure": "FAIL",
        "cancel_children_on_failure": True,
        "max_attempts": 5,
        "initial_interval": 2.0,
        "coefficient": 3.0,
        "maximum_interval": 60.0,
        "jitter": 0.2,
        "version": 1,
    }
    assert {name: getattr(program, name) for name in expected} == expected
    assert (program.tenant, program.queue.name) == (operator.tenant, "content")
    assert program.parameters_schema["required"] == ["student"]


def test_its_actions_are_stored_in_their_order(operator):
    load(operator, parse(FULL, source="f", queues=QUEUES))

    actions = Action.objects.values_list("position", "kind", "name", "timeout_seconds", "is_callback")
    assert list(actions) == [
        (1, "python", "load", 30.0, False),
        (2, "command", "", None, False),
        (3, "python", "callback", 10.0, True),
    ]


@pytest.mark.parametrize(
    "text",
    [FULL, '[[program]]\ncode = "x"\n[[program.action]]\nkind = "python"\ntarget = "tests.sample_actions:succeed"\n'],
    ids=["all keys", "the least"],
)
def test_loading_the_same_definitions_again_changes_nothing(operator, text):
    definitions = parse(text, source="f", queues=QUEUES)
    load(operator, definitions)
    before = Program.objects.values().get(), list(Action.objects.values())

    [loaded] = load(operator, definitions)

    assert loaded.change == "unchanged"
    assert (Program.objects.values().get(), list(Action.objects.values())) == before
    assert AuditEntry.objects.count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"priority": 1},
        {"timeout": "1m"},
        {"retry": {"max_attempts": 9}},
        {"queue": "content"},
        {"parameters": {"type": "object"}},
        {"action": [PYTHON | {"timeout": "1s"}]},
        {"action": [PYTHON, PYTHON]},
        {"callback": PYTHON},
        {"on_child_failure": "IGNORE"},
        {"action": [{"kind": "python", "target": "tests.sample_actions:echo"}]},
    ],
    ids=str,
)
def test_a_change_makes_a_new_version_of_the_program(operator, change):
    load(operator, [definition()])
    first = Program.objects.get()

    [loaded] = load(operator, [definition(**change)])

    program = Program.objects.get()
    assert (loaded.change, program.pk, program.version) == ("updated", first.pk, 2)
    assert program.updated_at > first.updated_at
    assert program.actions.count() == len(change.get("action", [PYTHON])) + ("callback" in change)


def test_a_load_keeps_what_an_operator_did_to_a_program(operator):
    load(operator, [definition()])
    Program.objects.update(status="PAUSED", consecutive_failures=2, mean_seconds=0.5, measured_runs=40)

    load(operator, [definition(priority=1)])

    program = Program.objects.get()
    assert (program.status, program.consecutive_failures, program.mean_seconds) == ("PAUSED", 2, 0.5)


def test_programs_that_are_not_named_are_left_alone(operator):
    load(operator, [definition("a"), definition("b")])

    load(operator, [definition("b", priority=1)])

    assert dict(Program.objects.values_list("code", "priority")) == {"a": 0, "b": 1}


def test_the_code_of_a_deleted_program_is_free(operator):
    load(operator, [definition()])
    Program.objects.update(deleted_at=AuditEntry.objects.get().at)

    assert load(operator, [definition()]) == [Loaded("scores", "created")]

    assert Program.objects.filter(code="scores").count() == 2


def test_two_tenants_may_use_one_code(operator, other_tenant):
    load(operator, [definition()])

    load(principals.local(other_tenant, login="root"), [definition(priority=9)])

    assert dict(Program.objects.values_list("tenant__code", "priority")) == {"acme": 0, "umbrella": 9}


def test_all_programs_are_stored_or_none(operator):
    bad = definition("bad", action=[{"kind": "python", "target": "tests.sample_actions:missing"}])

    with refused(Invalid, "invalid"):
        load(operator, [definition("good"), bad])

    assert not Program.objects.exists()


def test_a_load_is_audited(operator):
    load(operator, [definition()])
    load(operator, [definition(priority=3)])

    created, updated = AuditEntry.objects.order_by("id")
    assert (created.action, created.target_type, created.target) == ("program created", "program", "scores")
    assert (created.actor, created.door, created.before) == ("local:root", "cli", None)
    assert updated.action == "program updated"
    assert (updated.before["priority"], updated.after["priority"]) == (0, 3)


# ---- who -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_loading_programs_needs_jobs_admin(tenant, alice, role):
    Membership.objects.update(role=role)

    with refused(Forbidden, "missing_scope"):
        load(principals.of_user(alice, tenant), [definition()])

    assert not Program.objects.exists()


def test_a_tenant_may_use_functions_of_allowed_modules(alice_principal):
    assert load(alice_principal, [definition()]) == [Loaded("scores", "created")]


@pytest.mark.parametrize("target", ["os:system", "subprocess:run", "tests.sample_actions_of_others:x"])
def test_a_tenant_may_not_use_functions_of_other_modules(alice_principal, target):
    with refused(Forbidden, "platform_only") as refusal:
        load(alice_principal, [definition(action=[{"kind": "python", "target": target}])])

    assert f"{target} is not in a module that tenants may use" in str(refusal.value)
    assert "JOBSITE_ACTIONS" in str(refusal.value)


def test_a_module_whose_name_only_begins_like_an_allowed_one_is_refused(alice_principal, settings):
    settings.JOBSITE_ACTIONS = ("tests.*",)
    load(alice_principal, [definition()])

    settings.JOBSITE_ACTIONS = ("test.*", "tests.sample")
    with refused(Forbidden, "platform_only"):
        load(alice_principal, [definition("other")])


@pytest.mark.parametrize(
    ("callback", "words"),
    [
        ({"kind": "python", "target": "os.path:join"}, "callback: os.path:join is not in a module"),
        ({"kind": "command", "argv": ["id"]}, "callback: only the platform's operators may define command actions"),
    ],
)
def test_a_tenants_callback_obeys_the_same_rules_as_an_action(alice_principal, callback, words):
    with pytest.raises(Forbidden, match=f'program "scores": {words}'):
        load(alice_principal, [definition(callback=callback)])


@pytest.mark.parametrize(
    ("place", "text", "words"),
    [
        ("action", "{{ childern.failed }}", "action 1: .*unknown name childern; there are parameters, steps"),
        ("action", "{{ children.failed }}", "action 1: .*unknown name children; there are parameters, steps"),
        ("callback", "{{ children.fialed }}", "callback: .*unknown name children.fialed; there are completed, failed"),
        ("callback", "{% if childern %}x{% endif %}", "unknown name childern; there are parameters, steps, children"),
    ],
)
def test_names_unknown_to_liquid_are_refused_on_load(operator, place, text, words):
    command = {"kind": "command", "argv": ["echo", text]}
    keys = {"action": [command]} if place == "action" else {"callback": command}

    with pytest.raises(Invalid, match=words):
        load(operator, [definition(**keys)])


def test_names_known_to_liquid_are_accepted(operator):
    words = ["{{ parameters.a }}", "{{ steps.load.b }}", "{{ children.failed }} of {{ children.total }}"]

    load(operator, [definition(callback={"kind": "command", "argv": ["echo", *words]})])

    assert Action.objects.get(is_callback=True).configuration["argv"][1:] == words


def test_a_tenant_may_not_define_commands(alice_principal):
    with refused(Forbidden, "platform_only"):
        load(alice_principal, [definition(action=[{"kind": "command", "argv": ["/bin/true"]}])])


def test_a_superuser_and_the_command_line_may_define_commands(operator, tenant):
    root = principals.of_user(User.objects.create_superuser("root"), tenant)

    for number, principal in enumerate((operator, root)):
        actions = [{"kind": "command", "argv": ["/bin/true"]}, {"kind": "python", "target": "os:getpid"}]
        load(principal, [definition(f"p{number}", action=actions)])

    assert Program.objects.count() == 2


# ---- what cannot run -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ({"kind": "python", "target": "no.such.module:run"}, "No module named"),
        ({"kind": "python", "target": "tests.sample_actions:missing"}, "missing"),
        ({"kind": "python", "target": "tests.sample_actions:time"}, "is not a function"),
        ({"kind": "python", "target": "tests.sample_actions.succeed"}, "there is no Celery task of this name"),
        ({"kind": "command", "argv": ["echo", "{{ parameters.x"]}, "{{ parameters.x"),
        ({"kind": "command", "argv": ["echo"], "env": {"A": "{% if %}"}}, "{% if %}"),
    ],
    ids=str,
)
def test_an_action_that_cannot_run_here_is_refused_on_load(operator, action, words):
    with refused(Invalid, "invalid") as refusal:
        load(operator, [definition(action=[PYTHON, action])])

    assert str(refusal.value).startswith('program "scores": action 2: ')
    assert words in str(refusal.value)


def test_a_module_that_fails_to_import_is_refused_on_load(operator, tmp_path, monkeypatch):
    Path(tmp_path, "broken_by_hand.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)

    with refused(Invalid, "invalid"):
        load(operator, [definition(action=[{"kind": "python", "target": "broken_by_hand:run"}])])


@pytest.mark.parametrize("keys", [{"scope": "SYSTEM"}], ids=str)
def test_the_scope_system_is_refused(operator, keys):
    with refused(Invalid, "invalid"):
        load(operator, [definition(**keys)])
