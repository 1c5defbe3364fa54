"""One set of random checkpoints for the parity tests and their negative controls."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `open_pair` writes them."""
    return tmp_path_factory.mktemp("parity")
