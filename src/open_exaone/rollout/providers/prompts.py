"""Asks as token ids, for the engines that run in this process."""

from collections.abc import Sequence

from open_exaone.base.records import Ask
from open_exaone.text.tokenizer import Tokenizer


def render_asks(tokenizer: Tokenizer, asks: Sequence[Ask]) -> dict[tuple[str, bool], list[int]]:
    """Each question's prompt, by question and mode.

    Raises:
        DataError, CheckpointError: a question can't be rendered, such as by a model without a chat format.
    """
    rendered: dict[tuple[str, bool], list[int]] = {}
    for thinking in sorted({ask.thinking for ask in asks}):
        questions = list(dict.fromkeys(ask.question for ask in asks if ask.thinking == thinking))
        conversations = [[{"role": "user", "content": question}] for question in questions]
        prompts = tokenizer.render_many(conversations, thinking=thinking, generation_prompt=True)
        rendered |= {(text, thinking): ids for text, (ids, _) in zip(questions, prompts, strict=True)}
    return rendered


def ids_text(ids: Sequence[int]) -> str:
    """Token ids as a text, to be hashed."""
    return " ".join(map(str, ids))
