"""How many tokens examples have: what `data.lengths` makes its statistics of.

example_lengths(source, tokenizer, limit=None, *, asked=False) -> Iterator[ExampleLength]
"""

from collections.abc import Iterator, Sequence

from open_exaone.base.records import REASONING, Problem
from open_exaone.data.check import KIND_OF
from open_exaone.data.config import SourceConfig
from open_exaone.data.examples import open_examples
from open_exaone.data.lengths import ExampleLength
from open_exaone.data.render import Refused, render_batch
from open_exaone.data.rows import Conversation, Example, Pair
from open_exaone.text.tokenizer import Tokenizer


def example_lengths(
    source: SourceConfig, tokenizer: Tokenizer, limit: int | None = None, *, asked: bool = False
) -> Iterator[ExampleLength]:
    """The lengths of a source's examples; bad rows are passed over, as `check` names them.

    An example's domain is its row's, else its source's, else the source's name. Of a pair the longer side counts, and
    the chosen reply's thought and answer; a problem with a worked solution counts with it.

    Args:
        limit: only so many rows.
        asked: problems are asked, not learned: in reasoning mode they need no thought of their own.

    Raises:
        DataError: the source cannot be opened, or no row has a format that is known.
        CheckpointError: the tokenizer has no chat template.
    """
    opened = open_examples(source, limit, asked=asked)
    kind = "sft" if opened.format == "problems" else KIND_OF[opened.format]
    named = source.path.rstrip("/").rpartition("/")[2]
    for chunk in opened.chunks:
        examples = [parsed.result for parsed in chunk if isinstance(parsed.result, Example)]
        rendered = render_batch(examples, tokenizer, kind, source, "last")
        bare = [e for e, r in zip(examples, rendered, strict=True) if isinstance(r, Refused) and _is_problem(e)]
        prompts = iter(render_batch(bare, tokenizer, "rl", source))
        encoded = iter(tokenizer.encode_batch([text for example in examples for text in _texts(example)]))
        for example, one in zip(examples, rendered, strict=True):
            thought, answer = len(next(encoded)), len(next(encoded))
            if isinstance(one, Refused) and _is_problem(example):
                one = next(prompts)
            if isinstance(one, Refused):
                continue
            tokens = max(len(ids) for item in one for ids, _ in item.documents)
            mode = source.mode_of(example.has_thought)
            yield ExampleLength(example.domain or named, mode, tokens, thought if mode == REASONING else 0, answer)


def _is_problem(example: Example) -> bool:
    return isinstance(example.content, Problem)


def _texts(example: Example) -> Sequence[str]:
    """The thought and the answer of an example's reply."""
    content = example.content
    match content:
        case Problem():
            return content.thought or "", content.reply or ""
        case Conversation():
            reply = content.messages[-1]
        case Pair():
            reply = content.chosen[-1]
        case _:
            return "", ""
    return reply.get("reasoning_content") or "", reply.get("content") or ""
