"""A tokenizer for a model from random weights, trained on the data that the model learns from."""

from collections.abc import Iterator
from pathlib import Path

from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.examples import open_examples
from open_exaone.data.rows import Example
from open_exaone.text.tokenizer import Tokenizer

MAX_CHARACTERS = 64_000_000  # of all sources together: more text hardly changes the merges


def trained_tokenizer(data: DataConfig, vocab_size: int, folder: Path) -> Tokenizer:
    """Trains a tokenizer on the beginning of every source, once; then it is read from `folder`."""
    if not (folder / "tokenizer.json").is_file():
        each = MAX_CHARACTERS // len(data.sources)
        texts = (text for source in data.sources for text in _texts(source, each))
        Tokenizer.train(texts, vocab_size).save(folder)
    return Tokenizer.load(folder)


def _texts(source: SourceConfig, max_characters: int) -> Iterator[str]:
    for chunk in open_examples(source).chunks:
        for parsed in chunk:
            if isinstance(parsed.result, Example):
                text = parsed.result.text
                max_characters -= len(text)
                if max_characters < 0:
                    return
                yield text
