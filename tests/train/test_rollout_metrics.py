"""What a step of RL reports of its samples: groups set aside and why, lengths, languages, and guessed answers."""

import math

import pytest

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
from open_exaone.train.rollout_metrics import (
    FAMILY_METRICS,
    MAX_COUNTED,
    MAX_FAMILIES,
    commonest_families,
    rollout_metrics,
)

S = VerdictStatus


def group(gold, *answers, family="sum", language="en", reward=None, thoughts=(), reply="The answer is four now."):
    """A group in which an answer is correct where it is the gold one; `S.ERROR` stands for one that was not judged."""
    rollouts = []
    for index, answer in enumerate(answers):
        status = S.ERROR if answer is S.ERROR else S.CORRECT if answer == gold else S.WRONG
        value = None if status is S.ERROR else float(status is S.CORRECT) if reward is None else reward
        tokens = thoughts[index] if thoughts else 0
        generation = Generation(Reply("", reply), StopReason.END, 3, 2, tokens, (5, 6), (-1.0, -3.0), 0)
        terms = {"correct": Missing("It failed.") if value is None else value}
        rollouts.append(Rollout(generation, Verdict(status, None if status is S.ERROR else answer, "."), value, terms))
    problem = Problem(f"{family}/{gold}", family, language, "?", gold, "exact")
    return RolloutGroup(problem, (1, 2, 3), True, tuple(rollouts))


def test_each_group_that_is_set_aside_has_one_reason():
    groups = [
        group("4", "4", "5"),
        group("4", "4", "4"),
        group("4", "5", "6"),
        group("4", "4", "5", reward=0.5),  # one of each, rewarded alike
        group("4", S.ERROR, "4"),
        group("4", "4", "4", reward=0.3),  # taught all the same, as it may be with another advantage
    ]
    metrics = rollout_metrics(groups, [True, False, False, False, False, True])
    names = ("masked_groups", "set_aside_all_correct", "set_aside_all_wrong", "set_aside_equal_rewards")
    assert [metrics[name] for name in names] == [1, 1, 1, 1]
    assert metrics["equal_reward_groups"] == 3
    assert (metrics["all_correct_groups"], metrics["all_wrong_groups"]) == (3, 1)  # whether set aside or not


def test_what_was_not_judged_is_in_no_rate_and_thoughts_are_apart():
    metrics = rollout_metrics([group("4", "4", "5", S.ERROR, "5", thoughts=(10, 20, 99, 40))], [True])
    names = ("pass_rate", "mean_thought_tokens_correct", "mean_thought_tokens_wrong", "error_share")
    assert [metrics[name] for name in names] == [1 / 3, 10.0, 30.0, 0.25]


def test_replies_in_another_language_are_counted_where_the_language_is_known():
    korean = "답은 넷이고 그것이 맞는 답입니다."
    groups = [
        group("4", "4", "4"),
        group("5", "5", "5", language="ko", reply=korean),
        group("6", "6", "6", language="ko"),
        group("7", "7", "7", language="xx"),
    ]
    assert rollout_metrics(groups, [True] * 4)["language_mismatch_share"] == 2 / 6
    assert math.isnan(rollout_metrics(groups[3:], [True])["language_mismatch_share"])


def test_a_model_that_answers_a_constant_is_shown_beside_what_the_constant_scores():
    """The commonest answer is the one that is given, whatever the commonest gold answer is."""
    guessed = [group(str(n), *["1"] * 7, S.ERROR) for n in (1, 2, 3, 3)]  # the same problem may come twice
    honest = [group(str(n), *[str(n)] * 7, None, family="count") for n in (7, 8)]
    honest += [group("1,000", *["1000"] * 4, *["$1000.0$"] * 4, family="count")]  # two spellings of one number
    metrics = rollout_metrics(guessed + honest, [True] * 7, ["count", "sum", "gcd"])
    shares, scores = ([metrics[f"{name}/{f}"] for f in ("sum", "count")] for name in NAMES)
    assert shares == [1.0, pytest.approx(1 / 3)] and scores == [pytest.approx(1 / 3)] * 2
    assert [metrics[f"pass_rate/{f}"] for f in ("sum", "count")] == [7 / 28, 14 / 24]
    assert metrics["commonest_answer_share"] == pytest.approx((28 * 1 + 24 / 3) / 52)  # 28 and 24 judged samples
    assert metrics["constant_score"] == pytest.approx(1 / 3)
    assert all(math.isnan(metrics[f"{name}/gcd"]) for name in FAMILY_METRICS)  # of this step, there is none


NAMES = ("commonest_answer_share", "constant_score")


@pytest.mark.parametrize(
    "groups",
    [
        [group("4", *["4"] * 64)],  # a single problem
        [group(str(n), *["4"] * 7) for n in (4, 5)],  # fewer than 16 samples
        [group(str(n), *["4"] * 7, S.ERROR) for n in (4, 5)],  # that were judged
        [group(gold, *["4"] * 8) for gold in ("4", "")],  # without a gold answer, a constant has no score
    ],
)
def test_of_too_little_there_is_no_commonest_answer(groups):
    metrics = rollout_metrics(groups, [True] * len(groups), ["sum"])
    assert all(math.isnan(metrics[name]) for name in (*NAMES, *(f"{name}/sum" for name in NAMES)))


def test_samples_without_an_answer_share_none():
    metrics = rollout_metrics([group(gold, *[None] * 7, "5") for gold in "45"], [True] * 2)
    assert [metrics[name] for name in NAMES] == [1 / 8, 1 / 2]
    metrics = rollout_metrics([group(gold, *[None] * 8) for gold in "45"], [True] * 2)
    assert [metrics[name] for name in NAMES] == [0.0, 0.0]


def named(*families):
    return [Problem(str(n), family, "en", "?", "4", "exact") for n, family in enumerate(families)]


def test_a_stage_of_many_families_has_columns_for_the_commonest_alone():
    families = commonest_families(named(*[f"f{n % 2000}" for n in range(16_000)], *["last"] * 200))
    assert len(families) == MAX_FAMILIES and families[0] == "last"
    assert commonest_families(named("a", "b", "b")) == ["b", "a"]


def test_families_that_take_turns_are_all_found():
    assert len(commonest_families(named(*[f"f{n % 8}" for n in range(8 * MAX_COUNTED)]))) == 8
