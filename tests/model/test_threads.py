"""How many threads a model's size is worth, and that the user's own number stays."""

import os
import subprocess
import sys

import pytest
import torch

from doubles import make_model
from open_exaone.base.machine import default_threads
from open_exaone.model import threads
from open_exaone.model.threads import WORTH_THREADS, computing, num_threads, threads_for


@pytest.fixture(autouse=True)
def four_threads(monkeypatch):
    """Torch has taken four threads, and nobody has set another number."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(threads, "_DEFAULT", 4)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("act", "num_parameters", "available", "expected"),
    [
        ("train", 900_000, 2, 1),  # the nano recipe's model
        ("sample", 900_000, 2, 1),
        ("train", 7_300_000, 2, 2),  # S of benchmarks/shapes.py
        ("sample", 7_300_000, 2, 1),
        ("train", 134_000_000, 8, 8),  # M
        ("sample", 134_000_000, 8, 8),
        ("train", WORTH_THREADS["train"] - 1, 8, 1),
        ("train", WORTH_THREADS["train"], 8, 8),
        ("sample", WORTH_THREADS["sample"], 1, 1),
    ],
)
def test_small_models_take_one_thread(act, num_parameters, available, expected):
    assert threads_for(act, num_parameters, available) == expected


def test_a_small_model_takes_one_and_a_large_one_all_and_then_it_is_as_before(monkeypatch):
    model = make_model()
    with computing(model, "sample"):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4
    monkeypatch.setitem(threads.WORTH_THREADS, "sample", 1)
    with computing(model, "sample"):
        assert torch.get_num_threads() == 4


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_what_the_environment_says_stays(name, monkeypatch):
    monkeypatch.setenv(name, "4")
    assert num_threads(make_model(), "train") == 4


def test_what_was_set_before_the_package_is_imported_stays():
    """Also where torch was imported and set by the user before."""
    code = (
        "import torch; torch.set_num_threads({}); from open_exaone.model import threads; "
        "print(threads.is_ours_to_choose(), torch.get_num_threads())"
    )
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]}
    unusual = max(default_threads() or {1}) + 1
    for number, expected in ((unusual, f"False {unusual}"), ("torch.get_num_threads()", "True")):
        told = subprocess.check_output([sys.executable, "-c", code.format(number)], text=True, env=environment)
        assert told.startswith(expected)


@pytest.mark.parametrize(
    ("number", "possible", "expected"), [(4, {4, 8}, 4), (8, {4, 8}, 8), (3, {4, 8}, None), (3, None, 3)]
)
def test_torch_s_own_number(number, possible, expected, monkeypatch):
    assert threads.torchs_own(number, possible) == expected


def test_what_a_call_has_set_stays():
    for number in (3, 2):
        torch.set_num_threads(number)
        with computing(make_model(), "train"):
            assert torch.get_num_threads() == number
