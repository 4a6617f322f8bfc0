"""Masks of secrets: in stored parameters, and in all that a run writes."""

import json

import pytest

from jobsite.values import storable
from jobsite.values.masking import MASK, mask_of, masked

AWKWARD = 'pä"ss\\wörd /77?\n\x1b😀'


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (AWKWARD, MASK),
        (json.dumps({"a": AWKWARD}), f'{{"a": "{MASK}"}}'),
        (json.dumps({"a": AWKWARD}, ensure_ascii=False), f'{{"a": "{MASK}"}}'),
        (repr({"a": AWKWARD}), f"{{'a': '{MASK}'}}"),
        (ascii({"a": AWKWARD}), f"{{'a': '{MASK}'}}"),
        (str(KeyError(repr({"a": AWKWARD}))), f"'{{\\'a\\': \\'{MASK}\\'}}'"),
        (
            json.dumps(json.dumps(json.dumps(AWKWARD))),
            json.dumps(json.dumps(json.dumps(MASK, ensure_ascii=False), ensure_ascii=False), ensure_ascii=False),
        ),
        ("https://bob:p%C3%A4%22ss%5Cw%C3%B6rd%20%2F77%3F%0A%1B%F0%9F%98%80@host", f"https://bob:{MASK}@host"),
    ],
)
def test_a_text_is_masked_however_it_is_escaped(written, shown):
    assert mask_of([AWKWARD]).text(written) == shown


@pytest.mark.parametrize(
    ("secret", "said", "shown"),
    [
        (90210, "the pin is 90210.", f"the pin is {MASK}."),
        (1.25, "[1.25]", f"[{MASK}]"),
        ({"user": "root", "pin": 12}, "as root", f"as {MASK}"),
        ({"a": "x1"}, '{"a": "x1"} and {"a":"x1"} and {\'a\': \'x1\'}', f"{MASK} and {MASK} and {MASK}"),
        (["one!", "two!"], "two!one!", MASK * 2),
        ("first line\n  second line\n", "  second line", f"  {MASK}"),
        ("hunter2\n", "hunter2", MASK),
    ],
)
def test_numbers_objects_and_lines_are_masked_too(secret, said, shown):
    assert mask_of([secret]).text(said) == shown


@pytest.mark.parametrize("secret", ["abc", "", 123, None, True, False, [], {}, [1, None]])
def test_short_and_common_values_are_not_looked_for(secret):
    mask = mask_of([secret])

    assert mask is None or mask.text("abc 123 null None true True false") == "abc 123 null None true True false"


def test_the_longer_of_two_secrets_is_masked_as_a_whole():
    assert mask_of(["abcd", "abcdefgh"]).text("abcdefgh abcd") == f"{MASK} {MASK}"


def test_a_result_is_masked_in_its_texts_its_keys_and_its_numbers():
    mask = mask_of(["hunter2", 90210, {"a": 1}])
    result = {"hunter2": 1, "b": ["my hunter2", 90210, 902101, 90210.0], "c": {"a": 1}, "d": True, "e": None}

    assert storable.result(result, mask=mask) == {
        MASK: 1, "b": [f"my {MASK}", MASK, 902101, 90210.0], "c": MASK, "d": True, "e": None,
    }  # fmt: skip
    assert result["b"][1] == 90210


def test_a_secret_is_masked_before_the_text_is_cut():
    secret = "s" * 100

    assert "sss" not in storable.text(f"it is {secret}", limit=40, mask=mask_of([secret]))


def test_the_repr_of_a_mask_shows_no_secret():
    mask = mask_of(["hunter2"])

    assert "hunter2" not in repr(mask)


def test_only_stored_secrets_are_shown_as_dots():
    stored = {"a": {"$secret": "gAAAA"}, "b": [{"c": {"$secret": "gAAAA"}}, 1], "d": {"$secret": "x", "e": 1}}

    assert masked(stored) == {"a": MASK, "b": [{"c": MASK}, 1], "d": {"$secret": "x", "e": 1}}
