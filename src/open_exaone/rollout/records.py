"""Judged samples as lines of JSON."""

from typing import Any

from open_exaone.base.records import RolloutGroup, Verdict
from open_exaone.rollout.patience import OPEN


def sample_rows(groups: list[RolloutGroup]) -> list[dict[str, Any]]:
    """One row a sample: what was asked, what came back, and what the verifier found.

    What is still to be asked for is null (the verdict), or not there (a term).
    """
    return [
        {
            "problem": group.problem.id,
            "task": group.problem.task,
            "language": group.problem.language,
            "question": group.problem.question,
            "gold": group.problem.answer,
            "sample": index,
            "thought": rollout.reply.thought,
            "answer": rollout.reply.answer,
            "stop": rollout.completion.stop.value,
            "policy_version": rollout.completion.policy_version,
            "num_tokens": len(rollout.completion.ids),
            **_verdict_fields(rollout.verdict),
            "reward": rollout.reward,
            "terms": {name: term for name, term in rollout.terms.items() if not isinstance(term, OPEN)},
        }
        for group in groups
        for index, rollout in enumerate(group.rollouts)
    ]


def _verdict_fields(verdict: Verdict) -> dict[str, str | None]:
    if isinstance(verdict.why, OPEN):
        return {"verdict": None, "extracted": None, "why": None}
    return {"verdict": verdict.status.value, "extracted": verdict.extracted, "why": verdict.why}
