"""From a judged reply to a reward: named terms, each reported by itself, and their weighted sum.

A term is a row of `TERMS`, one of `GROUP_TERMS` that compares the replies to one problem, or a function of the user's
own, named by its path, such as "my_rewards.py:score". The papers' hybrid reward (EXAONE 4.0, section 2.4.3: verifiable,
preference, language consistency, conciseness) is one table of weights among others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field

from open_exaone.base.config import Config, did_you_mean, short
from open_exaone.base.records import (
    MODES,
    NO_FINDING,
    Missing,
    Problem,
    Reply,
    Rollout,
    RolloutGroup,
    Term,
    Verdict,
    VerdictStatus,
)
from open_exaone.rewards.own import own_score
from open_exaone.rewards.preference import preference
from open_exaone.rewards.terms import (
    answer_rules_term,
    concise_group_terms,
    concise_term,
    format_term,
    language_term,
    overlong_term,
)
from open_exaone.verify.own import is_own
from open_exaone.verify.settings import JudgeSettings

MAX_WEIGHT = 1_000
Reward = str | dict[str, float]  # one term by its name, or the weight of each


class Rubric(Config):
    """What each verdict earns in the term "correct"; "error" earns nothing: it says nothing about the reply."""

    refused_keys: ClassVar[Mapping[str, str]] = {
        "error": "rubric.error was removed: a sample whose verdict is an error says nothing about the reply and is "
        "left out of its group (masked_rollouts in metrics.jsonl): delete the key"
    }
    correct: float = Field(default=1.0, ge=-10, le=10)
    """The answer is right."""
    wrong: float = Field(default=0.0, ge=-10, le=10)
    """The answer is wrong."""
    unparsed: float = Field(default=0.0, ge=-10, le=10)
    """No answer was found."""
    truncated: float = Field(default=0.0, ge=-10, le=10)
    """The reply was cut at the token limit, or its thought never closed."""
    timeout: float | None = Field(default=None, ge=-10, le=10)
    """What the reply itself caused took too long: its program loops, its formula never ends. As `wrong` if left out."""
    overlong_share: float = Field(default=0.2, gt=0, le=1)
    """The last part of the token limit, in which the term "overlong" falls from 0 to -1 (DAPO: 4,096 of 20,480)."""

    def reward(self, verdict: Verdict) -> float:
        """The number for every verdict on the reply: any but ERROR."""
        number = getattr(self, verdict.status.value)
        return float(self.wrong if number is None else number)


@dataclass(frozen=True, slots=True)
class Judged:
    """One reply as the terms see it."""

    problem: Problem
    reply: Reply
    verdict: Verdict
    num_tokens: int  # of the completion, its end token included
    max_tokens: int  # the limit it was sampled under
    thinking: bool  # asked in reasoning mode


def score(
    judged: Judged,
    weights: Mapping[str, float],
    rubric: Rubric,
    settings: JudgeSettings,
    found: Mapping[str, Term] | None = None,
) -> dict[str, Term]:
    """The terms of a reply's reward, each by itself, unweighted.

    Args:
        found: the terms that are known already, and are not asked for again.

    Returns:
        by name a number, or why it could not be found; without those of `GROUP_TERMS`, which need the whole group.
    """
    known, own = found or {}, [name for name in weights if name not in GROUP_TERMS]
    return {name: known[name] if name in known else _term(name, judged, rubric, settings) for name in own}


def with_group_terms(group: RolloutGroup, weights: Mapping[str, float]) -> RolloutGroup:
    """A group whose replies have all their other terms, with those that compare them, and the rewards that follow."""
    compared = {name: GROUP_TERMS[name](group.rollouts) for name in weights if name in GROUP_TERMS}
    if not compared:
        return group
    rollouts = []
    for place, rollout in enumerate(group.rollouts):
        found = {**rollout.terms, **{name: terms[place] for name, terms in compared.items()}}
        terms = {name: found[name] for name in weights}
        rollouts.append(replace(rollout, terms=terms, reward=weighted_sum(terms, weights)))
    return replace(group, rollouts=tuple(rollouts))


def weighted_sum(terms: Mapping[str, Term], weights: Mapping[str, float]) -> float | None:
    """The reward; None where a term could not be found, as the rest of a sum is no reward."""
    return math.fsum(parts) if (parts := _parts(terms, weights)) is not None else None


def sum_size(terms: Mapping[str, Term], weights: Mapping[str, float]) -> float:
    """Σ |weight · term|: what the rounding of the reward is a share of; 0 where a term could not be found."""
    return math.fsum(map(abs, _parts(terms, weights) or ()))


def weights_of(reward: Reward) -> Mapping[str, float]:
    """The weights that a recipe's `reward` stands for.

    Raises:
        ValueError: a term is unknown; names the known ones.
    """
    weights = {reward: 1.0} if isinstance(reward, str) else reward
    if not weights:
        raise ValueError("reward = {}: name at least one term")
    for name, weight in weights.items():
        if not abs(weight) <= MAX_WEIGHT:
            raise ValueError(f"reward {name!r}: weight {weight}: must lie within ±{MAX_WEIGHT:,}")
        known = (*TERMS, *GROUP_TERMS)
        if name not in known and not is_own(name):
            raise ValueError(
                f"reward {short(name)}: unknown{did_you_mean(name, known)} The terms are {', '.join(known)}; "
                'a function of yours is written as "FILE.py:function"'
            )
    return MappingProxyType(weights)


def _parts(terms: Mapping[str, Term], weights: Mapping[str, float]) -> list[float] | None:
    numbers = {name: term for name, term in terms.items() if not isinstance(term, Missing)}
    return [weights[name] * numbers[name] for name in weights] if weights.keys() <= numbers.keys() else None


def _term(name: str, judged: Judged, rubric: Rubric, settings: JudgeSettings) -> Term:
    if name in TERMS:
        return TERMS[name](judged, rubric, settings)
    return own_score(name, _sample(judged), settings)


def _sample(judged: Judged) -> dict[str, Any]:
    """What a reward of the user's own is called with."""
    problem, reply, verdict = judged.problem, judged.reply, judged.verdict
    return {
        "question": problem.question,
        "gold": problem.answer,
        "language": problem.language,
        "task": problem.task,
        "metadata": dict(problem.metadata),
        "thought": reply.thought,
        "answer": reply.answer,
        "num_tokens": judged.num_tokens,
        "mode": MODES[judged.thinking],
        "verdict": verdict.status.value,
        "extracted": verdict.extracted,
    }


def _correct(judged: Judged, rubric: Rubric, settings: JudgeSettings) -> Term:
    if judged.verdict.status in NO_FINDING:
        return Missing(judged.verdict.why, judged.verdict.outage)
    return rubric.reward(judged.verdict)


def _format(judged: Judged, rubric: Rubric, settings: JudgeSettings) -> float:
    return format_term(judged.reply, judged.thinking)


def _language(judged: Judged, rubric: Rubric, settings: JudgeSettings) -> float:
    return language_term(judged.reply, judged.problem.language)


def _concise(judged: Judged, rubric: Rubric, settings: JudgeSettings) -> Term:
    if judged.verdict.status in NO_FINDING:
        return Missing(judged.verdict.why, judged.verdict.outage)
    return concise_term(judged.num_tokens, judged.max_tokens, judged.verdict.correct)


def _overlong(judged: Judged, rubric: Rubric, settings: JudgeSettings) -> float:
    buffer_tokens = max(1, round(judged.max_tokens * rubric.overlong_share))
    return overlong_term(judged.num_tokens, judged.max_tokens, buffer_tokens) + 0.0  # no -0.0


def _preference(judged: Judged, rubric: Rubric, settings: JudgeSettings) -> Term:
    if settings.endpoint is None:
        return Missing("There is no [judge.endpoint].")
    return preference(settings.endpoint, judged.problem.question, judged.reply.answer)


def _answer_rules(judged: Judged, rubric: Rubric, settings: JudgeSettings) -> float:
    return answer_rules_term(judged.reply, judged.problem.language, judged.verdict.status is VerdictStatus.TRUNCATED)


def _concise_group(rollouts: Sequence[Rollout]) -> list[Term]:
    correct = [rollout.generation.num_tokens for rollout in rollouts if rollout.verdict.correct]
    values = iter(concise_group_terms(correct))
    return [
        Missing(verdict.why, verdict.outage)
        if verdict.status in NO_FINDING
        else next(values)
        if verdict.correct
        else 0.0
        for verdict in (rollout.verdict for rollout in rollouts)
    ]


TERMS: Mapping[str, Callable[[Judged, Rubric, JudgeSettings], Term]] = MappingProxyType(
    {
        "correct": _correct,  # the verdict, by the rubric
        "format": _format,  # 1 where the reply is well formed
        "language": _language,  # 1 where thought and answer are in the problem's language
        "concise": _concise,  # towards 1 for a short correct reply
        "overlong": _overlong,  # 0, falling to -1 at the token limit
        "preference": _preference,  # 0 to 1, by the model behind [judge.endpoint]
        "answer_rules": _answer_rules,  # 0 to 1, by rules for the final answer; needs no model
    }
)
GROUP_TERMS: Mapping[str, Callable[[Sequence[Rollout]], list[Term]]] = MappingProxyType(
    {"concise_group": _concise_group}  # 1 for the shortest correct reply of the group, towards 0 for longer ones
)
