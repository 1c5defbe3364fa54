"""One training sequence, and problems turned into them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from open_exaone.base.errors import DataError, PromptTooLongError
from open_exaone.base.records import Problem, Rollout, RolloutGroup
from open_exaone.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Document:
    """A conversation as token ids; T tokens."""

    ids: Sequence[int] | NDArray[np.int32]  # [T]
    loss_mask: Sequence[bool] | NDArray[np.bool_]  # [T] True on the tokens that the loss counts
    advantage: float = 0.0  # of the whole completion; for preference +1 is chosen and -1 rejected
    old_logprobs: Sequence[float] = ()  # [number of learned tokens] under the policy that sampled them
    reference_logprob: float | None = None  # Σ over the learned tokens, under the model that the stage began from


Unit = Sequence[Document]  # documents that no micro-batch splits, such as the two replies of a pair


def prompt_ids(problems: Sequence[Problem], tokenizer: Tokenizer, *, thinking: bool) -> list[list[int]]:
    """Each problem as a prompt that ends where the reply begins."""
    conversations = [[{"role": "user", "content": problem.question}] for problem in problems]
    rendered = tokenizer.render_many(conversations, thinking=thinking, generation_prompt=True)
    return [ids for ids, _ in rendered]


def worked_documents(
    problems: Sequence[Problem], tokenizer: Tokenizer, *, thinking: bool, learn_prompts: bool, max_tokens: int
) -> list[Document]:
    """Each problem with its worked reply, in reasoning mode with its worked thought.

    Args:
        learn_prompts: count the loss on the whole conversation, as in pretraining, not on the reply alone.
        max_tokens: the model's context.

    Raises:
        DataError: a problem has no worked reply, or no thought for reasoning mode.
        PromptTooLongError: a conversation exceeds `max_tokens`.
    """
    conversations = []
    for problem in problems:
        if problem.reply is None or (thinking and problem.thought is None):
            missing = "worked reply" if problem.reply is None else "worked thought"
            raise DataError(f"problem {problem.id}: has no {missing}: leave its family out of this split")
        turn = {"role": "assistant", "content": problem.reply, "reasoning_content": problem.thought or ""}
        conversations.append([{"role": "user", "content": problem.question}, turn])
    documents = []
    rendered = tokenizer.render_many(conversations, thinking=thinking)
    for problem, (ids, mask) in zip(problems, rendered, strict=True):
        if len(ids) > max_tokens:
            raise PromptTooLongError(
                f"problem {problem.id}: {len(ids)} tokens exceed the model's context of {max_tokens}: "
                f"raise model.max_positions or make the problem shorter"
            )
        documents.append(Document(ids, [True] * len(ids) if learn_prompts else mask))
    return documents


def rollout_document(group: RolloutGroup, rollout: Rollout, advantage: float) -> Document:
    """A sampled completion behind its prompt; the loss counts the completion."""
    ids, logprobs = rollout.generation.ids, rollout.generation.logprobs
    assert ids is not None and logprobs is not None  # RL refuses a provider that does not give them
    return Document(
        ids=(*group.prompt_ids, *ids),
        loss_mask=(False,) * len(group.prompt_ids) + (True,) * len(ids),
        advantage=advantage,
        old_logprobs=logprobs,
    )
