"""Totals that contain their parts become buckets that do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_cost.errors import UsageError
from otel_cost.totals import usage_of_totals
from otel_cost.usage import Usage


def test_parts_are_taken_out_of_their_totals() -> None:
    """Cached input is inside input, one-hour writes inside writes, reasoning inside output."""
    usage = usage_of_totals(
        {
            "input_tokens": 1000,
            "cache_read_tokens": 600,
            "cache_write_tokens": 100,
            "cache_write_1h_tokens": 40,
            "output_tokens": 200,
            "reasoning_tokens": 150,
        }
    )
    assert usage == Usage(
        input_tokens=300,
        cache_read_tokens=600,
        cache_write_tokens=60,
        cache_write_1h_tokens=40,
        output_tokens=50,
        reasoning_tokens=150,
    )


def test_cached_parts_of_a_modality_are_cached_input() -> None:
    """250 image tokens of which 50 were cached: 200 fresh ones, and 50 of the 200 that were read."""
    usage = usage_of_totals(
        {
            "input_tokens": 1000,
            "cache_read_tokens": 200,
            "input_image_tokens": 250,
            "cache_image_read_tokens": 50,
        }
    )
    assert usage == Usage(
        input_tokens=600, cache_read_tokens=150, image_input_tokens=200, image_cache_read_tokens=50
    )
    assert usage.total_input_tokens == 1000


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("reasoning_tokens", "output_reasoning_tokens"),
        ("audio_input_tokens", "input_audio_tokens"),
        ("audio_output_tokens", "output_audio_tokens"),
        ("image_output_tokens", "output_image_tokens"),
        ("tool_input_tokens", "input_tool_tokens"),
        ("file_searches", "storage_searches"),
        ("pages", "input_document_pages"),
    ],
)
def test_names_of_genai_prices_will_do(ours: str, theirs: str) -> None:
    """Both words for one thing count it."""
    totals = {"input_tokens": 9, "output_tokens": 9}
    assert usage_of_totals({**totals, ours: 5}) == usage_of_totals({**totals, theirs: 5})


def test_a_missing_total_is_the_sum_of_its_parts() -> None:
    """Text and five-minute writes make the totals that nobody sent."""
    assert usage_of_totals({"input_text_tokens": 7, "output_text_tokens": 3}) == Usage(
        input_tokens=7, output_tokens=3
    )
    assert usage_of_totals({"cache_write_5m_tokens": 5, "cache_write_1h_tokens": 2}) == Usage(
        cache_write_tokens=5, cache_write_1h_tokens=2
    )


def test_nothing_is_nothing() -> None:
    """Absent and null are alike."""
    assert usage_of_totals({}) == usage_of_totals({"input_tokens": None}) == Usage()


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"input_tokens": 5, "cache_read_tokens": 6}, "input_tokens=5 is less than the 6 of its parts"),
        ({"output_tokens": 5, "reasoning_tokens": 6}, "output_tokens=5"),
        ({"input_tokens": -1}, "input_tokens=-1 is not a whole number"),
        ({"input_tokens": 1.5}, "input_tokens=1.5"),
        ({"input_tokens": True}, "input_tokens=True"),
        ({"input_tokens": "12"}, "input_tokens='12'"),
        ({"prompt_tokens": 1}, "usage has no 'prompt_tokens'; write one of input_tokens"),
    ],
)
def test_impossible_totals_are_told(counts: dict[str, object], told: str) -> None:
    """The message has the name, the amount and what would do."""
    with pytest.raises(UsageError) as caught:
        usage_of_totals(counts)
    assert told in str(caught.value)


@given(st.lists(st.integers(0, 10**9), min_size=6, max_size=6))
def test_totals_come_back(amounts: list[int]) -> None:
    """The totals of the buckets are the totals that went in."""
    fresh, read, write, write_1h, visible, reasoning = amounts
    usage = usage_of_totals(
        {
            "input_tokens": fresh + read + write + write_1h,
            "cache_read_tokens": read,
            "cache_write_tokens": write + write_1h,
            "cache_write_1h_tokens": write_1h,
            "output_tokens": visible + reasoning,
            "reasoning_tokens": reasoning,
        }
    )
    assert usage.total_input_tokens == fresh + read + write + write_1h
    assert usage.total_output_tokens == visible + reasoning
    usage.check()
