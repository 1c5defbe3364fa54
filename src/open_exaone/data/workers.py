"""Rows made ready by several processes, in the order in which they come; small sources are done in this one.

    with Workers(tokenizer) as workers:
        for item, made in workers.ahead(items, chunk_of): ...      made: what `worker.fitted` makes of chunk_of(item)

The processes are plain interpreters that run `data.worker`, so that no thread is ever forked and no script of the
user's runs twice. They end when this one does.
"""

import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import TypeVar, cast

from open_exaone.base.errors import DataError
from open_exaone.base.log import logger
from open_exaone.base.machine import num_cores
from open_exaone.data.render import Fitted
from open_exaone.data.worker import Chunk, fitted
from open_exaone.text.tokenizer import Tokenizer

ALONE_S = 1.0  # of work until processes are started: each takes half a second for its imports
NUM_AHEAD = 2  # chunks that are made while another one is written
_MAX_WORKERS = 16  # this process reads, parses and writes for them all
# They share the cores among themselves.
_ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

_GRACE_S = 10.0  # that a process whose socket is closed has to end

Item = TypeVar("Item")


class Workers:
    """A process for each core, started once there is work for them; and a thread here for each that asks it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._began_s = time.monotonic()
        self._num_wanted = min(num_cores(), _MAX_WORKERS)
        self._workers: list[_Worker] = []
        self._free: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()  # None: one that could not be started
        self._has_warned = False

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers:
            worker.end()

    def ahead(self, items: Iterable[Item], chunk_of: Callable[[Item], Chunk]) -> Iterator[tuple[Item, list[Fitted]]]:
        """Each item with what is left of its rows, in order; a few others are made meanwhile.

        Raises:
            DataError: a process ended before it had answered.
            CheckpointError: as `worker.fitted`.
        """
        with ThreadPoolExecutor(max(NUM_AHEAD, self._num_wanted), "prepare") as pool:
            waiting: deque[tuple[Item, Future[list[Fitted]]]] = deque()
            try:
                for item in items:
                    self._start_when_worth_it()
                    waiting.append((item, pool.submit(self._made, chunk_of(item))))
                    if len(waiting) > max(NUM_AHEAD, len(self._workers) + 1):
                        done, made = waiting.popleft()
                        yield done, made.result()
                for done, made in waiting:
                    yield done, made.result()
            except BaseException:  # nobody waits for the others any more
                for worker in self._workers:
                    worker.kill()
                raise
            finally:
                pool.shutdown(cancel_futures=True)

    def _start_when_worth_it(self) -> None:
        if self._num_wanted < 2 or self._workers or time.monotonic() - self._began_s < ALONE_S:
            return
        try:
            for _ in range(self._num_wanted):
                self._workers.append(_Worker())
                self._free.put(self._workers[-1])
        except OSError as error:
            self._num_wanted = len(self._workers)
            self._warn(str(error))

    def _made(self, chunk: Chunk) -> list[Fitted]:
        if not self._workers:
            return fitted(chunk, self._tokenizer)
        worker, made = self._free.get(), None
        try:
            made = worker.ask(chunk, self._tokenizer) if worker is not None else None
        except NotStartedError as error:
            worker = None
            self._warn(str(error))
        finally:
            self._free.put(worker)
        return fitted(chunk, self._tokenizer) if made is None else made

    def _warn(self, why: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning("rows are prepared in fewer processes than there are cores: one did not start: it %s", why)


class NotStartedError(Exception):
    """A process ended before it could be asked anything; caught here."""


class _Worker:
    """One process."""

    def __init__(self) -> None:
        paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "open_exaone.data.worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
            )
            self._connection = Connection(ours.detach())
        self._is_ready = False

    def ask(self, chunk: Chunk, tokenizer: Tokenizer) -> list[Fitted] | None:
        """What `worker.fitted` makes of a chunk; None where it fails.

        Raises:
            NotStartedError: the process ended before it was ready.
            DataError: it ended later.
        """
        try:
            if not self._is_ready:
                self._connection.send(tokenizer)
                self._is_ready = self._connection.recv()
            self._connection.send(chunk)
            return cast("list[Fitted] | None", self._connection.recv())
        except (EOFError, OSError) as error:
            how = _how_it_ended(self._process)
            if not self._is_ready:
                raise NotStartedError(how) from error
            raise DataError(f"a process that prepared rows {how}; run the same command again") from error

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self.kill()
        self._process.wait()
        self._connection.close()


def _how_it_ended(process: "subprocess.Popen[bytes]") -> str:
    try:
        code = process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        return "closed its socket"
    if code == -signal.SIGKILL:
        return "was killed, as the system does where memory is short: give it more, or fewer cores (taskset)"
    return f"ended with code {code}"
