"""What blocks a PENDING job: the first of several reasons, and nothing where there is none."""

from itertools import product

import pytest

from jobsite.programs.sql.blocked import blocked

pytestmark = pytest.mark.django_db
REASONS = {"held": "HELD", "early": "SCHEDULED", "paused": "PAUSED", "turn": "OVERLAP"}


@pytest.mark.parametrize("truth", list(product((True, False), repeat=4)))
def test_the_first_true_reason_is_the_value(cursor, truth):
    conditions = {name: str(holds).lower() for name, holds in zip(REASONS, truth, strict=True)}

    cursor.execute(f"SELECT {blocked(**conditions)}")

    expected = next((reason for reason, holds in zip(REASONS.values(), truth, strict=True) if holds), None)
    assert cursor.fetchone()[0] == expected


@pytest.mark.parametrize("name", REASONS)
def test_a_reason_that_is_left_out_is_never_the_value(cursor, name):
    others = dict.fromkeys(REASONS.keys() - {name}, "false")

    cursor.execute(f"SELECT {blocked(**others)}")

    assert cursor.fetchone()[0] is None
    assert REASONS[name] not in blocked(**others)
