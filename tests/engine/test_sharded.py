"""Sampling in several processes: what one engine gives, the same each time; no process is left behind."""

import fcntl
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from doubles import SHAPES, make_model, make_tokenizer, random_ids, request
from open_exaone.base.errors import DataError
from open_exaone.base.records import Sampling
from open_exaone.engine import sharded, workers
from open_exaone.engine.engine import Engine
from open_exaone.engine.sharded import ShardedEngine, shares_of
from open_exaone.model.lora import add_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.sandbox import wire

PROMPTS = [random_ids(length, seed=length).tolist() for length in (3, 12, 7, 1, 9, 5, 12)]
SAMPLING = Sampling(max_new_tokens=16, temperature=1.0, top_p=0.9, num_samples=3, seed=5)
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def two_cores(monkeypatch):
    """As on a machine of two cores, with requests of any number worth a second process."""
    monkeypatch.setattr(sharded, "num_cores", lambda: 2)
    monkeypatch.setattr(sharded, "is_ours_to_choose", lambda: True)
    monkeypatch.setattr(sharded, "MIN_TOKENS", 1)
    monkeypatch.setattr(sharded, "MIN_REQUESTS", 1)


@pytest.fixture(scope="module", autouse=True)
def no_workers_behind():
    yield
    workers.end_all()


def engines(shape="exaone4-hybrid", dtype=torch.float32, num_slots=4):
    model = make_model(SHAPES[shape]).to(dtype)
    return [kind(model, make_tokenizer(), num_slots=num_slots) for kind in (Engine, ShardedEngine)]


def texts(replies):
    return [[(completion.ids, completion.stop, completion.policy_version) for completion in group] for group in replies]


def logprobs(replies):
    rows = [row for group in replies for found in group for row in (found.logprobs, found.sampling_logprobs)]
    return torch.tensor([value for row in rows for value in row], dtype=torch.float64)


def wait_until(is_true):
    end = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_in_float32_it_gives_what_one_engine_gives(temperature):
    """Also with new weights: nothing is kept between calls."""
    one, two = engines()
    sampling = Sampling(16, temperature, 0.9, num_samples=3, seed=5, presence_penalty=0.5)
    for version in (0, 1):
        one.model.version = version
        with torch.no_grad():
            one.model.lm_head.weight.mul_(1 + version)
        expected, found = one.generate(PROMPTS, sampling), two.generate(PROMPTS, sampling)
        assert texts(found) == texts(expected)
        torch.testing.assert_close(logprobs(found), logprobs(expected), rtol=0, atol=1e-5)
    assert len(workers._idle) == 1


def test_a_thinking_budget_holds_in_every_process():
    one, two = engines()
    sampling = Sampling(16, 1.0, num_samples=3, thinking_budget=4)
    prompts = [make_tokenizer().render([{"role": "user", "content": "Q"}], thinking=True, generation_prompt=True)] * 4
    assert texts(two.generate(prompts, sampling)) == texts(one.generate(prompts, sampling))


def test_in_bfloat16_it_gives_the_same_each_time_whoever_computes():
    """Also after a stream that was left early, which ends its process."""
    _, engine = engines(dtype=torch.bfloat16)
    first = engine.generate(PROMPTS, SAMPLING)
    assert engine.generate(PROMPTS, SAMPLING) == first
    with workers.borrowed(1):  # another thread has them
        assert engine.generate(PROMPTS, SAMPLING) == first
    long = [request(PROMPTS[1], Sampling(100, 1.0), index) for index in range(90)]
    with closing(engine.stream([request(PROMPTS[0], Sampling(1)), *long])) as stream:
        next(stream)
    assert not any(worker.is_alive for worker in workers._idle)
    assert engine.generate(PROMPTS, SAMPLING) == first


def test_a_stream_counts_every_token_and_completion_once():
    one, two = engines()
    requests = [request(prompt, SAMPLING, index, len(prompt) % 2) for prompt in PROMPTS for index in range(3)]
    counted = [0, 0]

    def count(num_tokens, num_done):
        counted[0] += num_tokens
        counted[1] += num_done

    found = dict(two.stream(requests, count))
    assert {place: completion.ids for place, completion in found.items()} == {
        place: completion.ids for place, completion in one.stream(requests)
    }
    assert counted == [sum(len(completion.ids) for completion in found.values()), len(requests)]


def test_a_process_that_is_killed_is_one_clear_error():
    """As where memory runs out."""
    _, two = engines()

    def kill(num_tokens, num_done):
        [worker] = workers._idle
        worker._process.kill()

    long = Sampling(max_new_tokens=100, temperature=1.0, num_samples=3)
    with pytest.raises(DataError, match=r"ended by signal 9, as where memory runs out.*OMP_NUM_THREADS=1"):
        two.generate(PROMPTS, long, kill)
    assert not any(worker.is_alive for worker in workers._idle)


def test_what_fails_in_a_process_is_raised_here():
    _, two = engines()
    worker = workers.Worker()
    with worker.job(two, [request([10_000], SAMPLING)]):  # no such id
        workers.wait_for([worker], PATIENCE_S)
        with pytest.raises(
            DataError,
            match="samples beside this one failed with ValueError: request 0 has the id 10000.*OMP_NUM_THREADS=1",
        ):
            worker.arrived()
    wait_until(lambda: not worker.is_alive)


def test_why_a_process_failed_is_read_where_nothing_can_be_sent_to_it():
    _, two = engines()
    worker = workers.Worker()
    ours, theirs = socket.socketpair()
    worker._link.close()
    worker._link = ours
    wire.send(theirs, {"num_tokens": 0})
    wire.send(theirs, {"error": "failed with MemoryError: no more"})
    theirs.close()
    with pytest.raises(DataError, match="failed with MemoryError: no more"), worker.job(two, [request([1], SAMPLING)]):
        pass


def test_descriptors_above_1023_are_waited_for():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2100:
        pytest.skip("so many files may not be open here")
    _, two = engines()
    worker = workers.Worker()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2100), hard))
    try:
        low, number = worker._link, fcntl.fcntl(worker._link, fcntl.F_DUPFD, 2000)
        worker._link = socket.socket(fileno=number)
        low.close()
        with worker.job(two, [request(PROMPTS[0], SAMPLING)]):
            while worker.is_at_work:
                workers.wait_for([worker], PATIENCE_S)
                worker.arrived()
        worker.end()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_at_work_ends_when_nobody_listens():
    _, two = engines()
    worker = workers.Worker()
    with worker.job(two, [request(prompt, Sampling(100, 1.0), index) for prompt in PROMPTS for index in range(99)]):
        worker._link.close()  # as the system does when this process dies
        wait_until(lambda: not worker.is_alive)


PARENT = """
import os, signal
from open_exaone.engine.workers import Worker
print(Worker()._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_process_outlives_one_that_is_killed():
    path = os.pathsep.join([str(Path(workers.__file__).parents[2]), *filter(None, sys.path)])
    told = subprocess.run(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, check=False
    )
    assert told.returncode == -signal.SIGKILL
    stat = Path(f"/proc/{int(told.stdout)}/stat")
    wait_until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_shares_are_dealt_out_prompt_by_prompt(monkeypatch):
    requests = [request(prompt, SAMPLING, index) for prompt in PROMPTS for index in range(3)]
    shares = shares_of(requests, 2)
    assert sorted(place for share in shares for place in share) == list(range(len(requests)))
    assert shares[1] == [3, 4, 5, 9, 10, 11, 15, 16, 17]
    assert shares_of(requests, 1) == [list(range(len(requests)))]
    monkeypatch.setattr(sharded, "MIN_REQUESTS", 11)
    assert len(shares_of(requests, 2)) == 1
    monkeypatch.setattr(sharded, "MIN_REQUESTS", 1)
    monkeypatch.setattr(sharded, "MIN_TOKENS", 1 + 16 * len(requests) // 2)
    assert len(shares_of(requests, 2)) == 1
    assert shares_of([], 2) == [[]]


@pytest.mark.parametrize("why", ["own threads", "large", "lora"])
def test_where_it_would_not_pay_one_process_does_everything(why, monkeypatch):
    _, engine = engines()
    if why == "own threads":
        monkeypatch.setattr(sharded, "is_ours_to_choose", lambda: False)
    elif why == "large":
        monkeypatch.setattr(sharded, "threads_for", lambda *_: 2)
    else:
        add_lora(engine.model, LoraConfig(rank=2), 0)
    monkeypatch.setattr(workers, "Worker", None)
    assert len(engine.generate(PROMPTS, SAMPLING)) == len(PROMPTS)
