"""A small trained tokenizer, and where present the real one of EXAONE 4.0 (its licence keeps it out of here)."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from open_exaone.text.tokenizer import Tokenizer

settings.register_profile("text", deadline=None)  # a loaded machine is no failure
settings.load_profile("text")

ROOT = Path(__file__).parents[2]


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


@pytest.fixture(scope="session")
def exaone() -> Path:
    """The folder of EXAONE 4.0's own tokenizer and template."""
    folder = Path(os.environ.get("OPEN_EXAONE_DATA", ROOT.parent / "shared" / "data")) / "tokenizer-exaone"
    if not (folder / "tokenizer.json").exists():
        pytest.skip(f"{folder} isn't here; set OPEN_EXAONE_DATA to where tokenizer-exaone/ stands")
    return folder
