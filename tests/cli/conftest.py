"""The command line, run in this process."""

import re

import pytest

from doubles import make_tokenizer
from open_exaone.cli.main import main


@pytest.fixture
def cli(capsys):
    """Runs a command line; returns its exit code, and what it printed in one line."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return ended.value.code, re.sub(r"\s+", " ", out + err)

    return run


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save(folder)
    return folder
