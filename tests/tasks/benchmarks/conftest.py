"""Where programs cannot be confined, the tests that run some are skipped, and say so; nothing fetched is read."""

import pytest

from open_exaone.sandbox.programs import ProgramStatus, run_program


@pytest.fixture(autouse=True)
def no_fetched_files(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody fetched on this machine plays no part."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def sandbox() -> None:
    result = run_program("")
    if result.status is ProgramStatus.REFUSED:
        pytest.skip(result.why)
