"""Which sample of a problem is chosen and which rejected, by each rule."""

import random
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import (
    Generation,
    Missing,
    Problem,
    Reply,
    Rollout,
    RolloutGroup,
    StopReason,
    Verdict,
    VerdictStatus,
)
from open_exaone.rollout.select import RULES, CorrectPairs, RewardPairs, ShortestCorrectPairs, preference_pairs

CORRECT, WRONG, ERROR, TIMEOUT = (VerdictStatus(name) for name in ("correct", "wrong", "error", "timeout"))
BY_CHANCE, SHORTEST, REWARD = (
    CorrectPairs(rule="correct"),
    ShortestCorrectPairs(rule="shortest_correct"),
    RewardPairs(rule="reward"),
)
SAME, NONE = "pairs whose two replies are the same", "problems without a pair"
UNKNOWN = "samples that are empty or whose reward is not known"


def rollout(status, ids, reward=None):
    generation = Generation(Reply("", ""), StopReason.END, 1, len(ids), 0, ids=tuple(ids))
    return Rollout(generation, Verdict(status, None, ""), reward, {} if reward is None else {"format": reward})


def group(*rollouts, name="p/1"):
    return RolloutGroup(Problem(name, "p", "en", "What?", "4", "math"), (1,), False, rollouts)


def choose(rule, *groups, number=1, seed=0):
    return preference_pairs(groups, rule, weights={"format": 1.0}, pairs_per_problem=number, seed=seed)


def ids_of(pairs):
    return [(p.group.problem.id, p.chosen.generation.ids, p.rejected.generation.ids, p.rejected_because) for p in pairs]


SAMPLES = st.lists(
    st.builds(
        rollout,
        st.sampled_from([CORRECT, CORRECT, WRONG, TIMEOUT, ERROR]),
        st.lists(st.integers(0, 2), max_size=12),
        st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.25, 1.0])),
    ),
    max_size=8,
)


@given(SAMPLES, st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.1, 0.5]))
def test_the_shortest_correct_reply_is_chosen_and_an_incorrect_or_longer_one_rejected(samples, number, share, by):
    rule = ShortestCorrectPairs(rule="shortest_correct", longer_share=share, longer_by=by)
    pairs, _ = choose(rule, group(*samples), number=number)
    assert len(pairs) <= number and len({pair.rejected.generation.ids for pair in pairs}) == len(pairs)
    correct = [len(one.generation.ids) for one in samples if one.verdict.correct and one.generation.ids]
    for _, chosen, rejected, why in pairs:
        size, other = len(chosen.generation.ids), len(rejected.generation.ids)
        assert chosen.verdict.correct and size == min(correct)
        assert rejected.verdict.status is not ERROR and other
        if why == "longer":
            assert rejected.verdict.correct and other > size and other >= round(size * (1 + by), 9) and share > 0
        else:
            assert why == rejected.verdict.status.value != "correct" and share < 1


@given(SAMPLES, st.integers(1, 4))
def test_the_highest_reward_is_chosen_and_the_lowest_rejected(samples, number):
    pairs, left_out = choose(REWARD, group(*samples), number=number)
    known = [
        one.reward for one in samples if one.reward is not None and one.generation.ids and one.verdict.status != ERROR
    ]
    assert left_out[UNKNOWN] == len(samples) - len(known)
    if pairs and not left_out[SAME]:
        assert (pairs[0].chosen.reward, pairs[0].rejected.reward) == (max(known), min(known))
    assert all(pair.chosen.reward > pair.rejected.reward for pair in pairs)
    used = [id(one) for pair in pairs for one in (pair.chosen, pair.rejected)]
    assert len(used) == len(set(used))
    if len(set(known)) < 2:
        assert not pairs and left_out[NONE] == 1


@example([rollout(WRONG, *one) for one in (([0, 1], -1.0), ([0] * 7, -1.0), ([0, 1], 0.0), ([0], -1.0))], REWARD, 1)
@given(SAMPLES, st.sampled_from([SHORTEST, REWARD]), st.integers(0, 9))
def test_the_same_pairs_whatever_the_order_of_samples(samples, rule, seed):
    mixed = random.Random(seed).sample(samples, len(samples))
    assert ids_of(choose(rule, group(*samples), number=3)[0]) == ids_of(choose(rule, group(*mixed), number=3)[0])


def test_how_often_a_longer_reply_is_rejected_is_a_setting():
    """Where a problem has both kinds; where it has one, that one is taken."""
    both = [rollout(CORRECT, [1]), rollout(CORRECT, [1] * 9), rollout(WRONG, [2])]
    groups = [group(*both, name=f"p/{number}") for number in range(400)]

    def why(share, *some):
        rule = ShortestCorrectPairs(rule="shortest_correct", longer_share=share)
        return Counter(pair.rejected_because for pair in choose(rule, *some)[0])

    assert 250 < why(0.75, *groups)["longer"] < 350
    assert why(0.0, *groups) == {"wrong": 400} and why(1.0, *groups) == {"longer": 400}
    only_longer, only_wrong = group(*both[:2]), group(both[0], both[2])
    assert why(0.5, only_longer, only_wrong) == {"longer": 1, "wrong": 1}
    assert why(0.0, only_longer) == why(1.0, only_wrong) == {}


def test_a_reply_that_is_hardly_longer_is_not_rejected():
    lengths = {0.0: 11, 0.1: 11, 0.11: 12, 1.0: 20}
    for by, least in lengths.items():
        rule = ShortestCorrectPairs(rule="shortest_correct", longer_by=by)
        correct = [rollout(CORRECT, [1] * size) for size in range(10, 21)]
        pairs, _ = choose(rule, group(*correct), number=99)
        assert sorted(len(pair.rejected.generation.ids) for pair in pairs) == list(range(least, 21))
    rule = ShortestCorrectPairs(rule="shortest_correct", longer_by=0.1)
    assert 100 * (1 + 0.1) > 110  # by rounding
    assert len(choose(rule, group(rollout(CORRECT, [1] * 100), rollout(CORRECT, [1] * 110)))[0]) == 1


def test_rewards_that_differ_by_rounding_alone_give_no_pair():
    low, high = rollout(WRONG, [1], 0.1 + 0.2), rollout(WRONG, [2], 0.3)
    assert low.reward != high.reward
    assert choose(REWARD, group(low, high)) == ([], Counter({NONE: 1}))


def test_a_correct_sample_and_an_incorrect_one_are_drawn():
    row = [rollout(CORRECT, [0]), *[rollout(ERROR, [n]) for n in range(1, 6)], rollout(TIMEOUT, [6])]
    pairs, left_out = choose(BY_CHANCE, *[group(*row)] * 9, number=9)
    assert len(pairs) == 9 and not left_out
    assert {(chosen.verdict.status, why) for _, chosen, _, why in pairs} == {(CORRECT, "timeout")}
    assert choose(BY_CHANCE, group(*row[:-1])) == ([], Counter({NONE: 1}))
    many, _ = choose(
        BY_CHANCE, group(*[rollout(status, [n]) for n, status in enumerate([CORRECT, WRONG] * 8)]), number=3, seed=5
    )
    # As random.Random(f"{seed}:{problem.id}") shuffles the correct ones, then the incorrect ones.
    assert [(one.generation.ids[0], other.generation.ids[0]) for _, one, other, _ in many] == [(8, 3), (6, 15), (2, 9)]


@pytest.mark.parametrize("rule", [BY_CHANCE, SHORTEST, REWARD])
def test_a_pair_of_two_samples_that_are_the_same_or_empty_is_dropped(rule):
    def pair(one, other, name):
        return group(rollout(CORRECT, one, 1.0), rollout(WRONG, other, 0.0), name=name)

    groups = [pair([1, 2], [1, 2], "a"), pair([1, 2], [1, 3], "b"), pair([], [1], "c"), pair([1], [], "d")]
    pairs, left_out = choose(rule, *groups)
    assert left_out[SAME] == 1 and left_out[NONE] == 3
    assert [row[:3] for row in ids_of(pairs)] == [("b", (1, 2), (1, 3))]


def test_a_reward_that_is_not_known_is_in_no_pair():
    missing = Rollout(rollout(CORRECT, [3]).generation, Verdict(CORRECT, None, ""), None, {"format": Missing("No.")})
    pairs, left_out = choose(REWARD, group(missing, rollout(CORRECT, [1], 1.0), rollout(CORRECT, [2], 0.5)))
    assert [row[1:] for row in ids_of(pairs)] == [((1,), (2,), "lower_reward")] and left_out[UNKNOWN] == 1


def test_every_rule_has_settings_and_an_unknown_one_is_refused():
    assert set(RULES) == {one.rule for one in (BY_CHANCE, SHORTEST, REWARD)}
    for values in ({"longer_share": 1.5}, {"longer_by": -0.1}, {"longer": 0.5}):
        with pytest.raises(ConfigError, match="longer"):
            validate(ShortestCorrectPairs, {"rule": "shortest_correct", **values}, "recipe.toml")
