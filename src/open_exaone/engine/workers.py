"""Processes that sample for this one. They are started when first needed, kept, and end with it."""

import atexit
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from open_exaone.base.errors import DataError
from open_exaone.base.machine import THREAD_VARIABLES
from open_exaone.base.records import Completion, Request, StopReason
from open_exaone.engine.request import prompt_of
from open_exaone.engine.worker import MAX_BYTES, has_news
from open_exaone.sandbox import wire

if TYPE_CHECKING:
    from open_exaone.engine.engine import Engine

END_TIMEOUT_S = 2.0
_SOURCES = str(Path(__file__).parents[2])  # where the package lies
_ADVICE = "the same command goes on from what is saved; with OMP_NUM_THREADS=1 set, one process samples alone"


class Worker:
    """One process with a model and an engine of its own, and the socket to it."""

    def __init__(self) -> None:
        """Raises:
        DataError: the system starts no further process.
        """
        self.is_at_work = False
        self._engine: weakref.ref[Engine] | None = None  # whose model it has
        self._link, theirs = socket.socketpair()
        paths = os.pathsep.join([_SOURCES, *filter(None, sys.path)])
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "open_exaone.engine.worker"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1"), "PYTHONPATH": paths},
                    process_group=0,  # the terminal's Ctrl-C is for this process alone
                )
        except OSError as error:
            self._link.close()
            raise DataError(f"a process that samples beside this one cannot start: {error}: {_ADVICE}") from error

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @contextmanager
    def job(self, engine: "Engine", requests: Sequence[Request]) -> Iterator[None]:
        """Has it complete the requests, with the engine's weights as they are now; `arrived` gives what is there.

        Left before the end, by an exception or not, it is ended with its job.

        Raises:
            DataError: it has died.
        """
        try:
            self._begin(engine, requests)
            yield
        finally:
            if self.is_at_work:
                self.end()

    def _begin(self, engine: "Engine", requests: Sequence[Request]) -> None:
        from safetensors.torch import save

        self.is_at_work = True
        weights = {name: weight.detach().contiguous() for name, weight in engine.model.named_parameters()}
        header, ids = _packed(requests)
        header |= {"version": engine.model.version, "memory_share": engine.memory_share}
        try:
            if self._engine is None or self._engine() is not engine:
                wire.send(self._link, *_opening(engine))
                self._engine = weakref.ref(engine)
            wire.send(self._link, header, save(weights), ids)
        except OSError as error:
            raise self._failure(self._last_words()) from error

    def arrived(self) -> tuple[int, list[tuple[int, Completion]]]:
        """What has come so far: how many tokens were made, and (place in the requests, completion) of the finished.

        Raises:
            DataError: it has died or failed.
        """
        num_tokens, done = 0, []
        while self.is_at_work and has_news(self._link):
            received = wire.receive(self._link, max_bytes=MAX_BYTES)
            if received is None:
                raise self._failure()
            header, blobs = received
            if "error" in header:
                raise self._failure(str(header["error"]))
            num_tokens += header["num_tokens"]
            done += _completions(header, blobs)
            self.is_at_work = not header["is_last"]
        return num_tokens, done

    def fileno(self) -> int:
        return self._link.fileno()

    def end(self) -> None:
        """Ends the process."""
        self.is_at_work = False
        self._link.close()
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        """Why it failed, where it could still say so."""
        while has_news(self._link) and (received := wire.receive(self._link, max_bytes=MAX_BYTES)) is not None:
            if "error" in received[0]:
                return str(received[0]["error"])
        return ""

    def _failure(self, why: str = "") -> DataError:
        if not why:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(END_TIMEOUT_S)
            status = self._process.returncode
            why = f"was ended by signal {-status}" if status and status < 0 else f"ended with exit code {status}"
            why += ", as where memory runs out" if status == -9 else ""
        return DataError(f"a process that samples beside this one {why}: {_ADVICE}")


_idle: list[Worker] = []
_mutex = threading.Lock()  # held while workers are borrowed


@contextmanager
def borrowed(number: int) -> Iterator[list[Worker]]:
    """So many workers, started where there are too few; none where another thread has them."""
    if not _mutex.acquire(blocking=False):
        yield []
        return
    try:
        _idle[:] = [worker for worker in _idle if worker.is_alive]
        _idle.extend(Worker() for _ in range(number - len(_idle)))
        yield _idle[:number]
    finally:
        _mutex.release()


def wait_for(workers: Sequence[Worker], seconds: float = 0.1) -> None:
    """Waits until one that is at work has something to say, at most so long."""
    poll = select.poll()
    for worker in workers:
        if worker.is_at_work:
            poll.register(worker, select.POLLIN)
    poll.poll(1000 * seconds)


@atexit.register
def end_all() -> None:
    """Ends all workers; new ones start when needed."""
    while _idle:
        _idle.pop().end()


def _opening(engine: "Engine") -> tuple[Any, ...]:
    """The message that has a worker build its engine, and the tokenizer's files."""
    with tempfile.TemporaryDirectory() as folder:
        engine.tokenizer.save(Path(folder))
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    header = {
        "config": engine.model.config.model_dump(mode="json"),
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "end_ids": sorted(engine.end_ids),
        "num_slots": engine.num_slots,
        "chat_format": engine.tokenizer.chat_format_name,
        "files": list(files),
    }
    return (header, *files.values())


def _packed(requests: Sequence[Request]) -> tuple[dict[str, Any], bytes]:
    """Requests as a message: each prompt and each sampling once."""
    prompts: dict[tuple[int, ...], int] = {}
    samplings: dict[Any, int] = {}
    rows = []
    for request in requests:
        prompt = prompts.setdefault(prompt_of(request), len(prompts))
        sampling = samplings.setdefault(request.sampling, len(samplings))
        rows.append((prompt, sampling, request.index, request.occurrence))
    header = {
        "lengths": [len(prompt) for prompt in prompts],
        "samplings": [asdict(sampling) for sampling in samplings],
        "requests": rows,
    }
    return header, np.array([token for prompt in prompts for token in prompt], np.int64).tobytes()


def _completions(header: dict[str, Any], blobs: list[bytes]) -> list[tuple[int, Completion]]:
    ids, logprobs, sampling_logprobs = (
        np.frombuffer(blob, dtype).tolist()
        for blob, dtype in zip(blobs, (np.int64, np.float64, np.float64), strict=True)
    )
    done, start = [], 0
    for place, length, stop, version, error in header["done"]:
        part = slice(start, start + length)
        start += length
        completion = Completion(
            tuple(ids[part]), tuple(logprobs[part]), tuple(sampling_logprobs[part]), StopReason(stop), version, error
        )
        done.append((place, completion))
    return done
