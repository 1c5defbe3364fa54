"""What a step of RL reports of its samples: all of them where nothing else is stated, those set aside too."""

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from open_exaone.base.records import MODES, NO_FINDING, Missing, Problem, Rollout, RolloutGroup, StopReason
from open_exaone.rollout.commonest import commonest_answer, constant_score
from open_exaone.verify.language import LANGUAGES, consistency

MIN_FAMILY_PROBLEMS = 2  # of a step; the samples of a single problem agree where the model is sure of it
MIN_FAMILY_SAMPLES = 16  # judged, of a step; among fewer, one answer is the commonest by chance
MAX_FAMILIES = 12  # of a stage, that have metrics of their own
FAMILY_METRICS = ("commonest_answer_share", "constant_score", "pass_rate")
MAX_COUNTED = 2000  # problems that are looked at to find the commonest families

Metrics = dict[str, float]


def rollout_metrics(
    groups: Sequence[RolloutGroup], teaches_P: Sequence[bool], families: Collection[str] = ()
) -> Metrics:
    """Metrics of a step's samples; one without anything to take a mean of is NaN. docs/reports.md explains each.

    Args:
        teaches_P: whether each group is learned from.
        families: those that have metrics of their own besides, the same at every step.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    judged = list(filter(_is_judged, rollouts))
    num_rewarded = sum(rollout.reward is not None for rollout in rollouts)
    logprobs = [np.asarray(rollout.generation.logprobs or (), np.float32) for rollout in rollouts]
    return {
        "reward_mean": _mean([rollout.reward for rollout in rollouts if rollout.reward is not None]),
        **_term_metrics(rollouts),
        "pass_rate": _mean([rollout.verdict.correct for rollout in judged]),
        "masked_rollouts": len(rollouts) - num_rewarded,
        **_group_metrics(groups, teaches_P),
        "mean_reply_tokens": _mean([rollout.generation.num_tokens for rollout in rollouts]),
        "mean_thought_tokens_correct": _mean([r.generation.num_thought_tokens for r in judged if r.verdict.correct]),
        "mean_thought_tokens_wrong": _mean([r.generation.num_thought_tokens for r in judged if not r.verdict.correct]),
        "truncated_share": _mean([rollout.generation.stop is StopReason.LENGTH for rollout in rollouts]),
        "error_share": (len(rollouts) - len(judged)) / len(rollouts),
        "language_mismatch_share": _language_mismatch(groups),
        **_family_metrics(groups, families),
        # Tokens drawn from a whole distribution, at whatever temperature, are as unlikely on average as it has entropy.
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


def commonest_families(problems: Sequence[Problem]) -> list[str]:
    """The families that have metrics of their own: at most `MAX_FAMILIES`, those with the most problems.

    Of more than `MAX_COUNTED` problems, so many drawn ones are looked at, the same ones each time.
    """
    number = len(problems)
    places = range(number) if number <= MAX_COUNTED else random.Random(0).sample(range(number), MAX_COUNTED)
    counts = Counter(problems[place].task for place in places)
    return [family for family, _ in counts.most_common(MAX_FAMILIES)]


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


def _group_metrics(groups: Sequence[RolloutGroup], teaches_P: Sequence[bool]) -> Metrics:
    """How many groups are set aside and why, each counted once; and how many are all correct or all wrong at all."""
    names = ("masked_groups", "set_aside_all_correct", "set_aside_all_wrong", "set_aside_equal_rewards")
    why = dict.fromkeys(names, 0)
    num_correct = num_wrong = 0
    for group, teaches in zip(groups, teaches_P, strict=True):
        known = {rollout.verdict.correct for rollout in group.rollouts if _is_judged(rollout)}
        is_right, is_wrong = known == {True}, known == {False}
        num_correct += is_right
        num_wrong += is_wrong
        if sum(rollout.reward is not None for rollout in group.rollouts) < 2:
            why["masked_groups"] += 1
        elif not teaches:
            why[names[1] if is_right else names[2] if is_wrong else names[3]] += 1
    equal = sum(why.values()) - why["masked_groups"]
    return {**why, "equal_reward_groups": equal, "all_correct_groups": num_correct, "all_wrong_groups": num_wrong}


def _language_mismatch(groups: Sequence[RolloutGroup]) -> float:
    """The share of replies whose thought or answer is not in the problem's language, of the languages that we know."""
    replies = [
        (rollout.generation.reply.thought, rollout.generation.reply.answer, group.problem.language)
        for group in groups
        if group.problem.language in LANGUAGES
        for rollout in group.rollouts
    ]
    return _mean([(1 - consistency(*reply)) * count for reply, count in Counter(replies).items()], len(replies))


def _family_metrics(groups: Sequence[RolloutGroup], families: Collection[str]) -> Metrics:
    """How often a family's samples give their commonest answer, beside what always giving it would score.

    Means over the families that have enough samples and a gold answer for each problem, weighted by samples; and each
    of `families` by itself with its pass rate, NaN where it has not.
    """
    found = {name: values for name, part in _by_family(groups).items() if (values := _commonest(part)) is not None}
    total = sum(size for size, _ in found.values())
    metrics: Metrics = {}
    for name in ("commonest_answer_share", "constant_score"):
        metrics[name] = _mean([size * values[name] for size, values in found.values()], total)
    for family in families:
        _, own = found.get(family, (0, dict.fromkeys(FAMILY_METRICS, math.nan)))
        metrics |= {f"{name}/{family}": own[name] for name in FAMILY_METRICS}
    return metrics


def _by_family(groups: Sequence[RolloutGroup]) -> Mapping[str, list[RolloutGroup]]:
    families: dict[str, list[RolloutGroup]] = {}
    for group in groups:
        families.setdefault(group.problem.task, []).append(group)
    return families


def _commonest(groups: Sequence[RolloutGroup]) -> tuple[int, Metrics] | None:
    """A family's judged samples: how many, the share of their commonest answer, what that one answer would score, and
    how many are correct.

    None where there are too few, or a problem has no gold answer.
    """
    golds = {group.problem.id: group.problem.answer for group in groups}
    verdicts = [rollout.verdict for group in groups for rollout in group.rollouts if _is_judged(rollout)]
    if len(golds) < MIN_FAMILY_PROBLEMS or len(verdicts) < MIN_FAMILY_SAMPLES or not all(golds.values()):
        return None
    answer, share = commonest_answer(verdict.extracted for verdict in verdicts)
    values = (share, constant_score(list(golds.values()), answer), _mean([verdict.correct for verdict in verdicts]))
    return len(verdicts), dict(zip(FAMILY_METRICS, values, strict=True))


def _term_metrics(rollouts: Sequence[Rollout]) -> Metrics:
    """The mean of each term of the reward by itself, and how often it could not be found."""
    metrics: Metrics = {}
    for name in rollouts[0].terms:
        found = [term for rollout in rollouts if not isinstance(term := rollout.terms[name], Missing)]
        metrics[f"reward_{name}"] = _mean(found)
        metrics[f"missing_{name}"] = len(rollouts) - len(found)
    return metrics


def _mean(values: Sequence[float], total: int | None = None) -> float:
    """The sum over `total`, or over how many there are; NaN for none."""
    total = len(values) if total is None else total
    return math.fsum(values) / total if total else math.nan
