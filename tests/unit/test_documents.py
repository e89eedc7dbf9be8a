"""JSON documents: read as `json.loads` reads them, and the amounts in a provider's usage object."""

from __future__ import annotations

import json
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cost.documents import provider_usage, read_json

BLANKS = st.text(alphabet=" \t\n\r", max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(before=BLANKS, value=VALUES, after=BLANKS)
def test_blanks_around_a_document_are_nothing(before: str, value: object, after: str) -> None:
    """As the standard library reads it."""
    text = f"{before}{json.dumps(value)}{after}"
    assert read_json(text) == json.loads(text) == value


@given(text=st.text(alphabet='{}[]":, \t\n\x0b\x0c\ufeff0123456789.-eEnultrs\\', max_size=12))
def test_what_is_no_document_is_none(text: str) -> None:
    """What the standard library refuses is refused, and nothing else."""
    try:
        wanted = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError, match="char"):
            read_json(text)
    else:
        assert read_json(text) == wanted


@pytest.mark.parametrize("order", list(permutations(("input_tokens", "prompt_tokens", "promptTokenCount"))))
def test_the_most_trusted_place_is_believed(order: tuple[str, ...]) -> None:
    """Whatever stands first in the object: `prompt_tokens` comes before the others."""
    said = {"input_tokens": 7, "prompt_tokens": 5, "promptTokenCount": 9}
    assert provider_usage({key: said[key] for key in order}) == {"input_tokens": 5}


def test_a_place_that_says_nothing_leaves_the_next_one_its_word() -> None:
    """A null, or an object that is none, is not said."""
    said = {"prompt_tokens": None, "input_tokens": 7}
    parts = {"prompt_tokens_details": 3, "cache_read_input_tokens": 2}
    assert provider_usage(said | parts) == {"input_tokens": 7, "cache_read_tokens": 2}
