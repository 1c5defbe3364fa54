"""Preference pairs from a model's own judged samples."""

import random
from collections.abc import Sequence

from open_exaone.base.records import NO_FINDING, Rollout, RolloutGroup


def preference_pairs(
    groups: Sequence[RolloutGroup], *, pairs_per_problem: int, seed: int
) -> list[tuple[RolloutGroup, Rollout, Rollout]]:
    """Pairs a correct sample (chosen) with an incorrect one (rejected) of the same problem.

    Groups that are all correct or all incorrect give none. Of a sample whose verifier failed nothing is known: it is in
    no pair.
    How LG built the pairs of EXAONE Deep was not published; on-policy verified pairs are EXAONE 4.0's way.

    Returns:
        (group, chosen, rejected), at most `pairs_per_problem` a group, no sample twice.
    """
    pairs = []
    for group in groups:
        draw = random.Random(f"{seed}:{group.problem.id}")
        chosen = [rollout for rollout in group.rollouts if rollout.verdict.correct]
        rejected = [r for r in group.rollouts if not r.verdict.correct and r.verdict.status not in NO_FINDING]
        draw.shuffle(chosen)
        draw.shuffle(rejected)
        pairs += [(group, *pair) for pair in list(zip(chosen, rejected, strict=False))[:pairs_per_problem]]
    return pairs
