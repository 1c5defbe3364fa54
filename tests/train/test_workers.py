"""A worker that fails, Ctrl-C, and SIGKILL inside a step of several workers: the run resumes to the same weights."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from open_exaone.base import interrupt
from open_exaone.base.errors import OpenExaoneError
from open_exaone.train import accumulate
from open_exaone.train.loop import train
from open_exaone.train.supervised import Supervised
from tiny_stages import same, start, supervised

CUT_AT = 5  # the step in which it happens; the states saved by themselves are those of steps 4 and 2
NO_MEMORY = (
    "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 "
    "bytes. Error code 12 (Cannot allocate memory)"
)


def fail():
    raise RuntimeError(NO_MEMORY)


def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    deadline = time.monotonic() + 60
    while not interrupt.requested() and time.monotonic() < deadline:
        time.sleep(0.001)
    interrupt.check()


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def train_in(folder, cut=None):
    """Trains by two workers; `cut` is called by the one that computes the first document of step CUT_AT."""
    accumulate.SHARE_TOKENS = 16
    computing, place = set(), [0]

    class Cut(Supervised):
        def step_data(self, step, memory=None):
            place[0] = step
            return super().step_data(step)

        def loss(self, model, batch, denominator):
            computing.add(threading.get_ident())
            if cut is not None and place[0] == CUT_AT and 0 in batch.units_D:
                cut()
            return super().loss(model, batch, denominator)

    folder.mkdir(exist_ok=True)
    whole = supervised()
    model, optimizer = start()
    try:
        with interrupt.deferred_interrupts():
            train(model, optimizer, Cut(whole.config, whole.documents, whole.steps), folder, lambda row: None)
    finally:
        assert threading.get_ident() not in computing
        assert all(master.grad is None for master in optimizer.masters.values())
    return optimizer.masters


@pytest.fixture
def two_workers(with_cores, monkeypatch):
    monkeypatch.setattr(accumulate, "SHARE_TOKENS", 16)
    with_cores(2)


@pytest.mark.parametrize(
    ("cut", "error", "message"),
    [
        (fail, OpenExaoneError, r"a micro-batch of \d+ tokens: out of memory .*micro_batch_tokens"),
        (interrupted, interrupt.Interrupted, None),
    ],
)
def test_a_worker_that_fails_and_ctrl_c_leave_the_state_after_the_last_whole_step(
    cut, error, message, tmp_path, two_workers
):
    wanted = train_in(tmp_path / "whole")
    with pytest.raises(error, match=message):
        train_in(tmp_path / "cut", cut)
    assert f"step-{CUT_AT:06d}" in {path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()}
    assert same(train_in(tmp_path / "cut"), wanted)


def test_sigkill_inside_a_step_of_several_workers_loses_no_state(tmp_path, two_workers):
    wanted = train_in(tmp_path / "whole")
    code = (
        "import sys, torch; torch.set_num_threads(2); from pathlib import Path; "
        "from open_exaone.model import threads; threads.num_cores = lambda: 2; threads._DEFAULT = 2; "
        "import test_workers as tests; tests.train_in(Path(sys.argv[1]), tests.killed)"
    )
    unset = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", code, str(tmp_path / "cut")]
    ran = subprocess.run(command, env=environment, capture_output=True, timeout=300, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    saved = {path.name for path in (tmp_path / "cut" / "checkpoints").iterdir() if path.name.startswith("step-")}
    assert "step-000004" in saved or "step-000002" in saved
    assert same(train_in(tmp_path / "cut"), wanted)
