"""Examples as token ids, by the batch: which turns are learned, and in which mode.

render_batch(examples, tokenizer, kind, source, turns) -> for each example, list[Rendered] | Refused
fit(rendered, max_tokens, too_long, kind) -> Fitted(kept, was_cut, lost): what is left of an example, and what is not
"""

import itertools
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from open_exaone.base.errors import DataError
from open_exaone.base.records import MODES, NON_REASONING, Problem
from open_exaone.data.config import SourceConfig
from open_exaone.data.rows import Conversation, Example, Pair, Text, Turn
from open_exaone.data.store import Kind
from open_exaone.text.chat import Dialogue
from open_exaone.text.tokenizer import Ids, Tokenizer


class Rendered(NamedTuple):
    """One example as the trainer sees it."""

    documents: tuple[tuple[Sequence[int], Sequence[int]], ...]  # ids and loss mask of one, or of the two of a pair
    mode: str
    advantages: tuple[float, ...] = ()  # of each document, where a preference is learned

    def packed(self) -> "Rendered":
        """The same in few bytes."""
        return self._replace(documents=tuple((array("i", ids), bytes(mask)) for ids, mask in self.documents))


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


def render_batch(
    examples: Sequence[Example], tokenizer: Tokenizer, kind: Kind, source: SourceConfig, turns: str = "each"
) -> list[list[Rendered] | Refused]:
    """Renders examples, all of them in one call of the tokenizer.

    Raises:
        CheckpointError: the tokenizer has no chat template, or names no end token.
    """
    texts = [example.content.text for example in examples if isinstance(example.content, Text)]
    encoded = iter(tokenizer.encode_batch(texts)) if texts else iter(())
    begin, end = (tokenizer.text_begin_ids, tokenizer.end_id) if texts else ([], 0)
    dialogues = [_dialogues(example, kind, source, turns) for example in examples]
    found = _render(dialogues, tokenizer)
    results: list[list[Rendered] | Refused] = []
    for example, asked, made in zip(examples, dialogues, found, strict=True):
        if isinstance(example.content, Text):
            ids = next(encoded)
            single = Refused("single token", "is a single token: nothing stands before it to predict it from")
            whole = _all_learned([*begin, *ids, end])
            results.append([Rendered((whole,), NON_REASONING)] if len(begin) + len(ids) > 1 else single)
        elif isinstance(made, DataError):
            results.append(Refused("not sayable", f"the chat format cannot express it: {made}"))
        elif not asked:
            results.append(_nothing(example))
        else:
            results.append(_join(made, kind, _advantages(example)))
    return results


def _nothing(example: Example) -> Refused:
    """Why nothing of an example is learned."""
    if isinstance(example.content, Problem):
        fix = 'name the column of its solution in fields, or set format = "prompt_completion" to learn a response'
        return Refused("no worked reply", f"the problem has no worked reply to learn from; {fix}")
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
            lost.append(
                Refused(
                    "too long", f"has more than {max_tokens} tokens; shorten it, or raise max_tokens up to the context"
                )
            )
        for piece in pieces:
            if kind == "preference" and len(piece.documents) == 2 and piece.documents[0][0] == piece.documents[1][0]:
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


def _dialogues(example: Example, kind: Kind, source: SourceConfig, turns: str) -> list[Dialogue]:
    """What is rendered of an example; of a conversation, the replies of each mode together."""
    content = example.content
    may_think = source.mode != "non_reasoning"
    thinking = may_think and example.has_thought
    if isinstance(content, Problem):
        asked: Turn = {"role": "user", "content": content.question}
        if kind == "rl":
            return [Dialogue((asked,), may_think, generation_prompt=True)]
        if content.reply is None:
            return []
        reply: Turn = {"role": "assistant", "content": content.reply, "reasoning_content": content.thought or ""}
        return [_at_end((asked, reply), thinking, None)]
    if isinstance(content, Pair):
        replies = (content.chosen, content.rejected)
        sides = [_in_mode((*content.prompt, *reply), may_think) for reply in replies]
        return [_at_end(side, thinking, content.tools) for side in sides]
    if not isinstance(content, Conversation):
        return []
    messages = _in_mode(content.messages, may_think)
    if kind == "preference":
        return [_at_end(messages, thinking, content.tools)]
    if kind == "pretrain":  # which learns every token, and so no row of which a turn must not be
        is_whole = all(message.get("train", True) for message in messages)
        return [_at_end(messages, thinking, content.tools)] if is_whole else []
    learned = [message["role"] == "assistant" and message.get("train", True) for message in messages]
    if turns == "last":
        return [_at_end(messages, thinking, content.tools)] if learned[-1] else []
    places: dict[bool, list[int]] = {}
    for place in itertools.compress(range(len(messages)), learned):
        places.setdefault(bool(messages[place].get("reasoning_content")), []).append(place)
    return [
        Dialogue(messages[: of_one[-1] + 1], thinks, content.tools, learned=tuple(of_one))
        for thinks, of_one in places.items()
    ]


def _at_end(messages: tuple[Turn, ...], thinking: bool, tools: tuple[Mapping[str, Any], ...] | None) -> Dialogue:
    """A conversation whose last reply is learned; in non-reasoning mode it has no thought."""
    kept = messages if thinking else (*messages[:-1], _without_thought(messages[-1]))
    return Dialogue(kept, thinking, tools, learned=(len(messages) - 1,))


def _in_mode(messages: tuple[Turn, ...], may_think: bool) -> tuple[Turn, ...]:
    """In non-reasoning mode no turn has a thought."""
    return messages if may_think else tuple(map(_without_thought, messages))


def _without_thought(message: Turn) -> Turn:
    if "reasoning_content" not in message:
        return message
    return {field: value for field, value in message.items() if field != "reasoning_content"}


def _render(
    dialogues: Sequence[Sequence[Dialogue]], tokenizer: Tokenizer
) -> list[list[tuple[Dialogue, Ids]] | DataError]:
    """All dialogues of all examples in one call, and in a second one the replies that don't stand in one text."""
    every = [dialogue for of_one in dialogues for dialogue in of_one]
    found = tokenizer.render_dialogues(every) if every else []
    apart = [_apart(one) if made is None else [] for one, made in zip(every, found, strict=True)]
    flat = [dialogue for of_one in apart for dialogue in of_one]
    again = iter(tokenizer.render_dialogues(flat) if flat else [])
    made_of = iter(
        [(one, made)] if made is not None else [(each, next(again)) for each in parts]
        for one, made, parts in zip(every, found, apart, strict=True)
    )
    results: list[list[tuple[Dialogue, Ids]] | DataError] = []
    for of_one in dialogues:
        pairs = [pair for _ in of_one for pair in next(made_of)]
        error = next((made for _, made in pairs if isinstance(made, DataError)), None)
        results.append(error or [(one, made) for one, made in pairs if isinstance(made, tuple)])
    return results


def _apart(dialogue: Dialogue) -> list[Dialogue]:
    """A dialogue for each reply to be learned, which ends there."""
    return [dialogue._replace(messages=dialogue.messages[: place + 1], learned=(place,)) for place in dialogue.learned]


def _advantages(example: Example) -> tuple[float, ...]:
    """Of each reply that a preference learns from: +1 wanted, -1 not."""
    content = example.content
    if isinstance(content, Conversation):
        return (1.0,) if content.label else (-1.0,)
    return (1.0, -1.0)


def _join(made: Sequence[tuple[Dialogue, Ids]], kind: Kind, advantages: tuple[float, ...]) -> list[Rendered]:
    """The examples of one row: a pair, or a conversation's replies, those of one beginning in one document."""
    mode = MODES[made[-1][0].thinking]
    if kind == "pretrain":
        return [Rendered((_all_learned(made[-1][1][0]),), mode)]
    if kind == "preference":
        return [Rendered(tuple(ids for _, ids in made), mode, advantages)]
    kept: list[tuple[Ids, bool]] = []
    for dialogue, (ids, mask) in sorted(made, key=lambda one: -len(one[0].messages)):
        longer = next((other for (other, _) in kept if other[0][: len(ids)] == ids), None)
        if longer is None:
            kept.append(((ids, list(mask)), dialogue.thinking))
        else:
            longer[1][: len(mask)] = [a or b for a, b in zip(longer[1], mask, strict=False)]
    return [Rendered((ids,), MODES[thinking]) for ids, thinking in reversed(kept)]


def _all_learned(ids: list[int]) -> Ids:
    return ids, [True] * len(ids)
