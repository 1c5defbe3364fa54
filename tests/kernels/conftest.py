"""Kernels are held against their references as two threads compute them."""

import pytest


@pytest.fixture(autouse=True)
def _side_by_side(two_threads: None) -> None:
    """Each test of this folder."""
