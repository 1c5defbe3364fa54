"""A tokenizer for a model from random weights, trained on the data that the model learns from."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from open_exaone.base.files import read_json, replace_folder, write_json
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.examples import open_examples
from open_exaone.data.rows import Example
from open_exaone.data.source import find_files
from open_exaone.data.store import describe_file
from open_exaone.text.tokenizer import Tokenizer

MADE_OF = "made_of.json"
MAX_CHARACTERS = 64_000_000  # of all sources together: more text hardly changes the merges


def trained_tokenizer(data: Sequence[DataConfig], vocab_size: int, folder: Path, chat_format: str | None) -> Tokenizer:
    """Trains a tokenizer on the beginning of every source, once; then it is read from `folder`.

    It is trained anew where the sources or the size differ from those that it was trained with.
    """
    sources = [source for one in data for source in one.sources]
    files = [file for source in sources for file in find_files(source)]
    described = {file.name: describe_file(file.path) for file in files}
    rows = [source.model_dump(mode="json") for source in sources]
    made_of = {"vocab_size": vocab_size, "sources": rows, "files": described}
    if not (folder / MADE_OF).is_file() or read_json(folder / MADE_OF) != made_of:
        each = MAX_CHARACTERS // len(sources)
        texts = (text for source in sources for text in _texts(source, each))
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        Tokenizer.train(texts, vocab_size).save(partial)
        write_json(partial / MADE_OF, made_of)
        replace_folder(partial, folder)
    return Tokenizer.load(folder, chat_format=chat_format)


def _texts(source: SourceConfig, max_characters: int) -> Iterator[str]:
    for chunk in open_examples(source, asked=True).chunks:
        for parsed in chunk:
            if isinstance(parsed.result, Example):
                text = parsed.result.text
                max_characters -= len(text)
                if max_characters < 0:
                    return
                yield text
