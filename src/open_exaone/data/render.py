"""Examples as token ids, by the batch: which turns are learned, and in which mode.

render_batch(examples, tokenizer, kind, source, turns) -> for each example, list[Rendered] | Refused
fit(rendered, max_tokens, too_long, kind) -> Fitted(kept, was_cut, lost): what is left of an example, and what is not
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem
from open_exaone.data.config import SourceConfig
from open_exaone.data.rows import Conversation, Example, Pair, Text, Turn
from open_exaone.data.store import Kind
from open_exaone.text.tokenizer import Tokenizer

Ids = tuple[list[int], list[bool]]  # token ids [T], and which are learned [T]
REASONING, NON_REASONING = "reasoning", "non_reasoning"
MODES = (NON_REASONING, REASONING)


class Rendered(NamedTuple):
    """One example as the trainer sees it."""

    documents: tuple[Ids, ...]  # one, or the two of a pair
    mode: str


class Refused(NamedTuple):
    """Why an example is left out."""

    reason: str  # what is counted
    why: str


class Fitted(NamedTuple):
    """What is left of an example."""

    kept: list[Rendered]
    was_cut: bool  # something that is kept
    lost: list[Refused]  # why each reply or piece was left out; with nothing kept the first one speaks for the row

    def why(self, refused: Refused) -> str:
        """Why one of those in `lost` was left out, as a statement about the row."""
        return f"a part of it, such as a reply, {refused.why}" if self.kept else refused.why


class _Job(NamedTuple):
    messages: tuple[Turn, ...]
    thinking: bool
    tools: tuple[Mapping[str, Any], ...] | None
    prompt: bool = False  # ends where the reply begins


def render_batch(
    examples: Sequence[Example], tokenizer: Tokenizer, kind: Kind, source: SourceConfig, turns: str = "each"
) -> list[list[Rendered] | Refused]:
    """Renders examples, all of them in one call of the tokenizer.

    Raises:
        CheckpointError: the tokenizer has no chat template, or names no end token.
    """
    texts = [example.content.text for example in examples if isinstance(example.content, Text)]
    encoded = iter(tokenizer.encode_batch(texts)) if texts else iter(())
    jobs = [_jobs(example, kind, source, turns) for example in examples]
    rendered = iter(_render([job for of_one in jobs for job in of_one], tokenizer))
    end = tokenizer.end_id if texts else 0
    results: list[list[Rendered] | Refused] = []
    for example, of_one in zip(examples, jobs, strict=True):
        if isinstance(example.content, Text):
            ids = next(encoded)
            single = Refused("single token", "is a single token: nothing stands before it to predict it from")
            results.append([Rendered((_all_learned([*ids, end]),), NON_REASONING)] if len(ids) > 1 else single)
            continue
        found = [next(rendered) for _ in of_one]
        error = next((item for item in found if isinstance(item, DataError)), None)
        if error is not None:
            results.append(Refused("not sayable", f"the chat format cannot say it: {error}"))
        elif not found:
            results.append(_nothing(example))
        else:
            results.append(_join(of_one, [item for item in found if not isinstance(item, DataError)], kind))
    return results


def _nothing(example: Example) -> Refused:
    """Why nothing of an example is learned."""
    if isinstance(example.content, Problem):
        return Refused("no worked reply", "the problem has no worked reply to learn from")
    return Refused(
        "nothing learned", "no reply is learned: each has weight 0, or is left out by `turns` or pretraining"
    )


def fit(rendered: list[Rendered], max_tokens: int, too_long: str, kind: Kind) -> Fitted:
    """What is left of an example where none of its documents may exceed `max_tokens`."""
    kept: list[Rendered] = []
    lost: list[Refused] = []
    was_cut = False
    for item in rendered:
        pieces = _pieces(item, max_tokens, "drop" if kind == "rl" else too_long)
        if not pieces:
            lost.append(Refused("too long", f"has more than {max_tokens} tokens"))
        for piece in pieces:
            if kind == "preference" and piece.documents[0][0] == piece.documents[1][0]:
                lost.append(Refused("same replies", f"has replies that are the same {_SAME[piece is item]}"))
            elif kind == "rl" or all(any(mask[1:]) for _, mask in piece.documents):
                kept.append(piece)
                was_cut |= piece is not item
            else:
                lost.append(Refused("nothing learned", "has nothing left to learn, cut to the context"))
    return Fitted(kept, was_cut, lost)


_SAME = {False: "once they are cut", True: "as they are rendered, without their thoughts"}


def _pieces(item: Rendered, max_tokens: int, too_long: str) -> list[Rendered]:
    """The document or pair itself where it is short enough, else what the policy makes of it."""
    longest = max(len(ids) for ids, _ in item.documents)
    if longest <= max_tokens:
        return [item]
    if too_long == "drop":
        return []
    if too_long == "truncate":
        return [item._replace(documents=tuple((ids[:max_tokens], mask[:max_tokens]) for ids, mask in item.documents))]
    [(ids, mask)] = item.documents
    pieces = -(-longest // max_tokens)
    ends = [longest * number // pieces for number in range(pieces + 1)]  # of like length, none a mere rest
    return [item._replace(documents=((ids[a:b], mask[a:b]),)) for a, b in itertools.pairwise(ends)]


def _jobs(example: Example, kind: Kind, source: SourceConfig, turns: str) -> list[_Job]:
    content = example.content
    thinking = source.mode != "non_reasoning" and example.has_thought
    if isinstance(content, Problem):
        asked: Turn = {"role": "user", "content": content.question}
        if kind == "rl":
            return [_Job((asked,), source.mode != "non_reasoning", None, prompt=True)]
        if content.reply is None:
            return []
        reply: Turn = {"role": "assistant", "content": content.reply, "reasoning_content": content.thought or ""}
        return [_Job((asked, reply), thinking, None)]
    if isinstance(content, Pair):
        replies = (content.chosen, content.rejected)
        return [_Job((*content.prompt, *reply), thinking, content.tools) for reply in replies]
    if not isinstance(content, Conversation):
        return []
    messages = content.messages
    learned = [message["role"] == "assistant" and message.get("train", True) for message in messages]
    if kind == "pretrain":  # which learns every token, and so no row of which a turn must not be
        is_whole = all(message.get("train", True) for message in messages)
        return [_Job(messages, thinking, content.tools)] if is_whole else []
    if turns == "last":
        return [_Job(messages, thinking, content.tools)] if learned[-1] else []
    places = [index for index, is_learned in enumerate(learned) if is_learned]
    may_think = source.mode != "non_reasoning"
    return [
        _Job(messages[: place + 1], may_think and bool(messages[place].get("reasoning_content")), content.tools)
        for place in places
    ]


def _render(jobs: Sequence[_Job], tokenizer: Tokenizer) -> list[Ids | DataError]:
    """Jobs of one mode without tools are rendered together."""
    results: list[Ids | DataError | None] = [None] * len(jobs)
    for thinking in (False, True):
        for prompt in (False, True):
            places = [i for i, j in enumerate(jobs) if (j.thinking, j.prompt, j.tools) == (thinking, prompt, None)]
            messages = [_messages(jobs[place]) for place in places]
            try:
                many = tokenizer.render_many(messages, thinking=thinking, generation_prompt=prompt) if messages else []
            except DataError:  # one of them; the others are fine
                continue
            for place, ids in zip(places, many, strict=True):
                results[place] = ids
    return [_render_one(job, tokenizer) if done is None else done for job, done in zip(jobs, results, strict=True)]


def _render_one(job: _Job, tokenizer: Tokenizer) -> Ids | DataError:
    try:
        return tokenizer.render(
            _messages(job), thinking=job.thinking, tools=job.tools, generation_prompt=job.prompt, with_mask=True
        )
    except DataError as error:
        return error


def _messages(job: _Job) -> Sequence[Turn]:
    """A reply that is learned in non-reasoning mode has no thought, whatever the format makes of one."""
    last = job.messages[-1]
    if job.thinking or "reasoning_content" not in last:
        return job.messages
    plain = {field: value for field, value in last.items() if field != "reasoning_content"}
    return (*job.messages[:-1], plain)


def _join(jobs: Sequence[_Job], found: list[Ids], kind: Kind) -> list[Rendered]:
    """The examples of one row: a pair, or a conversation's replies, those of one beginning in one document."""
    mode = MODES[jobs[-1].thinking]
    if kind == "pretrain":
        return [Rendered((_all_learned(found[-1][0]),), mode)]
    if kind == "preference":
        return [Rendered(tuple(found), mode)]
    kept: list[tuple[Ids, bool]] = []
    for job, (ids, mask) in zip(reversed(jobs), reversed(found), strict=True):
        longer = next((other for (other, _) in kept if other[0][: len(ids)] == ids), None)
        if longer is None:
            kept.append(((ids, list(mask)), job.thinking))
        else:
            longer[1][: len(mask)] = [a or b for a, b in zip(longer[1], mask, strict=False)]
    return [Rendered((ids,), MODES[thinking]) for ids, thinking in reversed(kept)]


def _all_learned(ids: list[int]) -> Ids:
    return ids, [True] * len(ids)
