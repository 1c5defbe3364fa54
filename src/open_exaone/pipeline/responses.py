"""Which responses to a problem become training data, and why each of the others does not: pure functions.

    select(problem, thinking, samples, config) -> list[Choice]      one for each sample, in their order

A dropped response counts under its first reason, in the order of `Reason`. EXAONE 4.0 keeps verified responses, drops
degenerate ones and those in another language, and keeps several diverse ones for a query (arXiv 2507.11407, 2.4.1).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from open_exaone.base.records import MODES, NO_FINDING, Problem, Sample, StopReason, VerdictStatus
from open_exaone.base.tables import Row, RowError
from open_exaone.data.config import SourceConfig
from open_exaone.data.row_formats import RowParser
from open_exaone.data.rows import Conversation
from open_exaone.rewards.terms import has_chat_tag
from open_exaone.rollout.config import SamplingConfig
from open_exaone.verify.language import LANGUAGES, inconsistent_parts
from open_exaone.verify.repetition import distance, is_degenerate, shingles

SFT = "sft.jsonl"
_CUT = frozenset({StopReason.LENGTH})
_FAILED = frozenset({StopReason.ERROR, StopReason.CANCELLED})


class BuildConfig(SamplingConfig):
    """How a teacher is sampled, and which of its responses are kept."""

    num_samples: int = Field(default=4, ge=1, le=1024)
    """The responses drawn to each problem in each mode."""
    keep: int = Field(default=2, ge=1, le=1024)
    """The most responses kept of a problem in a mode."""
    min_distance: float = Field(default=0.3, ge=0, le=1)
    """How unlike every other kept response to the problem a response must be, 0 (any) to 1 (nothing in common)."""
    mode: Literal["reasoning", "non_reasoning", "both"] = "reasoning"
    """The mode in which the teacher is asked; "both" asks all problems in each."""
    reasoning_ratio: float = Field(default=1.5, gt=0, le=1000)
    """With both modes, tokens in reasoning mode for each token in non-reasoning mode in an epoch of the recipe."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Drop responses of more tokens, as the teacher counts them."""
    temperature: float = Field(default=0.6, ge=0, le=10)
    """Sampling temperature."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: keep the most likely tokens up to this total probability."""
    max_new_tokens: int = Field(default=8192, gt=0)
    """The longest response in tokens, its thought included."""

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        if self.mode != "both" and self.reasoning_ratio != type(self).model_fields["reasoning_ratio"].default:
            raise ValueError('reasoning_ratio: has no effect with one mode: leave it out, or ask in mode "both"')
        return self

    @property
    def modes(self) -> tuple[str, ...]:
        return tuple(MODES[thinking] for thinking in (True, False) if self.mode in (MODES[thinking], "both"))


class Reason(StrEnum):
    """Why a response is dropped, in the order in which reasons are looked for."""

    NO_REPLY = "no_reply"  # the teacher gave none
    NOT_JUDGED = "not_judged"  # the verifier or the judge model failed
    TRUNCATED = "truncated"  # cut by the token limit, or its thought never ends
    WRONG = "wrong"
    UNPARSED = "unparsed"  # no answer could be extracted
    TIMEOUT = "timeout"  # its program or its formula took too long
    TOOL_CALL = "tool_call"  # it calls a tool, and is no final answer
    NO_THOUGHT = "no_thought"  # in reasoning mode
    UNWANTED_THOUGHT = "unwanted_thought"  # in non-reasoning mode
    NO_ANSWER = "no_answer"  # nothing behind the thought
    TOO_LONG = "too_long"  # more than `max_tokens`
    CHAT_TAG = "chat_tag"  # a tag of a chat format within thought or answer
    DEGENERATE = "degenerate"  # thought or answer has fallen into a loop
    LANGUAGE = "language"  # thought or answer is not in the problem's language
    UNREADABLE = "unreadable"  # training would refuse the row, or read it otherwise
    TOO_ALIKE = "too_alike"  # nearer than `min_distance` to a kept response
    NOT_NEEDED = "not_needed"  # beyond `keep`


class Choice(NamedTuple):
    """A response, and what becomes of it."""

    sample: Sample
    reason: Reason | None  # None: it is kept
    why: str = ""  # one sentence


def select(
    problem: Problem, thinking: bool, samples: Sequence[Sample], config: BuildConfig, teacher: str
) -> list[Choice]:
    """What becomes of each response to a problem in one mode."""
    choices = [Choice(sample, *_fault(problem, thinking, sample, config, teacher)) for sample in samples]
    good = [place for place, choice in enumerate(choices) if choice.reason is None]
    for place, reason, why in _diverse([samples[place] for place in good], config):
        choices[good[place]] = Choice(samples[good[place]], reason, why)
    return choices


def row_of(problem: Problem, thinking: bool, sample: Sample, teacher: str) -> dict[str, Any]:
    """A response as a row of the format `messages`; chat formats set the white space around thoughts and answers."""
    reply = sample.generation.reply
    thought = {"reasoning_content": reply.thought.strip()} if thinking else {}
    return {
        "id": f"{problem.id}/{MODES[thinking]}/{sample.index}",
        "domain": problem.task,
        "mode": MODES[thinking],
        "problem": problem.id,
        "response": sample.index,
        "teacher": teacher,
        "verdict": str(sample.verdict.status),
        "messages": [
            {"role": "user", "content": problem.question},
            {"role": "assistant", **thought, "content": reply.answer.strip()},
        ],
    }


def _fault(
    problem: Problem, thinking: bool, sample: Sample, config: BuildConfig, teacher: str
) -> tuple[Reason | None, str]:
    """The first reason to drop a response, its siblings aside."""
    generation, verdict = sample.generation, sample.verdict
    reply = generation.reply
    has_thought, limit = bool(reply.thought.strip()), config.max_tokens
    if generation.stop in _FAILED:
        return Reason.NO_REPLY, verdict.why
    if verdict.status in NO_FINDING:
        return Reason.NOT_JUDGED, verdict.why
    if generation.stop in _CUT or not reply.finished or verdict.status is VerdictStatus.TRUNCATED:
        return Reason.TRUNCATED, f"It was cut after {generation.num_tokens:,} tokens."
    if not verdict.correct:
        return Reason(verdict.status), verdict.why
    if reply.tool_calls:
        return Reason.TOOL_CALL, "It calls a tool."
    if has_thought != thinking:
        return (Reason.NO_THOUGHT, "It has no thought.") if thinking else (Reason.UNWANTED_THOUGHT, "It has a thought.")
    if not reply.answer.strip():
        return Reason.NO_ANSWER, "It has no answer."
    if limit is not None and generation.num_tokens > limit:
        return Reason.TOO_LONG, f"It has {generation.num_tokens:,} tokens, more than {limit:,}."
    return _fault_of_text(problem, thinking, sample, teacher)


def _fault_of_text(problem: Problem, thinking: bool, sample: Sample, teacher: str) -> tuple[Reason | None, str]:
    reply = sample.generation.reply
    parts = {"thought": reply.thought, "answer": reply.answer}
    if tagged := [name for name, text in parts.items() if has_chat_tag(text)]:
        return Reason.CHAT_TAG, f"Its {tagged[0]} holds a tag of a chat format."
    if looping := [name for name, text in parts.items() if is_degenerate(text)]:
        return Reason.DEGENERATE, f"Its {looping[0]} repeats itself."
    if problem.language in LANGUAGES and (foreign := inconsistent_parts(**parts, language=problem.language)):
        return Reason.LANGUAGE, f"Its {' and '.join(foreign)} should be in language {problem.language!r}."
    row = row_of(problem, thinking, sample, teacher)
    example, _ = RowParser("messages", SourceConfig(path=SFT)).parse(Row(SFT, 1, row))
    if isinstance(example, RowError):
        return Reason.UNREADABLE, f"Training refuses its row: {example.why}."
    if not isinstance(example.content, Conversation) or list(example.content.messages) != row["messages"]:
        return Reason.UNREADABLE, "Training reads its row otherwise than it is written."
    return None, ""


def _diverse(samples: Sequence[Sample], config: BuildConfig) -> list[tuple[int, Reason, str]]:
    """The places of the responses that are dropped beside their siblings, with reason and why.

    The first response is kept; then, one by one, that which is farthest from the nearest of those kept (the first of
    several), until there are `keep` of them or none is left that is `min_distance` away. The distance is 1 less the
    Jaccard similarity of the sets of three words or signs in a row, thought and answer together.
    """
    sets = [shingles(f"{sample.generation.reply.thought}\n{sample.generation.reply.answer}") for sample in samples]
    nearest = {place: (1.0, place) for place in range(1, len(samples))}  # of those left: how far, and which kept one
    last = 0
    for _ in range(1, config.keep):
        nearest = {place: min(found, (distance(sets[place], sets[last]), last)) for place, found in nearest.items()}
        far = [place for place, (apart, _) in nearest.items() if apart >= config.min_distance]
        if not far:
            break
        last = max(far, key=lambda place: (nearest[place][0], -place))
        del nearest[last]
    dropped = []
    for place, found in nearest.items():
        apart, other = min(found, (distance(sets[place], sets[last]), last))
        if apart < config.min_distance:
            why = f"Its distance to response {samples[other].index} is {apart:.2f}, below {config.min_distance:g}."
            dropped.append((place, Reason.TOO_ALIKE, why))
        else:
            dropped.append((place, Reason.NOT_NEEDED, f"{config.keep} are kept already."))
    return dropped
