"""Where programs cannot be confined, the tests that run some are skipped, and say so."""

import pytest

from open_exaone.sandbox.programs import ProgramStatus, run_program


@pytest.fixture(scope="session")
def sandbox() -> None:
    result = run_program("")
    if result.status is ProgramStatus.REFUSED:
        pytest.skip(result.why)
