"""What the engine is asked for, and what it has produced so far. No torch."""

import hashlib
from collections.abc import Sequence as Ids
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from open_exaone.base.records import Completion, Sampling, StopReason


@dataclass(slots=True, eq=False)
class Sample:
    """One completion in the making."""

    prompt_index: int
    sample_index: int
    prompt_length: int
    max_new_tokens: int
    uniforms_T: NDArray[np.float32]  # its own random stream, one number a token
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampling_logprobs: list[float] = field(default_factory=list)
    stop: StopReason | None = None

    def append(self, token: int, logprob: float, sampling_logprob: float, end_ids: frozenset[int]) -> None:
        """Takes the next token and notices when it is the last."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.sampling_logprobs.append(sampling_logprob)
        if token in end_ids:
            self.stop = StopReason.END
        elif len(self.ids) == self.max_new_tokens:
            self.stop = StopReason.LENGTH

    def completion(self, policy_version: int) -> Completion:
        assert self.stop is not None
        return Completion(
            tuple(self.ids), tuple(self.logprobs), tuple(self.sampling_logprobs), self.stop, policy_version
        )


@dataclass(slots=True, eq=False)
class Group:
    """One prompt and its samples: the prompt is computed once for all of them."""

    prompt_ids: Ids[int]
    samples: list[Sample]

    @classmethod
    def make(cls, prompt_index: int, prompt_ids: Ids[int], sampling: Sampling) -> "Group":
        return cls(
            prompt_ids,
            [
                Sample(
                    prompt_index,
                    sample_index,
                    len(prompt_ids),
                    sampling.max_new_tokens,
                    random_stream(sampling.seed, prompt_ids, sample_index, sampling.max_new_tokens),
                )
                for sample_index in range(sampling.num_samples)
            ],
        )


def random_stream(seed: int, prompt_ids: Ids[int], sample_index: int, length: int) -> NDArray[np.float32]:
    """`length` uniform numbers in [0, 1) that depend on (seed, prompt ids, sample index) alone."""
    text = f"{seed}:{sample_index}:{','.join(map(str, prompt_ids))}"
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).random(length, dtype=np.float32)
