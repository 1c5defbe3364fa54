"""A run says when and why it trains without native kernels."""

import pytest

from open_exaone.kernels import build
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.run import note_kernels


def test_a_home_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    monkeypatch.setattr(build, "_load", build._load.__wrapped__)  # what it found before is not asked
    notes: list[str] = []
    note_kernels(Machine(device="cpu"), notes.append)
    [note] = notes
    assert note.startswith("note: trains without native kernels") and "/proc/none" in note
    note_kernels(Machine(device="meta"), notes.append)
    assert len(notes) == 1
