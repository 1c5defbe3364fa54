"""Readies the process for tensor work before any test imports torch, as the command line does; shared fixtures."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from open_exaone.base.machine import prepare_process
from tiny_story import RECIPE

prepare_process()
settings.register_profile("patient", deadline=None)  # a loaded machine is no failure
settings.load_profile("patient")


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def told_run(recipe_file, tmp_path_factory):
    """A finished tiny run, and the events that told it; read only."""
    from open_exaone.story.recipe import load_recipe
    from open_exaone.story.run import run_story

    folder, events = tmp_path_factory.mktemp("runs") / "tiny", []
    run_story(load_recipe(str(recipe_file)), folder, events.append)
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
    from open_exaone.verify.sandbox.programs import ProgramStatus, run_program

    result = run_program("")
    if result.status is ProgramStatus.REFUSED:
        pytest.skip(result.why)
