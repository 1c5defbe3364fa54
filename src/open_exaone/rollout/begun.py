"""Replies whose thought is given: as requests, and read back as whole replies."""

from collections.abc import Sequence
from dataclasses import replace

from open_exaone.base.records import Begun, Reply, Request
from open_exaone.engine.thought import Thoughts
from open_exaone.text.stored import split_stored
from open_exaone.text.tokenizer import Tokenizer


def begin_all(requests: Sequence[Request], begun: Sequence[Begun], tokenizer: Tokenizer | None) -> list[Request]:
    """The requests with the thoughts that their replies begin with, which stand at the end of their prompts' ids.

    Args:
        tokenizer: None where a server renders the prompts.

    Raises:
        DataError: a thought is no Unicode text.
        CheckpointError: the model has no chat format.
    """
    pairs = list(zip(requests, begun, strict=True))
    if tokenizer is None:
        return [replace(request, begun=one) for request, one in pairs]
    thoughts = Thoughts(tokenizer)
    ids = thoughts.begun_ids([one for _, one in pairs])
    return [_begin(*pair, one) for pair, one in zip(pairs, ids, strict=True)]


def _begin(request: Request, begun: Begun, ids: Sequence[int]) -> Request:
    room = max(1, request.sampling.max_new_tokens - len(ids))
    sampling = replace(request.sampling, max_new_tokens=room, thinking_budget=None)
    return replace(request, prompt_ids=(*(request.prompt_ids or ()), *ids), sampling=sampling, begun=begun)


def read_reply(
    text: str, ids: Sequence[int], request: Request, tokenizer: Tokenizer, thoughts: Thoughts
) -> tuple[Reply, int]:
    """A reply, split, with what it was begun with; and how many of the generated tokens are thought.

    Args:
        text: of what was generated, which `ids` are.
    """
    if request.begun is None:
        reply = tokenizer.split(text, thinking=request.thinking)
        return reply, thoughts.num_tokens(ids, reply)
    tag = tokenizer.chat_format.thought_tag
    return whole_reply(request.begun, text, tag), thoughts.num_tokens(ids, _rest(request.begun, text, tag))


def whole_reply(begun: Begun, text: str, tag: str) -> Reply:
    """The reply that was begun with a thought.

    Args:
        text: what was generated behind it.
        tag: what the model's thoughts stand in.
    """
    if not begun.closed:
        return split_stored(begun.thought + text, thinking=True, tags=_tags(tag))
    rest = _rest(begun, text, tag)
    return replace(rest, thought="\n\n".join(filter(None, (begun.thought.strip("\n"), rest.thought))))


def _rest(begun: Begun, text: str, tag: str) -> Reply:
    """What was generated alone; the model may think again behind a closed thought."""
    return split_stored(text, thinking=not begun.closed, tags=_tags(tag))


def _tags(tag: str) -> dict[str, str]:
    return {f"<{tag}>": f"</{tag}>"}
