"""The settings of the tests: jobsite's own, with embedded servers in a folder of the tests."""

import os
from pathlib import Path

os.environ.setdefault("JOBSITE_HOME", str(Path(__file__).resolve().parent.parent / ".jobsite" / "tests"))
os.environ.setdefault("JOBSITE_ACTIONS", "jobsite.samples,tests.sample_actions")

from jobsite.settings import *  # noqa: E402, F403 - the environment must be set first

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
