"""Statistics of lengths agree with numpy's, whatever the order of the examples."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.data.lengths import ExampleLength, lengths, spread_of

counts = st.integers(0, 5000)
examples_of = st.lists(
    st.builds(
        ExampleLength,
        st.sampled_from(["math", "code", "과학", ""]),
        st.sampled_from(["reasoning", "non_reasoning", "text"]),
        counts,
        counts,
        counts,
    ),
    min_size=1,
    max_size=60,
)


@given(st.lists(counts, min_size=1, max_size=300))
def test_a_spread_is_what_numpy_finds(values):
    spread = spread_of({value: values.count(value) for value in values})
    assert (spread.count, spread.total, spread.max) == (len(values), sum(values), max(values))
    assert spread.mean == pytest.approx(np.mean(values))
    assert (spread.median, spread.p90, spread.p99) == pytest.approx(np.percentile(values, [50, 90, 99]))


@given(examples_of, st.randoms())
def test_every_example_is_counted_once_in_its_groups_in_any_order(examples, random):
    stats = lengths(examples)
    for group in stats.groups:
        members = [e for e in examples if group.domain in (None, e.domain) and group.mode in (None, e.mode)]
        assert group.tokens.count == len(members)
        assert group.tokens.total == sum(e.tokens for e in members)
        thoughts = [e.thought_tokens for e in members if e.thought_tokens]
        assert (
            (group.thought.total, group.thought.count) == (sum(thoughts), len(thoughts))
            if thoughts
            else (group.thought is None)
        )
        answers = [e.answer_tokens for e in members if e.answer_tokens]
        assert (group.answer.median if group.answer else None) == (np.median(answers) if answers else None)
        assert sum(group.counts.values()) == len(members)
    pairs = {(e.domain, e.mode) for e in examples}
    named = [(g.domain, g.mode) for g in stats.groups if g.domain is not None and g.mode is not None]
    assert sorted(named) == sorted(pairs)
    assert lengths(random.sample(examples, len(examples))) == stats


def test_domains_stand_by_their_mean_and_all_at_last():
    stats = lengths(
        [ExampleLength("a", "text", 10), ExampleLength("b", "text", 500), ExampleLength("c", "text", 20)] * 3
    )
    assert [group.domain for group in stats.domains] == ["b", "c", "a"]
    assert [(group.domain, group.mode) for group in stats.groups][-2:] == [(None, None), (None, "text")]


def test_the_ratio_of_modes_counts_tokens_and_needs_both():
    modes = [ExampleLength("a", "reasoning", 300), *[ExampleLength("b", "non_reasoning", 50)] * 4]
    assert lengths(modes).reasoning_ratio == pytest.approx(1.5)
    assert lengths(modes[:1]).reasoning_ratio is None
    assert lengths([ExampleLength("a", "text", 3)]).reasoning_ratio is None


def test_no_examples_give_no_groups():
    stats = lengths([])
    assert stats.groups == ()
    assert json.dumps(stats.as_json(), allow_nan=False) == '{"reasoning_ratio": null, "groups": []}'


def test_the_numbers_survive_json():
    stats = lengths([ExampleLength("math", "reasoning", 90, 60, 20), ExampleLength("math", "reasoning", 110, 70, 30)])
    read = json.loads(json.dumps(stats.as_json()))
    assert read["groups"][0]["domain"] == "math" and read["groups"][0]["mode"] is None
    assert read["groups"][0]["thought_tokens"] == {
        "count": 2,
        "total": 130,
        "mean": 65.0,
        "median": 65.0,
        "p90": 69.0,
        "p99": 69.9,
        "max": 70,
    }


def test_negative_tokens_are_refused():
    with pytest.raises(ValueError, match="at least 0"):
        lengths([ExampleLength("a", "text", 5, -1)])


def test_memory_does_not_grow_with_the_examples():
    def peak(num_examples):
        tracemalloc.start()
        lengths(ExampleLength("math", "text", index % 97) for index in range(num_examples))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1000)
    assert peak(40_000) < 2 * peak(1000)
