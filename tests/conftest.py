"""Readies the process for tensor work before any test imports torch, as the command line does; shared fixtures."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from open_exaone.base.machine import prepare_process
from tiny_recipe import RECIPE

# One thread: tests run side by side, and on tiny shapes a second thread only spins. What threads change has tests of
# its own, by the fixture `two_threads`.
os.environ.setdefault("OMP_NUM_THREADS", "1")
prepare_process()
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # however busy it is
settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """What is imported by now stays: collecting garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def two_threads():
    """Tensors are computed by two threads, whatever the machine has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def with_cores(monkeypatch):
    """A function: from now on the machine has so many cores, and torch has chosen as many threads."""
    import torch

    from open_exaone.model import threads

    def have(number: int) -> None:
        torch.set_num_threads(number)
        monkeypatch.setattr(threads, "_DEFAULT", number)
        monkeypatch.setattr(threads, "num_cores", lambda: number)

    before = torch.get_num_threads()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    yield have
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finished_run(recipe_file, tmp_path_factory):
    """A finished tiny run, and the events that told it; read only."""
    from open_exaone.pipeline.recipe import load_recipe
    from open_exaone.pipeline.run import run_recipe

    folder, events = tmp_path_factory.mktemp("runs") / "tiny", []
    run_recipe(load_recipe(str(recipe_file)), folder, events.append)
    return folder, events


@pytest.fixture(scope="session")
def exaone():
    """The folder of EXAONE 4.0's own tokenizer and template; their licence keeps them out of here."""
    data = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (data / "tokenizer-exaone" / "tokenizer.json").exists():
        pytest.skip(f"{data} isn't here; set OPEN_EXAONE_DATA to where tokenizer-exaone/ stands")
    return data / "tokenizer-exaone"


@pytest.fixture(scope="session")
def sandbox() -> None:
    """Programs can be run apart from this machine."""
    from open_exaone.sandbox.programs import ProgramStatus, run_program

    result = run_program("")
    if result.status is ProgramStatus.REFUSED:
        pytest.skip(result.why)
