"""The one contract of generation: requests in, a stream of generations out.

Training, pair sampling, evaluation and chat all ask this way; `rollout/providers/` answers.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from open_exaone.base.records import Generation, Problem, Request, Sampling
from open_exaone.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

Conversation = Sequence[Mapping[str, str]]  # of {"role", "content"}
Generations = Generator[tuple[int, Generation], None, None]


class Provider(Protocol):
    """Answers requests, many at once, in whatever order they finish."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What distinguishes its replies from another's: the engine, the model, a hash of it; goes into the report."""

    @property
    def gives_ids(self) -> bool:
        """Whether its generations carry token ids and log-probabilities, which online RL learns from."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What renders its prompts; None where it takes messages."""

    @property
    def failure(self) -> str | None:
        """Why the first of the requests that were left out failed, and how to fix it; None where none was."""

    @property
    def notes(self) -> Sequence[str]:
        """What a report must state of it, such as that it takes no seeds."""

    def stream(self, requests: Sequence[Request]) -> Generations:
        """(place in `requests`, what was generated), each as soon as it is there. Closing it stops the rest.

        A provider may leave out requests that failed after all retries; the caller notices, and can ask again.

        Raises:
            OpenExaoneError: nothing more can be generated; says how to fix it.
            Interrupted: after Ctrl-C or SIGTERM.
        """

    def flops(self, generation: Generation) -> float | None:
        """Floating-point operations that one generation cost; None where the model's size is not known."""

    def update_weights(self, weights: "Iterable[tuple[str, Tensor]]", version: int) -> None:
        """Samples from these weights from now on; called while nothing is being generated.

        Args:
            weights: by the names of the published checkpoints, adapters merged.
            version: what `Generation.policy_version` becomes.

        Raises:
            ConfigError, EndpointError: the provider cannot take them; says how to fix it.
        """


def requests_for(
    asked: Iterable[Problem | Conversation], tokenizer: Tokenizer | None, sampling: Sampling, *, thinking: bool
) -> list[Request]:
    """The requests of `sampling.num_samples` samples for each problem or conversation, in order.

    Each prompt is rendered once, to the ids that are sent, hashed and learned from.

    Raises:
        DataError, CheckpointError: a prompt can't be rendered, such as by a model without a chat format.
    """
    conversations = [
        ({"role": "user", "content": one.question},) if isinstance(one, Problem) else tuple(one) for one in asked
    ]
    prompts: Sequence[tuple[int, ...] | None] = [None] * len(conversations)
    if tokenizer is not None:
        rendered = tokenizer.render_many(conversations, thinking=thinking, generation_prompt=True)
        prompts = [tuple(ids) for ids, _ in rendered]
    seen: Counter[str] = Counter()
    requests = []
    for messages, prompt_ids in zip(conversations, prompts, strict=True):
        text = prompt_text(Request(messages, prompt_ids, thinking, sampling))
        requests += [
            Request(messages, prompt_ids, thinking, sampling, index, occurrence=seen[text])
            for index in range(sampling.num_samples)
        ]
        seen[text] += 1
    return requests


def prompt_text(request: Request) -> str:
    """The prompt as it is sent, as a text to be hashed: its ids, or its messages where there are none."""
    if request.prompt_ids is not None:
        return ids_text(request.prompt_ids)
    return json.dumps({"messages": request.messages, "thinking": request.thinking}, ensure_ascii=False)


def ids_text(ids: Sequence[int]) -> str:
    """Token ids as a text, to be hashed."""
    return " ".join(map(str, ids))


def sample_seed(request: Request, prompt: str) -> int:
    """The seed of one sample for engines that draw by themselves: 31 bits, as some servers take no more.

    Args:
        prompt: `prompt_text`, with the part of the reply that is continued.
    """
    text = f"{request.stream_name}:{prompt}".encode("utf-8", "replace")
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1
