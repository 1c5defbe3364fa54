"""Judged samples as lines of JSON."""

from typing import Any

from open_exaone.base.records import MODES, Missing, RolloutGroup, Term, Verdict


def sample_rows(groups: list[RolloutGroup]) -> list[dict[str, Any]]:
    """One row a sample: what was asked, what came back, and what the verifier found.

    A verdict or a term that is still to be asked for is null; a term that could not be found is {"missing": why}.
    """
    return [
        {
            "problem": group.problem.id,
            "task": group.problem.task,
            "language": group.problem.language,
            "question": group.problem.question,
            "gold": group.problem.answer,
            "mode": MODES[group.thinking],
            "sample": index,
            "thought": rollout.generation.reply.thought,
            "answer": rollout.generation.reply.answer,
            "stop": rollout.generation.stop.value,
            "policy_version": rollout.generation.policy_version,
            "num_tokens": rollout.generation.num_tokens,
            "num_thought_tokens": rollout.generation.num_thought_tokens,
            **_verdict_fields(rollout.verdict),
            "reward": rollout.reward,
            "terms": {name: _term_field(term) for name, term in rollout.terms.items()},
        }
        for group in groups
        for index, rollout in enumerate(group.rollouts)
    ]


def _verdict_fields(verdict: Verdict) -> dict[str, str | None]:
    if verdict.outage:
        return {"verdict": None, "extracted": None, "why": None}
    return {"verdict": verdict.status.value, "extracted": verdict.extracted, "why": verdict.why}


def _term_field(term: Term) -> float | dict[str, str] | None:
    if isinstance(term, Missing):
        return None if term.outage else {"missing": term.why}
    return term
