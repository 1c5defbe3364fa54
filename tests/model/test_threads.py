"""How many threads a model's size is worth, that workers keep order, and that the user's own number stays."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from doubles import TINY, make_model
from open_exaone.base.machine import default_threads
from open_exaone.model import threads
from open_exaone.model.lora import add_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.model.threads import WORTH_THREADS, computing, num_threads, threads_for


@pytest.fixture(autouse=True)
def four_cores(with_cores):
    """Torch has taken four threads, and nobody has set another number."""
    with_cores(4)


@pytest.mark.parametrize(
    ("act", "num_parameters", "available", "expected"),
    [
        ("train", 900_000, 2, 1),  # the nano recipe's model
        ("sample", 900_000, 2, 1),
        ("train", 7_300_000, 2, 1),  # S of benchmarks/shapes.py
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


def test_a_small_model_is_trained_by_a_worker_a_core_with_one_of_torch_s_threads_each(with_cores):
    model, meeting = make_model(), threading.Barrier(4, timeout=60)

    def work(number):
        meeting.wait()  # all four at once
        return number, torch.get_num_threads(), threading.get_ident()

    assert num_threads(model, "train") == 4 and num_threads(model, "sample") == 1
    with computing(model, "train") as workers:
        found = list(workers.map(work, range(16)))
    assert [number for number, _, _ in found] == list(range(16))
    assert {number for _, number, _ in found} == {1} and torch.get_num_threads() == 4
    assert len({ident for _, _, ident in found} - {threading.get_ident()}) == 4
    with_cores(1)
    with computing(model, "train") as workers:
        assert workers.share_steps and list(workers.map(lambda _: threading.get_ident(), [0])) == [
            threading.get_ident()
        ]


def test_the_first_failure_ends_the_work_and_waits_for_what_was_begun():
    num_running, done = [], []

    def work(number):
        num_running.append(number)
        if number == 3:
            raise ValueError(number)
        done.append(number)

    with pytest.raises(ValueError, match="3"), computing(make_model(), "train") as workers:
        for _ in workers.map(work, range(1000)):
            pass
    assert len(num_running) == len(done) + 1 < 20  # none still runs, and those behind it never began


def test_what_was_begun_ends_also_where_its_results_are_not_taken():
    """What runs when an error is raised may end only some time later, and is awaited."""
    running, may_end, begun, ended = threading.Event(), threading.Event(), [], []

    def work(number):
        begun.append(number)
        if number:
            running.set()
            may_end.wait(60)
        ended.append(number)

    def fail_after_the_first():
        with computing(make_model(), "train") as workers:
            next(workers.map(work, range(20)))
            assert running.wait(60)
            threading.Thread(target=end_once_cancelled, args=[workers]).start()
            raise ValueError("own")

    def end_once_cancelled(workers):
        for _ in range(500):
            if any(future.cancelled() for future in workers.begun):
                break
            time.sleep(0.01)
        time.sleep(0.2)
        may_end.set()

    try:
        with pytest.raises(ValueError, match="own"):
            fail_after_the_first()
        assert sorted(begun) == sorted(ended) and 1 < len(ended) < 8  # those that waited in the queue never began
    finally:
        may_end.set()


def test_threads_stay_from_step_to_step_and_a_forked_process_makes_its_own():
    model = make_model()

    def idents():
        meeting = threading.Barrier(4, timeout=60)
        with computing(model, "train") as workers:
            return set(workers.map(lambda _: meeting.wait() * 0 + threading.get_ident(), range(4)))

    assert idents() == idents()
    if not (child := os.fork()):
        signal.alarm(60)  # threads that are not there would never answer
        os._exit(0 if len(idents()) == 4 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_dropout_draws_from_one_generator_so_one_thread_trains():
    model = make_model(TINY)
    add_lora(model, LoraConfig(dropout=0.1), seed=0)
    assert num_threads(model, "train") == 1


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
