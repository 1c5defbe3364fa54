"""The one contract of generation: requests in, a stream of generations out.

Training, pair sampling, evaluation and chat all ask this way; `rollout/providers/` answers.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from open_exaone.base.records import Begun, Generation, Problem, Request, Sampling
from open_exaone.rollout.begun import begin_all
from open_exaone.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

Conversation = Sequence[Mapping[str, str]]  # of {"role", "content"}
Generations = Generator[tuple[int, Generation], None, None]
Seen = Counter[tuple[Sampling, bytes]]  # how often a prompt was asked, by how it is sampled and a digest of its text


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
    asked: Iterable[Problem | Conversation],
    tokenizer: Tokenizer | None,
    sampling: Sampling,
    *,
    thinking: bool | Sequence[bool],
    seen: Seen | None = None,
    begun: Sequence[Begun] = (),
) -> list[Request]:
    """The requests of `sampling.num_samples` samples for each problem or conversation, in order.

    Each prompt is rendered once, to the ids that are sent, hashed and learned from.

    Args:
        thinking: ask in reasoning mode; all, or each by itself.
        seen: what was asked before in the same evaluation, which counts as `Request.occurrence`; gets these too.
        begun: of each, the thought that its replies begin with, whose tokens count among `max_new_tokens`; none where
            it is empty.

    Raises:
        DataError, CheckpointError: a prompt can't be rendered, such as by a model without a chat format.
    """
    conversations = [
        ({"role": "user", "content": one.question},) if isinstance(one, Problem) else tuple(one) for one in asked
    ]
    modes = [thinking] * len(conversations) if isinstance(thinking, bool) else list(map(bool, thinking))
    prompts: dict[int, tuple[int, ...]] = {}  # by place
    if tokenizer is not None:
        for mode in set(modes):
            places = [place for place, other in enumerate(modes) if other == mode]
            some = [conversations[place] for place in places]
            rendered = tokenizer.render_many(some, thinking=mode, generation_prompt=True)
            prompts |= {place: tuple(ids) for place, (ids, _) in zip(places, rendered, strict=True)}
    asked_P = [
        Request(messages, prompts.get(place), mode, sampling)
        for place, (messages, mode) in enumerate(zip(conversations, modes, strict=True))
    ]
    if begun:
        asked_P = begin_all(asked_P, begun, tokenizer)
    seen = Counter() if seen is None else seen
    one_sample = replace(sampling, num_samples=1)
    requests = []
    for request in asked_P:
        text = prompt_text(request).encode("utf-8", "surrogatepass")
        key = (one_sample, hashlib.blake2b(text, digest_size=16).digest())
        requests += [replace(request, index=index, occurrence=seen[key]) for index in range(sampling.num_samples)]
        seen[key] += 1
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

    The samples of one prompt have different seeds, however many: up to 65,537 of each of 32,767 occurrences.

    Args:
        prompt: `prompt_text`, with the part of the reply that is continued.
    """
    text = f"{request.sampling.seed}:{prompt}".encode("utf-8", "replace")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")
    number = (number + 65_537 * request.occurrence + request.index) % 2**31
    for _ in range(2):  # each operation maps 31 bits one to one; neighbours become unlike, for generators that need it
        number = (number ^ number >> 16) * 0x45D9F3B % 2**31
    return number ^ number >> 16
