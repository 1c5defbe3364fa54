"""Every record that crosses rooms: frozen, with shape or unit beside each field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import index
from typing import NamedTuple

REASONING, NON_REASONING = "reasoning", "non_reasoning"
MODES = (NON_REASONING, REASONING)  # by whether the model is to think
JUNK = ("?", "nan")  # a scorer that takes these for right distinguishes nothing


def mode_label(mode: str) -> str:
    """A mode as people write it, and as names of suites and tasks have it: "non-reasoning"."""
    return mode.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Problem:
    """A question whose answer a program can check."""

    id: str  # unique in its run, such as "chain_sum/en/1000042"
    task: str  # the family it belongs to, such as "chain_sum"
    language: str  # "en" or "ko": the language of the question, and the one wanted in the reply
    question: str  # what the user turn says
    answer: str  # the gold answer
    verifier: str  # how a reply is judged: a kind that `verify.judge_answer` knows
    thought: str | None = None  # a worked thought written by code, where the family has one
    reply: str | None = None  # the short self-contained answer that ends in \boxed{...}
    metadata: Mapping[str, object] = field(default_factory=dict)  # what the verifier needs besides


class StopReason(StrEnum):
    """Why a generation ended."""

    END = "end"  # the model produced its end-of-turn token, or one of `Sampling.stop_ids`
    LENGTH = "length"  # max_new_tokens was reached
    STOP_STRING = "stop_string"  # its text reached one of `Sampling.stop`
    BUDGET = "budget"  # it ended by itself, behind a thought that the thinking budget had cut
    CANCELLED = "cancelled"
    ERROR = "error"  # it could not be generated, such as where a logit is NaN


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn, in vLLM's terms; `engine/sampling.py` defines each step, in the order it is taken.

    `temperature` 0 means greedy: the best token after bias and penalties; then `top_k`, `top_p` and `min_p` play no
    part. Lists, mappings and a single stop string are accepted, and kept as tuples.

    Raises:
        ValueError: a value is out of its range; names it.
    """

    max_new_tokens: int
    temperature: float = 0.6
    top_p: float = 0.95  # keep the fewest most likely tokens whose probabilities reach it
    num_samples: int = 1
    seed: int = 0
    presence_penalty: float = 0.0  # taken off the logits of every token that the reply already has
    thinking_budget: int | None = None  # the longest thought, in tokens; then its end is forced and the answer follows
    top_k: int | None = None  # keep this many most likely tokens; None keeps all
    min_p: float = 0.0  # keep tokens at least this many times as likely as the most likely one
    frequency_penalty: float = 0.0  # taken off a token's logit as often as the reply already has it
    repetition_penalty: float = 1.0  # makes tokens of prompt and reply less likely where above 1
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]] = ()  # id -> what is added to its logit
    stop_ids: Sequence[int] = ()  # further ids that end a reply, which keeps them as it keeps its end token
    stop: Sequence[str] = ()  # strings that end a reply; its text is what stands before the first of them

    @property
    def is_raw(self) -> bool:
        """Whether tokens are drawn from the model's own distribution, so that its log-probabilities are theirs."""
        return self.draw_key == (1.0, None, 1.0, 0.0, 0.0, 0.0, 1.0, ()) and self.thinking_budget is None

    @property
    def draw_key(self) -> tuple[object, ...]:
        """All that decides how one token is drawn."""
        filters = (self.temperature, self.top_k, self.top_p, self.min_p)
        return (*filters, self.presence_penalty, self.frequency_penalty, self.repetition_penalty, self.logit_bias)

    def __post_init__(self) -> None:
        pairs = self.logit_bias.items() if isinstance(self.logit_bias, Mapping) else self.logit_bias
        kept = {
            "logit_bias": tuple(sorted((index(token), float(bias)) for token, bias in pairs)),
            "stop_ids": tuple(map(index, self.stop_ids)),
            "stop": (self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
        }
        for name, value in kept.items():
            object.__setattr__(self, name, value)
        for name in ("max_new_tokens", "num_samples", "seed", "thinking_budget", "top_k"):
            number = getattr(self, name)
            if number is not None and not hasattr(number, "__index__"):
                raise ValueError(f"{name} = {number!r}: must be an integer")
        for name, least, what in (("max_new_tokens", 1, ""), ("num_samples", 1, ""), ("top_k", 1, "; None keeps all")):
            number = getattr(self, name)
            if number is not None and not number >= least:
                raise ValueError(f"{name} = {number}: must be at least {least}{what}")
        for name, (low, high, note) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} = {getattr(self, name)}: must lie in {low:g}{note} to {high:g}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p = {self.top_p}: must lie above 0 and at most 1")
        if self.thinking_budget is not None and not 1 <= self.thinking_budget < self.max_new_tokens:
            raise ValueError(
                f"thinking_budget = {self.thinking_budget}: must be at least 1 and below max_new_tokens = "
                f"{self.max_new_tokens}, so that the answer has room"
            )
        self._check_tokens()

    def _check_tokens(self) -> None:
        biases = dict(self.logit_bias)
        for name, ids in (("logit_bias", biases), ("stop_ids", self.stop_ids)):
            if negative := [token for token in ids if token < 0]:
                raise ValueError(f"{name}: {negative[0]} is no token id: ids count from 0")
        if len(biases) < len(self.logit_bias):
            raise ValueError("logit_bias: an id is listed twice: give it one bias")
        for token, bias in biases.items():
            if not -100.0 <= bias <= 100.0:
                raise ValueError(f"logit_bias = {bias} for id {token}: must lie in -100 to 100")
        if not all(isinstance(text, str) and text for text in self.stop):
            raise ValueError(f"stop = {list(self.stop)!r}: must be strings of at least one character")


_RANGES = {  # field -> lowest, highest, what the lowest means
    "temperature": (0.0, 100.0, " (greedy)"),
    "min_p": (0.0, 1.0, ""),
    "presence_penalty": (-2.0, 2.0, ""),
    "frequency_penalty": (-2.0, 2.0, ""),
    "repetition_penalty": (0.01, 100.0, ""),
}


class TopLogprobs(NamedTuple):
    """The K most likely tokens at one place of a reply, under the raw model at temperature 1.

    The most likely comes first, and of equals the lower id.
    """

    ids: tuple[int, ...]  # [K]
    logprobs: tuple[float, ...]  # [K]


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine produced for one sample of one prompt; T tokens, the end token and a stop string's included."""

    ids: tuple[int, ...]  # [T]
    logprobs: tuple[float, ...]  # [T] under the raw model at temperature 1
    sampling_logprobs: tuple[float, ...]  # [T] under the distribution that was sampled from
    stop: StopReason
    policy_version: int  # which weights produced it; training counts up by one each step
    error: str | None = None  # where `stop` is ERROR: what failed, in one sentence
    top_logprobs: tuple[TopLogprobs, ...] = ()  # [T] where the request asked for some, else empty


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that a reply calls. Where the JSON is malformed, `error` says in one sentence what is wrong."""

    text: str  # the raw JSON text between <tool_call> and </tool_call>
    name: str | None = None
    arguments: Mapping[str, object] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply, split. `finished` is False when a thought was opened and never closed."""

    thought: str
    answer: str
    tool_calls: tuple[ToolCall, ...] = ()  # malformed ones too
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Begun:
    """The thought that a reply begins with, given in place of one that the model would write."""

    thought: str
    closed: bool  # the answer follows; False: the model goes on with the thought


@dataclass(frozen=True, slots=True)
class Request:
    """One sample of one prompt. Its random stream is a function of (seed, prompt, occurrence, index) alone, so that
    neither batches nor what was generated before a kill change it. docs/sampling.md has the rule for users."""

    messages: tuple[Mapping[str, str], ...]  # "role" and "content"; a thought in the last one begins the reply
    prompt_ids: tuple[int, ...] | None  # [T] the messages, rendered; None where the provider has no tokenizer
    thinking: bool  # in reasoning mode
    sampling: Sampling  # `num_samples` plays no part: this is one of them
    index: int = 0  # which sample of this prompt
    occurrence: int = 0  # how often this prompt stood before: in its step, its evaluation or its call of the engine
    num_top_logprobs: int = 0  # how many of the most likely tokens are given at each place; the engine's own alone
    num_begun: int = 0  # of `prompt_ids`, the last so many begin the reply

    @property
    def stream_name(self) -> str:
        """What is hashed with the prompt to seed the random stream; a prompt that stands once needs no occurrence."""
        name = f"{self.sampling.seed}:{self.index}"
        return f"{name}:{self.occurrence}" if self.occurrence else name


@dataclass(frozen=True, slots=True)
class Generation:
    """What a provider produced for one request; T tokens, the end token included.

    Where the reply was begun (`Request.num_begun`), `reply` has its beginning too; tokens and log-probabilities do not.
    """

    reply: Reply
    stop: StopReason
    num_prompt_tokens: int
    num_tokens: int  # T; estimated where an endpoint does not count
    num_thought_tokens: int
    ids: tuple[int, ...] | None = None  # [T]; None where the provider gives only text
    logprobs: tuple[float, ...] | None = None  # [T] under the distribution that was sampled from
    policy_version: int | None = None  # which weights produced it; training counts up by one each step


class VerdictStatus(StrEnum):
    """What a verifier found."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSED = "unparsed"  # no answer could be extracted
    TRUNCATED = "truncated"  # the thought was never closed, or the token limit cut the reply
    TIMEOUT = "timeout"  # what the reply itself caused took too long: its program loops, its formula never ends
    ERROR = "error"  # the verifier, the judge model or the machine failed: nothing is known about the reply


NO_FINDING = frozenset({VerdictStatus.ERROR})  # says nothing about the reply


class Outage(StrEnum):
    """Why a verdict or a term of a reward is still to be asked for."""

    DOWN = "down"  # the judge model gives no answer for now; asked later, it may
    REFUSED = "refused"  # it refuses everybody, however long one waits: the key or the address is wrong


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's finding on one reply."""

    status: VerdictStatus
    extracted: str | None  # the answer as found in the reply
    why: str  # one short sentence
    outage: Outage | None = None  # set where it is still to be asked for; the status is then ERROR

    @property
    def correct(self) -> bool:
        return self.status is VerdictStatus.CORRECT


@dataclass(frozen=True, slots=True)
class Missing:
    """A term of a reward that could not be found."""

    why: str  # one short sentence
    outage: Outage | None = None  # set where it is still to be asked for


Term = float | Missing


@dataclass(frozen=True, slots=True)
class Rollout:
    """One generation for one problem, judged."""

    generation: Generation
    verdict: Verdict
    reward: float | None  # the weighted sum of the terms; None, and masked, where the verdict or a term is not known
    terms: Mapping[str, Term] = field(default_factory=dict)  # each by itself, unweighted


@dataclass(frozen=True, slots=True)
class Sample:
    """One judged sample of one problem, as an evaluation stores it."""

    key: str  # a hash of all that fixes what was generated: model, code, prompt, sampling, seed, index
    task: str  # which task of the evaluation, such as "aime_2025" or "aime_2025@16384"
    problem: str  # the problem's id
    index: int  # 0 to k - 1
    generation: Generation
    verdict: Verdict
    judged_by: str = ""  # a hash of all that fixes the verdict: gold answer, verifier, what it needs, limits, code


@dataclass(frozen=True, slots=True)
class Flip:
    """A question that one evaluation answers correctly more often than another, with a sample of each that differs."""

    task: str
    problem: Problem
    ours: Sample  # the first correct one where the share rose, the first incorrect one where it fell
    theirs: Sample  # the other way round
    our_correct: tuple[int, int]  # how many samples are correct, of how many
    their_correct: tuple[int, int]
    is_gained: bool


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """G samples of one problem under one policy version."""

    problem: Problem
    prompt_ids: tuple[int, ...]  # [T]; empty where the provider has no tokenizer
    thinking: bool  # asked in reasoning mode
    rollouts: tuple[Rollout, ...]  # [G]
