"""Every record that crosses rooms: frozen, with shape or unit beside each field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

JUNK = ("?", "nan")  # a scorer that takes these for right distinguishes nothing


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

    END = "end"  # the model produced its end-of-turn token
    LENGTH = "length"  # max_new_tokens was reached
    STOP_STRING = "stop_string"
    BUDGET = "budget"  # the thinking budget was spent
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn. `temperature` 0 means greedy; then `top_p` plays no part."""

    max_new_tokens: int
    temperature: float = 0.6
    top_p: float = 0.95
    num_samples: int = 1
    seed: int = 0
    presence_penalty: float = 0.0  # taken off the logits of every token that the reply already has
    thinking_budget: int | None = None  # the longest thought, in tokens; then its end is forced and the answer follows

    @property
    def is_raw(self) -> bool:
        """Whether tokens are drawn from the model's own distribution, so that its log-probabilities are theirs."""
        is_plain = (self.temperature, self.top_p, self.presence_penalty) == (1.0, 1.0, 0.0)
        return is_plain and self.thinking_budget is None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens = {self.max_new_tokens}: must be at least 1")
        if not 0.0 <= self.temperature <= 100.0:
            raise ValueError(f"temperature = {self.temperature}: must lie in 0 (greedy) to 100")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p = {self.top_p}: must lie above 0 and at most 1")
        if self.num_samples < 1:
            raise ValueError(f"num_samples = {self.num_samples}: must be at least 1")
        if not -2.0 <= self.presence_penalty <= 2.0:
            raise ValueError(f"presence_penalty = {self.presence_penalty}: must lie in -2 to 2")
        if self.thinking_budget is not None and not 1 <= self.thinking_budget < self.max_new_tokens:
            raise ValueError(
                f"thinking_budget = {self.thinking_budget}: must be at least 1 and below max_new_tokens = "
                f"{self.max_new_tokens}, so that the answer has room"
            )


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine produced for one sample of one prompt; T tokens, the end token included."""

    ids: tuple[int, ...]  # [T]
    logprobs: tuple[float, ...]  # [T] under the raw model at temperature 1
    sampling_logprobs: tuple[float, ...]  # [T] under the distribution that was sampled from
    stop: StopReason
    policy_version: int  # which weights produced it; training counts up by one each step


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
class Request:
    """One sample of one prompt. Its random stream is a function of (seed, prompt, occurrence, index) alone."""

    messages: tuple[Mapping[str, str], ...]  # "role" and "content": what a chat endpoint takes
    prompt_ids: tuple[int, ...] | None  # [T] the messages, rendered; None where the provider has no tokenizer
    thinking: bool  # in reasoning mode
    sampling: Sampling  # `num_samples` plays no part: this is one of them
    index: int = 0  # which sample of this prompt
    occurrence: int = 0  # how often this prompt stood before in the same call

    @property
    def stream_name(self) -> str:
        """What is hashed with the prompt to seed the random stream; a prompt that stands once needs no occurrence."""
        name = f"{self.sampling.seed}:{self.index}"
        return f"{name}:{self.occurrence}" if self.occurrence else name


@dataclass(frozen=True, slots=True)
class Generation:
    """What a provider produced for one request; T tokens, the end token included."""

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
class RolloutGroup:
    """G samples of one problem under one policy version."""

    problem: Problem
    prompt_ids: tuple[int, ...]  # [T]; empty where the provider has no tokenizer
    rollouts: tuple[Rollout, ...]  # [G]
