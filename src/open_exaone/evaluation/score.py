"""From judged samples to the numbers of a report: pure functions of correctness per problem.

Shapes: P problems, k samples each. Every result is a fraction; rounding is for whoever shows it.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from statistics import NormalDist, fmean, variance
from typing import Any, TypeVar

from open_exaone.base.errors import DataError
from open_exaone.base.records import NO_FINDING, Rollout, RolloutGroup, Verdict, VerdictStatus

Correct = Sequence[Sequence[bool]]  # [P, k]: was this sample of this problem judged correct

Item = TypeVar("Item")

MIN_EXPECTED = 10  # fewest successes, and failures, for which the normal interval is trusted
NO_VOTE = frozenset({VerdictStatus.UNPARSED, VerdictStatus.TRUNCATED})


def pass_at_1(correct: Correct) -> float:
    """The mean over problems of the mean over their samples; with one greedy sample, greedy accuracy."""
    return fmean(problem_means(correct))


def problem_means(correct: Correct) -> list[float]:
    """[P]: the share of each problem's samples that is correct."""
    return [fmean(samples) for samples in _some(correct)]


def pass_at_k(correct: Correct, k: int) -> float:
    """The chance that one of k samples is correct: the mean over problems of 1 - C(n - c, k) / C(n, k).

    Unbiased for n >= k samples, c of them correct. Source: Chen et al. 2021 (arXiv 2107.03374), equation 1.

    Raises:
        ValueError: a problem has fewer than k samples.
    """
    if k < 1 or any(len(samples) < k for samples in correct):
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} samples of every problem")
    return fmean(1 - _all_wrong(len(samples), sum(samples), k) for samples in _some(correct))


def _all_wrong(num_samples: int, num_correct: int, k: int) -> float:
    return math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def cons_at_k(verdicts: Sequence[Sequence[Verdict]]) -> float:
    """The share of problems whose majority answer is correct (EXAONE Deep's and DeepSeek-R1's cons@k).

    Answers are compared as texts, white space aside. A sample without an answer (unparsed or truncated) is no
    vote; a problem with no vote is wrong. A tie counts what a fair draw among the tied answers would earn.
    """
    return fmean(_majority(samples) for samples in _some(verdicts))


def _majority(verdicts: Sequence[Verdict]) -> float:
    """The expected correctness of the answer with the most votes."""
    ballots = [(_vote(verdict), verdict.correct) for verdict in verdicts]
    votes = Counter(answer for answer, _ in ballots if answer is not None)
    most = max(votes.values(), default=0)
    winners = [answer for answer, num_votes in votes.items() if num_votes == most]
    return sum(fmean(correct for answer, correct in ballots if answer == winner) / len(winners) for winner in winners)


def _vote(verdict: Verdict) -> str | None:
    if verdict.extracted is None or verdict.status in NO_VOTE:
        return None
    return " ".join(verdict.extracted.split()) or None


def clustered_interval(means: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """A confidence interval for the mean over problems, with each problem one cluster of samples.

    The normal interval on the P per-problem means, mean +- z * sqrt(variance / P), clipped to [0, 1]: samples of
    one problem are alike, so P counts, not P * k. Source: Miller 2024, "Adding Error Bars to Evals"
    (arXiv 2411.00640), section 2.

    The normal law fails near 0 and 1 and for few problems. Where fewer than `MIN_EXPECTED` successes or failures
    are seen, or the means do not differ at all, the Wilson (1927) score interval for P problems stands instead:
    never empty, inside [0, 1], and on the safe side, as no variable in [0, 1] varies more than a coin does.
    """
    num_problems, mean, z = len(_some(means)), fmean(means), NormalDist().inv_cdf((1 + level) / 2)
    spread = variance(means) if num_problems > 1 else 0.0
    if spread == 0 or num_problems * min(mean, 1 - mean) < MIN_EXPECTED:
        return _wilson(mean, num_problems, z)
    half = z * math.sqrt(spread / num_problems)
    return max(0.0, mean - half), min(1.0, mean + half)


def _wilson(mean: float, num_problems: int, z: float) -> tuple[float, float]:
    scale = 1 + z * z / num_problems
    middle = (mean + z * z / (2 * num_problems)) / scale
    half = z / scale * math.sqrt(mean * (1 - mean) / num_problems + (z / (2 * num_problems)) ** 2)
    return max(0.0, min(mean, middle - half)), min(1.0, max(mean, middle + half))


def summarise(
    groups: Sequence[RolloutGroup], greedy: Sequence[RolloutGroup] | None, count_tokens: Callable[[str], int]
) -> dict[str, Any]:
    """The fields of a stage's entry in report.json that come from its samples.

    Args:
        groups: k samples of each problem.
        greedy: one greedy sample of each of the same problems; None leaves `greedy` null.
        count_tokens: the number of tokens in a thought's text.

    Raises:
        DataError: there are no problems, their numbers of samples differ, or `greedy` is of other problems.
    """
    k = _num_samples(groups)
    correct = _correct(groups)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return {
        **_score(correct),
        "k": k,
        "greedy": None if greedy is None else _greedy(groups, greedy),
        "cons_at_k": cons_at_k([[rollout.verdict for rollout in group.rollouts] for group in groups]),
        "pass_at_k": pass_at_k(correct, k),
        "mean_thought_tokens": fmean(count_tokens(rollout.reply.thought) for rollout in rollouts),
        "mean_reply_tokens": fmean(len(rollout.completion.ids) for rollout in rollouts),
        "truncated_share": _status_share(rollouts, {VerdictStatus.TRUNCATED}),
        "unparsed_share": _status_share(rollouts, {VerdictStatus.UNPARSED}),
        "error_share": _status_share(rollouts, NO_FINDING),
        "per_task": _score_by(groups, lambda group: group.problem.task),
        "per_language": _score_by(groups, lambda group: group.problem.language),
    }


def _score(correct: Correct) -> dict[str, Any]:
    means = problem_means(correct)
    return {"num_problems": len(means), "pass_at_1": fmean(means), "ci95": list(clustered_interval(means))}


def _score_by(groups: Sequence[RolloutGroup], key: Callable[[RolloutGroup], str]) -> dict[str, dict[str, Any]]:
    names = sorted({key(group) for group in groups})
    return {name: _score(_correct([group for group in groups if key(group) == name])) for name in names}


def _greedy(groups: Sequence[RolloutGroup], greedy: Sequence[RolloutGroup]) -> float:
    if {group.problem.id for group in groups} != {group.problem.id for group in greedy}:
        raise DataError("the greedy replies and the samples are of different problems; evaluate both on one set")
    return pass_at_1(_correct(greedy))


def _num_samples(groups: Sequence[RolloutGroup]) -> int:
    sizes = {len(group.rollouts) for group in _some(groups)}
    if len(sizes) > 1 or 0 in sizes:
        raise DataError(
            f"problems have between {min(sizes)} and {max(sizes)} samples; each needs as many, at least one"
        )
    return sizes.pop()


def _correct(groups: Sequence[RolloutGroup]) -> list[list[bool]]:
    return [[rollout.verdict.correct for rollout in group.rollouts] for group in groups]


def _status_share(rollouts: Sequence[Rollout], statuses: Collection[VerdictStatus]) -> float:
    return fmean(rollout.verdict.status in statuses for rollout in rollouts)


def _some(items: Sequence[Item]) -> Sequence[Item]:
    if not len(items):
        raise DataError("there are no problems to score")
    return items
