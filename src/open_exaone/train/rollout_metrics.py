"""What a step of RL reports of its samples: all of them where nothing else is stated, those set aside too."""

import math
from collections.abc import Sequence

import numpy as np

from open_exaone.base.records import MODES, NO_FINDING, Missing, Rollout, RolloutGroup, StopReason

Metrics = dict[str, float]


def rollout_metrics(groups: Sequence[RolloutGroup], teaches_P: Sequence[bool]) -> Metrics:
    """Metrics of a step's samples; one without anything to take a mean of is NaN.

    Args:
        teaches_P: whether each group is learned from.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    known = [[rollout.verdict.correct for rollout in group.rollouts if _is_judged(rollout)] for group in groups]
    num_rewarded_P = [sum(rollout.reward is not None for rollout in group.rollouts) for group in groups]
    equal = [not teaches and number > 1 for teaches, number in zip(teaches_P, num_rewarded_P, strict=True)]
    logprobs = [np.asarray(rollout.generation.logprobs or (), np.float32) for rollout in rollouts]
    return {
        "reward_mean": _mean([rollout.reward for rollout in rollouts if rollout.reward is not None]),
        **_term_metrics(rollouts),
        "masked_rollouts": len(rollouts) - sum(num_rewarded_P),
        "masked_groups": sum(number < 2 for number in num_rewarded_P),
        "equal_reward_groups": sum(equal),
        "all_correct_groups": sum(all(correct) for correct in known if correct),
        "all_wrong_groups": sum(not any(correct) for correct in known if correct),
        "mean_reply_tokens": _mean([rollout.generation.num_tokens for rollout in rollouts]),
        "truncated_share": _mean([rollout.generation.stop is StopReason.LENGTH for rollout in rollouts]),
        "error_share": _mean([not _is_judged(rollout) for rollout in rollouts]),
        # Drawn at temperature 1 from the whole vocabulary, tokens are as unlikely on average as the entropy is high.
        "entropy": -float(np.concatenate(logprobs).mean(dtype=np.float64)),
    }


def mode_metrics(groups: Sequence[RolloutGroup]) -> Metrics:
    """The same of each mode by itself, where a stage asks in both; NaN where a step has no problem of a mode."""
    metrics: Metrics = {}
    for thinking, mode in enumerate(MODES):
        rollouts = [rollout for group in groups if group.thinking == thinking for rollout in group.rollouts]
        rewards = [rollout.reward for rollout in rollouts if rollout.reward is not None]
        metrics |= {
            f"reward_mean_{mode}": _mean(rewards),
            f"correct_share_{mode}": _mean([r.verdict.correct for r in rollouts if _is_judged(r)]),
            f"mean_reply_tokens_{mode}": _mean([rollout.generation.num_tokens for rollout in rollouts]),
            f"truncated_share_{mode}": _mean([r.generation.stop is StopReason.LENGTH for r in rollouts]),
        }
    return metrics


def why_empty(groups: Sequence[RolloutGroup]) -> str:
    """Why a step has nothing to learn from, where that is not that rewards were equal; empty where it is."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    if any(sum(rollout.reward is not None for rollout in group.rollouts) > 1 for group in groups):
        return ""
    missing = [term for rollout in rollouts for term in rollout.terms.values() if isinstance(term, Missing)]
    num_masked = sum(rollout.reward is None for rollout in rollouts)
    return f"{num_masked} of {len(rollouts)} samples could not be rewarded (see rollouts/); the first: {missing[0].why}"


def _is_judged(rollout: Rollout) -> bool:
    return rollout.verdict.status not in NO_FINDING


def _term_metrics(rollouts: Sequence[Rollout]) -> Metrics:
    """The mean of each term of the reward by itself, and how often it could not be found."""
    metrics: Metrics = {}
    for name in rollouts[0].terms:
        found = [term for rollout in rollouts if not isinstance(term := rollout.terms[name], Missing)]
        metrics[f"reward_{name}"] = _mean(found)
        metrics[f"missing_{name}"] = len(rollouts) - len(found)
    return metrics


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
