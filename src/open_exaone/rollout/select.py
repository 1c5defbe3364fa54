"""Preference pairs from a model's own judged samples: the rules that a recipe may name, each with its settings.

A rule is a record and a row of `RULES`; EXAONE 4.0's two preference stages (arXiv 2507.11407, section 2.4.3) are
`shortest_correct` and `reward`.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.base.records import NO_FINDING, Rollout, RolloutGroup
from open_exaone.learn.config import REWARD_ROUNDING
from open_exaone.rewards.rubric import sum_size

LONGER, LOWER_REWARD = "longer", "lower_reward"  # why a reply is rejected; an incorrect one by its verdict's status


class CorrectPairs(Config):
    """A correct reply against an incorrect one, both drawn at random.

    How LG built the pairs of EXAONE Deep was not published; on-policy verified pairs are EXAONE 4.0's way.
    """

    rule: Literal["correct"]
    """Chooses the rule."""
    needs_reward: ClassVar[bool] = False
    nothing: ClassVar[str] = "no problem had both a correct and an incorrect sample"


class ShortestCorrectPairs(Config):
    """The shortest correct reply, its thought included, against an incorrect or a longer correct one.

    The first preference stage of EXAONE 4.0; that the rejected reply is "longer or incorrect" is all that is known of
    it. How often it is which, and how much longer, are ours.
    """

    rule: Literal["shortest_correct"]
    """Chooses the rule."""
    longer_share: float = Field(default=0.5, ge=0, le=1)
    """How often a longer correct reply is rejected where a problem has an incorrect one too; where it has one kind
    alone, that is taken. 0 rejects incorrect replies alone, 1 longer ones alone."""
    longer_by: float = Field(default=0.2, ge=0, le=100)
    """How much longer a longer reply is at least, as a share of the chosen one's tokens."""
    needs_reward: ClassVar[bool] = False
    nothing: ClassVar[str] = "no problem had a correct sample and an incorrect or a longer one"


class RewardPairs(Config):
    """The reply with the highest reward against the one with the lowest, by the stage's `reward`.

    The second preference stage of EXAONE 4.0; its weights and formulas were not published. Replies that tie for a place
    are drawn.
    """

    rule: Literal["reward"]
    """Chooses the rule."""
    needs_reward: ClassVar[bool] = True
    nothing: ClassVar[str] = "no problem had samples of different rewards"


PairRule = Annotated[CorrectPairs | ShortestCorrectPairs | RewardPairs, Field(discriminator="rule")]


class Pair(NamedTuple):
    """Two samples of one problem."""

    group: RolloutGroup
    chosen: Rollout
    rejected: Rollout
    rejected_because: str  # `LONGER`, `LOWER_REWARD`, or the status of its verdict


def preference_pairs(
    groups: Sequence[RolloutGroup], rule: PairRule, *, weights: Mapping[str, float], pairs_per_problem: int, seed: int
) -> tuple[list[Pair], Counter[str]]:
    """Pairs samples of the same problem by a rule.

    Of a sample whose verifier failed nothing is known: it is in no pair; nor is a reply without a token. Two samples of
    the same tokens, which a judge model may find correct once and not again, teach nothing: such a pair is dropped.

    Args:
        groups: judged, and for a rule that needs it rewarded.
        weights: of the reward's terms.

    Returns:
        at most `pairs_per_problem` a problem, no sample rejected twice; and by their reason how many samples, pairs or
        problems were left out.
    """
    pairs, left_out = list[Pair](), Counter[str]()
    for group in groups:
        judged = [r for r in group.rollouts if r.generation.ids and r.verdict.status not in NO_FINDING]
        if rule.needs_reward:
            judged = [rollout for rollout in judged if rollout.reward is not None]
            left_out["samples that are empty or whose reward is not known"] += len(group.rollouts) - len(judged)
        found = RULES[rule.rule](judged, rule, weights, random.Random(f"{seed}:{group.problem.id}"))
        kept = [Pair(group, *pair) for pair in found if pair[0].generation.ids != pair[1].generation.ids]
        left_out["pairs whose two replies are the same"] += len(found) - len(kept)
        left_out["problems without a pair"] += not kept
        pairs += kept[:pairs_per_problem]
    return pairs, +left_out


_Found = list[tuple[Rollout, Rollout, str]]  # chosen, rejected, why it is rejected


def _correct(
    judged: Sequence[Rollout], rule: CorrectPairs, weights: Mapping[str, float], draw: random.Random
) -> _Found:
    chosen = [rollout for rollout in judged if rollout.verdict.correct]
    rejected = [rollout for rollout in judged if not rollout.verdict.correct]
    draw.shuffle(chosen)
    draw.shuffle(rejected)
    return [(*pair, pair[1].verdict.status.value) for pair in zip(chosen, rejected, strict=False)]


def _shortest_correct(
    judged: Sequence[Rollout], rule: ShortestCorrectPairs, weights: Mapping[str, float], draw: random.Random
) -> _Found:
    """The one shortest correct reply in all pairs."""
    ordered = sorted(judged, key=_size)
    correct = [rollout for rollout in ordered if rollout.verdict.correct]
    if not correct:
        return []
    num_tokens = _size(correct[0])[0]
    least = num_tokens * (1 + rule.longer_by) * (1 - 1e-12)  # 1.1 x 10 is no more than 11
    longer = _distinct(one for one in correct if _size(one)[0] > num_tokens and _size(one)[0] >= least)
    incorrect = _distinct(one for one in ordered if not one.verdict.correct)
    longer, incorrect = (longer if rule.longer_share else []), (incorrect if rule.longer_share < 1 else [])
    draw.shuffle(longer)
    draw.shuffle(incorrect)
    found: _Found = []
    while longer or incorrect:
        if longer and (not incorrect or draw.random() < rule.longer_share):
            found.append((correct[0], longer.pop(), LONGER))
        else:
            rejected = incorrect.pop()
            found.append((correct[0], rejected, rejected.verdict.status.value))
    return found


def _by_reward(
    judged: Sequence[Rollout], rule: RewardPairs, weights: Mapping[str, float], draw: random.Random
) -> _Found:
    """The highest with the lowest reward, then the second highest with the second lowest, as long as they differ."""
    ordered = sorted(judged, key=_size)
    draw.shuffle(ordered)  # those that tie
    ordered.sort(key=lambda one: one.reward or 0.0, reverse=True)
    found: _Found = []
    for chosen, rejected in zip(ordered, reversed(ordered), strict=True):
        rounding = REWARD_ROUNDING * max(sum_size(one.terms, weights) for one in (chosen, rejected))
        if (chosen.reward or 0.0) - (rejected.reward or 0.0) <= rounding:
            break
        found.append((chosen, rejected, LOWER_REWARD))
    return found


def _size(rollout: Rollout) -> tuple[int, tuple[int, ...], str, float]:
    """Orders samples by their length, and equally long ones whatever order they came in."""
    ids = rollout.generation.ids or ()
    return len(ids), ids, rollout.verdict.status.value, rollout.reward or 0.0


def _distinct(rollouts: Iterable[Rollout]) -> list[Rollout]:
    """Each reply once."""
    return list({rollout.generation.ids: rollout for rollout in rollouts}.values())


RULES: Mapping[str, Callable[[Sequence[Rollout], Any, Mapping[str, float], random.Random], _Found]] = MappingProxyType(
    {"correct": _correct, "shortest_correct": _shortest_correct, "reward": _by_reward}
)
