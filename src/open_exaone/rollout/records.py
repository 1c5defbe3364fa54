"""Judged samples as lines of JSON."""

from typing import Any

from open_exaone.base.records import RolloutGroup


def sample_rows(groups: list[RolloutGroup]) -> list[dict[str, Any]]:
    """One row a sample: what was asked, what came back, and what the verifier said."""
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
            "verdict": rollout.verdict.status.value,
            "extracted": rollout.verdict.extracted,
            "why": rollout.verdict.why,
            "reward": rollout.reward,
            "terms": dict(rollout.terms),
        }
        for group in groups
        for index, rollout in enumerate(group.rollouts)
    ]
