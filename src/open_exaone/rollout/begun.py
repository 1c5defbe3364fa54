"""Replies whose thought is given: as requests, and read back as whole replies."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Begun, Reply, Request
from open_exaone.engine.thought import Thoughts
from open_exaone.text.begun import begun_segments, begun_text
from open_exaone.text.chat import format_text
from open_exaone.text.tokenizer import Tokenizer


def begin_all(requests: Sequence[Request], begun: Sequence[Begun], tokenizer: Tokenizer | None) -> list[Request]:
    """The requests with the thoughts that their replies begin with, which stand at the end of their prompts' ids.

    Args:
        tokenizer: None where a server renders the prompts: then the beginning is the last message.

    Raises:
        DataError: a thought is no Unicode text.
        CheckpointError: the model has no chat format.
        ConfigError: a server is to go on with an open thought.
    """
    pairs = list(zip(requests, begun, strict=True))
    if tokenizer is None:
        return [_as_message(*pair) for pair in pairs]
    chat_format = tokenizer.chat_format
    texts = [begun_text(chat_format, one.thought, "" if one.closed else None, thinking=True) for one in begun]
    before = format_text("")  # no text begins a prompt
    rendered = [[before, *begun_segments(text, chat_format.thought_tag)] for text in texts]
    ids = [list(chain.from_iterable(pieces)) for pieces in tokenizer.encode_segments(rendered)]
    return list(map(_begin, requests, ids))


def _as_message(request: Request, begun: Begun) -> Request:
    if not begun.closed:
        raise ConfigError("a chat endpoint cannot continue an unfinished thought: use the local engine or vLLM")
    message = {"role": "assistant", "reasoning_content": begun.thought, "content": ""}
    return replace(request, messages=(*request.messages, message))


def _begin(request: Request, ids: Sequence[int]) -> Request:
    room = max(1, request.sampling.max_new_tokens - len(ids))
    sampling = replace(request.sampling, max_new_tokens=room, thinking_budget=None)
    return replace(request, prompt_ids=(*(request.prompt_ids or ()), *ids), sampling=sampling, num_begun=len(ids))


def read_reply(
    text: str, ids: Sequence[int], request: Request, tokenizer: Tokenizer, thoughts: Thoughts
) -> tuple[Reply, int]:
    """A reply, split, with what it was begun with; and how many of the generated tokens are thought.

    Args:
        text: of what was generated, which `ids` are.
    """
    prompt_ids, num_begun = request.prompt_ids or (), request.num_begun
    begun = prompt_ids[len(prompt_ids) - num_begun :]
    reply = tokenizer.split(tokenizer.decode(begun, skip_special=True) + text, thinking=request.thinking)
    return reply, max(0, thoughts.num_tokens((*begun, *ids), reply) - num_begun)
