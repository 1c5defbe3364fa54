"""What the engine has produced so far for each request. No torch."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from open_exaone.base.records import Completion, Request, Sampling, StopReason, TopLogprobs
from open_exaone.engine.blocks import Table
from open_exaone.engine.stop import StopStrings, is_stop_id


def prompt_of(request: Request) -> tuple[int, ...]:
    """The prompt's ids, which the engine needs."""
    assert request.prompt_ids is not None
    return request.prompt_ids


def check_ids(requests: Sequence[Request], vocab_size: int, what: str) -> None:
    """Refuses token ids that the model does not have.

    Raises:
        ValueError: names the request whose prompt, logit_bias or stop_ids has such an id, or whose prompt a fraction.
    """
    known: set[Sampling] = set()
    for place, request in enumerate(requests):
        prompt, sampling = prompt_of(request), request.sampling
        if not all(hasattr(kind, "__index__") for kind in set(map(type, prompt))):
            wrong = next(token for token in prompt if not hasattr(token, "__index__"))
            raise ValueError(f"{what} {place} has {wrong!r}, which is no token id: a prompt is a list of integers")
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            wrong = next(token for token in prompt if not 0 <= token < vocab_size)
            raise ValueError(f"{what} {place} has the id {wrong}: the model's ids are 0 to {vocab_size - 1}")
        if sampling in known:
            continue
        known.add(sampling)
        for name, ids in (("logit_bias", dict(sampling.logit_bias)), ("stop_ids", sampling.stop_ids)):
            if wrong_ids := [token for token in ids if token >= vocab_size]:
                raise ValueError(
                    f"{what} {place}: {name} has the id {wrong_ids[0]}: the model's ids are 0 to {vocab_size - 1}"
                )


def max_length(request: Request) -> int:
    """Tokens that prompt and reply may have together."""
    return len(prompt_of(request)) + request.sampling.max_new_tokens


class Constraint(Protocol):
    """What a reply may say next, such as JSON of a schema; made for one sample."""

    def banned_ids(self) -> NDArray[np.int32]:
        """The ids that may not come next."""

    def take(self, ids: Sequence[int]) -> None:
        """The reply goes on with these."""


@dataclass(slots=True, eq=False)
class Sample:
    """One completion in the making."""

    place: int  # of its request
    request: Request
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampling_logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[TopLogprobs] = field(default_factory=list)  # one a token, where the request asks for some
    stop: StopReason | None = None
    error: str | None = None  # why it failed
    stop_strings: StopStrings | None = None  # where it has some, from when it starts
    closing_ids: Sequence[int] = ()  # forced behind the thinking budget, where that cuts the thought
    was_cut: bool = False  # a forced token took the place of another
    num_cached: int | None = None  # tokens of its prompt that were remembered; None until it has begun
    constraint: "Constraint | None" = None  # what may come next, where that is restricted
    max_new_tokens: int = field(init=False)
    thinking_budget: int | None = field(init=False)  # the request's, or where its thought was ended on demand
    table: Table | None = None  # its keys and values, while it runs
    group: "Group | None" = None  # in which it waits
    _uniforms_T: NDArray[np.float32] | None = None  # its own random stream, one number a token; drawn when it starts

    def __post_init__(self) -> None:
        self.max_new_tokens = self.request.sampling.max_new_tokens
        self.thinking_budget = self.request.sampling.thinking_budget

    def all_ids(self) -> tuple[int, ...]:
        """Prompt and reply so far."""
        return (*prompt_of(self.request), *self.ids)

    @property
    def uniforms_T(self) -> NDArray[np.float32]:
        """The numbers that decide its tokens."""
        if self._uniforms_T is None:
            self._uniforms_T = random_stream(self.request, self.max_new_tokens)
        return self._uniforms_T

    @property
    def is_at_budget(self) -> bool:
        """Whether it goes on, and its last token was the last that the thinking budget allows."""
        return self.stop is None and len(self.ids) == self.thinking_budget

    def forced_ids(self) -> list[int]:
        """Its next tokens, where they are not the model's choice."""
        if not self.closing_ids:
            return []
        return list(self.closing_ids[len(self.ids) - (self.thinking_budget or 0) :])

    def append(self, token: int, logprob: float, sampling_logprob: float, end_ids: frozenset[int]) -> None:
        """Takes the next token and notices when it is the last: a stop string goes before every other reason."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        self.sampling_logprobs.append(sampling_logprob)
        is_end = is_stop_id(token, self.request.sampling, end_ids)
        if is_end:
            self.stop = StopReason.BUDGET if self.was_cut else StopReason.END
        elif len(self.ids) == self.max_new_tokens:
            self.stop = StopReason.LENGTH
        if self.stop_strings is None:
            return
        is_found = not is_end and self.stop_strings.feed([token])
        if is_found or (self.stop is not None and self.stop_strings.finish()):
            self.stop = StopReason.STOP_STRING

    def extend(
        self,
        ids_T: Sequence[int],
        logprobs_T: Sequence[float],
        sampling_logprobs_T: Sequence[float],
        end_ids: frozenset[int],
    ) -> None:
        """Takes several tokens, of which only the last may be a stop id; those behind a stop string are left out."""
        num_before = len(ids_T) - 1 if self.stop_strings is None else 0  # that cannot be the last
        self.ids += ids_T[:num_before]
        self.logprobs += logprobs_T[:num_before]
        self.sampling_logprobs += sampling_logprobs_T[:num_before]
        for place in range(max(0, num_before), len(ids_T)):
            if self.stop is None:
                self.append(ids_T[place], logprobs_T[place], sampling_logprobs_T[place], end_ids)

    def fail(self) -> None:
        """Ends it where its next token cannot be drawn."""
        self.stop = StopReason.ERROR
        self.error = (
            f"the model's logits for token {len(self.ids) + 1} of the reply are NaN or infinite: check its weights, or "
            f"compute in float32"
        )

    def completion(self, policy_version: int) -> Completion:
        assert self.stop is not None
        return Completion(
            tuple(self.ids),
            tuple(self.logprobs),
            tuple(self.sampling_logprobs),
            self.stop,
            policy_version,
            self.error,
            tuple(self.top_logprobs),
        )


@dataclass(slots=True, eq=False)
class Group:
    """One prompt and its samples: the prompt is computed once for all of them."""

    prompt_ids: Sequence[int]
    samples: list[Sample] = field(default_factory=list)

    def __post_init__(self) -> None:
        for sample in self.samples:
            sample.group = self

    def add(self, sample: Sample) -> None:
        """One sample more."""
        self.samples.append(sample)
        sample.group = self


def in_groups(requests: Iterable[Request]) -> list[Group]:
    """Joins neighbours with one prompt and rising `index`. A prompt that begins anew is computed anew."""
    groups: list[Group] = []
    previous: Request | None = None
    for place, request in enumerate(requests):
        is_further = (
            previous is not None and request.index > previous.index and request.prompt_ids == previous.prompt_ids
        )
        if not is_further:
            groups.append(Group(prompt_of(request)))
        groups[-1].add(Sample(place, request))
        previous = request
    return groups


def random_stream(request: Request, length: int) -> NDArray[np.float32]:
    """`length` uniform numbers in [0, 1) that depend on (seed, prompt ids, occurrence, sample index) alone."""
    text = f"{request.stream_name}:{','.join(map(str, map(int, prompt_of(request))))}"  # of any type of integer
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
    return np.random.Generator(np.random.Philox(key=key)).random(length, dtype=np.float32)
