"""A small trained tokenizer."""

from pathlib import Path

import pytest

from open_exaone.text.tokenizer import Tokenizer


def corpus() -> list[str]:
    """Texts with what a merge could wrongly join: digits, newlines, runs of white space, Korean, markers' names."""
    numbers = range(300)
    return [
        *(f"What is {number} + {number * 7}?\n\n\nLet me think:\t  {number * 8}.\n" for number in numbers),
        *(f"답은 {number * 8}입니다. <think>\n\n[|user|]\n" for number in numbers),
    ]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(corpus(), vocab_size=320)


@pytest.fixture(scope="session")
def saved(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)
    return folder
