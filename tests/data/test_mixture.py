"""The order of examples keeps the shares of tokens, sees all equally often, and follows from seed and step alone."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.mixture import Mixture, examples_per_epoch, token_shares
from open_exaone.data.store import Group


@dataclass
class Made:
    """What a mixture asks of prepared data."""

    groups: tuple[Group, ...]
    tokens_N: np.ndarray
    group_N: np.ndarray
    folder: str = "folder"

    def __len__(self):
        return len(self.tokens_N)


def prepared(*sizes, seed=0):
    """Data of groups: (source, mode, examples, mean tokens)."""
    stream = np.random.default_rng(seed)
    tokens = [stream.integers(mean // 2, 2 * mean - mean // 2 + 1, count) for _, _, count, mean in sizes]
    group_N = np.repeat(np.arange(len(sizes)), [count for _, _, count, _ in sizes]).astype(np.int32)
    groups = tuple(
        Group(source, f"{source}.jsonl", mode, count, int(of.sum()))
        for (source, mode, count, _), of in zip(sizes, tokens, strict=True)
    )
    mixed = stream.permutation(len(group_N))  # groups stand in no order in a file
    tokens_N = np.concatenate(tokens).astype(np.int32)[mixed]
    return Made(groups, tokens_N, group_N[mixed])


def config(*shares, **settings):
    sources = tuple(SourceConfig(path=f"{index}.jsonl", share=share) for index, share in enumerate(shares))
    return DataConfig(sources=sources, **settings)


R, N = "reasoning", "non_reasoning"


def test_without_shares_an_epoch_is_every_example_once():
    data = prepared((0, R, 70, 100), (0, N, 30, 40), (1, N, 45, 300))
    mixture = Mixture(data, config(None, None), seed=3)
    for epoch in range(3):
        assert sorted(mixture.epoch(epoch)) == list(range(145))
    assert not np.array_equal(mixture.epoch(0), mixture.epoch(1))
    assert not np.array_equal(mixture.epoch(0), Mixture(data, config(None, None), seed=4).epoch(0))
    assert [row["repeats"] for row in mixture.report()] == [1, 1, 1]


def test_reasoning_stands_to_non_reasoning_as_asked():
    data = prepared((0, R, 900, 400), (0, N, 2000, 50), (1, N, 1000, 80))
    mixture = Mixture(data, config(None, None, reasoning_ratio=1.5), seed=0)
    tokens = Counter()
    for row in mixture.report():
        tokens[row["mode"]] += row["epoch_tokens"]
        assert row["share_got"] == pytest.approx(row["share"], rel=0.05)
    assert tokens[R] / tokens[N] == pytest.approx(1.5, rel=0.02)
    within = [row["share"] for row in mixture.report() if row["mode"] == N]
    assert within[0] / within[1] == pytest.approx(data.groups[1].tokens / data.groups[2].tokens)


def test_shares_of_sources_hold_by_tokens():
    data = prepared((0, N, 500, 300), (1, N, 500, 30))
    mixture = Mixture(data, config(0.4, 0.6, max_repeats=100), seed=0)
    first, second = mixture.report()
    assert first["repeats"] == pytest.approx(1) and second["repeats"] == pytest.approx(15, rel=0.1)
    assert first["epoch_tokens"] / second["epoch_tokens"] == pytest.approx(2 / 3, rel=0.01)
    capped = Mixture(data, config(0.4, 0.6, max_repeats=2), seed=0)
    first, second = capped.report()
    assert second["repeats"] == pytest.approx(2) and first["repeats"] == pytest.approx(2 / 15, rel=0.1)
    assert first["share_got"] == pytest.approx(0.4, abs=0.03)


def test_every_example_is_seen_equally_often_over_epochs():
    mixture = Mixture(prepared((0, N, 101, 300), (1, N, 37, 30)), config(0.5, 0.5, max_repeats=3), seed=1)
    seen = Counter(index for epoch in range(25) for index in mixture.epoch(epoch).tolist())
    groups = prepared((0, N, 101, 300), (1, N, 37, 30)).group_N
    for group in (0, 1):
        counts = [seen[index] for index in np.flatnonzero(groups == group)]
        assert max(counts) - min(counts) <= 1


def test_each_group_is_spread_evenly_over_an_epoch():
    data = prepared((0, R, 400, 100), (1, N, 4000, 100))
    order = Mixture(data, config(None, None), seed=0).epoch(0)
    parts = np.array_split(data.group_N[order] == 0, 10)
    assert all(abs(part.sum() - 40) <= 2 for part in parts)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_steps_follow_each_other_without_a_seam(num_examples, per_step, seed):
    mixture = Mixture(prepared((0, N, num_examples, 10)), config(None), seed)
    num_steps = -(-3 * num_examples // per_step)
    indices = [index for step in range(num_steps) for index in mixture.step_indices(step, per_step)]
    epochs = [indices[start : start + num_examples] for start in range(0, 3 * num_examples, num_examples)]
    assert all(sorted(epoch) == list(range(num_examples)) for epoch in epochs)
    fresh = Mixture(prepared((0, N, num_examples, 10)), config(None), seed)
    assert fresh.step_indices(num_steps - 1, per_step) == indices[(num_steps - 1) * per_step :][:per_step]


@given(st.integers(1, 300), st.integers(1, 2000), st.sampled_from([0.3, 1.0, 2.0, 2.5]))
def test_steps_by_tokens_take_about_as_many_and_leave_none_out(num_examples, batch_tokens, num_epochs):
    data = prepared((0, N, num_examples, 60))
    mixture = Mixture(data, config(None), seed=0)
    steps = mixture.by_tokens(batch_tokens, num_epochs)
    taken = [steps[step] for step in range(len(steps))]
    assert all(taken)
    if num_epochs == 2.0:
        assert sorted(index for step in taken for index in step) == sorted([*range(num_examples)] * 2)
    sizes = [sum(int(data.tokens_N[index]) for index in step) for step in taken]
    longest, total = int(data.tokens_N.max()), int(data.tokens_N.sum())
    target = total / max(1, round(total / batch_tokens))
    assert all(abs(size - target) <= longest for size in sizes)
    assert Mixture(data, config(None), seed=0).by_tokens(batch_tokens, num_epochs)[len(steps) - 1] == taken[-1]
    with pytest.raises(IndexError):
        steps[len(steps)]


def test_a_step_ends_at_the_example_that_fills_it():
    group = Group(0, "0.jsonl", N, 12, 120)
    data = Made((group,), np.full(12, 10, np.int32), np.zeros(12, np.int32))
    steps = Mixture(data, config(None), seed=0).by_tokens(20)
    assert [len(steps[step]) for step in range(len(steps))] == [2] * 6
    assert [len(step) for step in Mixture(data, config(None), seed=0).by_tokens(35)] == [4] * 3


def test_what_is_not_there_cannot_be_mixed():
    with pytest.raises(DataError, match="no example in mode 'reasoning'"):
        Mixture(prepared((0, N, 5, 10)), config(None, reasoning_ratio=1.5), seed=0)
    with pytest.raises(DataError, match=r"1\.jsonl: has a share"):
        Mixture(prepared((0, N, 5, 10)), config(0.5, 0.5), seed=0)
    with pytest.raises(DataError, match="holds no example"):
        Mixture(prepared((0, N, 0, 10)), config(None), seed=0)
    for bad in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="num_epochs"):
            Mixture(prepared((0, N, 5, 10)), config(None), seed=0).by_tokens(10, bad)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sources": []}, "sources"),
        ({"sources": [{"path": "a", "share": 0.5}, {"path": "b"}]}, "give all of them one, or none"),
        ({"sources": [{"path": "a", "share": 0.5}, {"path": "b", "share": 0.6}]}, "add up to 1.1"),
        ({"sources": [{"path": "a"}, {"path": "a", "skip": 3}]}, "a is listed twice"),
        ({"sources": [{"path": "a", "fields": {"question": "q", "anser": "a"}}]}, "anser: unknown"),
        ({"sources": [{"path": "a"}], "max_repeats": 0.5}, "max_repeats"),
        ({"sources": [{"path": "a", "colour": "red"}]}, "Known keys: code, config, domain, domains, fields"),
    ],
)
def test_a_wrong_configuration_is_named(values, said):
    with pytest.raises(ConfigError, match=said):
        validate(DataConfig, values, "data.toml")


def test_shares_add_up_and_every_group_counts():
    groups = prepared((0, R, 3, 500), (1, N, 4000, 20), (1, R, 7, 90)).groups
    shares = token_shares(groups, config(None, None, reasoning_ratio=1.5))
    assert sum(shares) == pytest.approx(1)
    assert min(examples_per_epoch(groups, shares, 1.0)) >= 1


@pytest.mark.parametrize("ratio", [1e-320, 1e-20])
def test_a_share_of_next_to_nothing_is_named(ratio):
    data = prepared((0, R, 5, 10), (0, N, 5, 10))
    with pytest.raises(DataError, match=r"0\.jsonl: its reasoning examples .* reasoning_ratio"):
        Mixture(data, config(None, reasoning_ratio=ratio), seed=0)
    with pytest.raises(DataError, match=r"1\.jsonl: its non_reasoning examples .* share"):
        Mixture(prepared((0, N, 5, 10), (1, N, 5, 10)), config(1.0, 5e-324), seed=0)


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(2, 200)), min_size=1, max_size=3),
    st.integers(1, 3000),
    st.sampled_from([0.4, 1.0, 3.0, 7.5]),
    st.sampled_from([1.0, 1.7, 4.0]),
)
def test_the_number_of_steps_is_what_ordering_every_epoch_gives(sizes, batch_tokens, num_epochs, max_repeats):
    data = prepared(*((source, N, examples, mean) for source, (examples, mean) in enumerate(sizes)))
    shares = [1 / len(sizes)] * len(sizes)
    mixture = Mixture(data, config(*shares, max_repeats=max_repeats), seed=2)
    epochs = math.ceil(num_epochs)
    orders = [mixture.epoch(epoch) for epoch in range(epochs)]
    cuts = [mixture.cuts(epoch, batch_tokens) for epoch in range(epochs)]
    whole = [order[a:b].tolist() for order, cut in zip(orders, cuts, strict=True) for a, b in itertools.pairwise(cut)]
    in_last = len(cuts[-1]) - 1
    expected = len(whole) - in_last + max(1, round(in_last * (num_epochs - epochs + 1)))
    steps = mixture.by_tokens(batch_tokens, num_epochs)
    assert len(steps) == expected
    assert [steps[step] for step in range(len(steps))] == whole[:expected]


def test_steps_are_counted_without_ordering_epochs(monkeypatch):
    mixture = Mixture(prepared((0, N, 500, 40), (1, N, 80, 30)), config(0.5, 0.5, max_repeats=2), seed=0)
    monkeypatch.setattr(Mixture, "_order", lambda *_: pytest.fail("puts an epoch in order"))
    assert len(mixture.by_tokens(1000, 1000)) > 1000
