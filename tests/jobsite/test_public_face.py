"""`from jobsite import …`: the names that users rely on, loaded on first use and not before."""

import subprocess
import sys

import pytest

import jobsite
from jobsite import submit
from jobsite.programs import submission
from jobsite.programs.models import Program
from jobsite.tenants.models import Tenant


def python(code: str) -> str:
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_the_import_loads_nothing_else():
    loaded = "{name.split('.')[0] for name in sys.modules} & {'django', 'celery', 'psycopg', 'redis', 'structlog'}"
    ours = "sorted(name for name in sys.modules if name.startswith('jobsite'))"

    assert python(f"import sys, jobsite; print({loaded} or '', {ours})") == "['jobsite']"


def test_the_errors_of_actions_need_no_django():
    code = "import sys; from jobsite import PermanentError, TransientError; print('django' in sys.modules)"

    assert python(code) == "False"


@pytest.mark.parametrize("name", jobsite.__all__)
def test_every_public_name_can_be_imported(name):
    assert getattr(jobsite, name).__name__ == name
    assert name in dir(jobsite)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'jobsite' has no attribute 'nothing'"):
        _ = jobsite.nothing


def test_a_job_is_submitted_through_the_public_face(tenant: Tenant, define):
    program: Program = define("scores")

    job = submit(tenant=tenant, program=program.code)

    assert submit is submission.submit
    assert (job.status, job.program) == ("PENDING", program)  # until the test's transaction commits
