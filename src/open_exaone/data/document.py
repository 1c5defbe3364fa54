"""One training sequence, and prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from open_exaone.base.records import Problem, Rollout, RolloutGroup
from open_exaone.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Document:
    """A conversation as token ids; T tokens."""

    ids: Sequence[int] | NDArray[np.int32]  # [T]
    loss_mask: Sequence[bool] | NDArray[np.bool_]  # [T] True on the tokens that the loss counts
    advantage: float = 0.0  # of the whole completion; of a pair +1 is chosen and -1 rejected
    reference_logprob: float | None = None  # Σ over the learned tokens, under the model that the stage began from
    # Of each learned token, where there are any; the log-probability
    sampler_logprobs: Sequence[float] | NDArray[np.float32] = ()  # that the sampler reports
    old_logprobs: Sequence[float] | NDArray[np.float32] = ()  # under the trained model as it was when it sampled
    reference_logprobs: Sequence[float] | NDArray[np.float32] = ()  # under the reference model


Unit = Sequence[Document]  # documents that no micro-batch splits: the two replies of a pair, the samples of a group


def prompt_ids(problems: Sequence[Problem], tokenizer: Tokenizer, *, thinking: bool) -> list[list[int]]:
    """Each problem as a prompt that ends where the reply begins."""
    conversations = [[{"role": "user", "content": problem.question}] for problem in problems]
    rendered = tokenizer.render_many(conversations, thinking=thinking, generation_prompt=True)
    return [ids for ids, _ in rendered]


def rollout_document(group: RolloutGroup, rollout: Rollout, advantage: float) -> Document:
    """A sampled completion behind its prompt; the loss counts the completion."""
    ids, logprobs = rollout.generation.ids, rollout.generation.logprobs
    assert ids is not None and logprobs is not None  # RL refuses a provider that does not give them
    return Document(
        ids=(*group.prompt_ids, *ids),
        loss_mask=(False,) * len(group.prompt_ids) + (True,) * len(ids),
        advantage=advantage,
        sampler_logprobs=logprobs,
    )
