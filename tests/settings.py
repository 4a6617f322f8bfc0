"""The settings of the tests: jobsite's own, with embedded servers in a folder of the tests."""

import os
from pathlib import Path

os.environ.setdefault("JOBSITE_HOME", str(Path(__file__).resolve().parent.parent / ".jobsite" / "tests"))
# Failpoints are on, without a plan: a test may arm some in its own process.
os.environ.setdefault("JOBSITE_FAILPOINTS", "")
os.environ.setdefault("JOBSITE_ACTIONS", "jobsite.samples,tests.sample_actions")

from jobsite.settings import *  # noqa: F403 - the environment must be set first
from jobsite.settings import CELERY_BROKER_TRANSPORT_OPTIONS, DATABASES

# The prefix of messages has the name of the tests' database, which pytest-django makes from ours.
_name = str(DATABASES["default"]["NAME"])
if not _name.startswith("test_"):
    CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = f"jobsite:test_{_name}:"

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
