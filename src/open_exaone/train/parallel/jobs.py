"""Jobs whose chunks ranks claim from a store that all of them reach; rows of JSON come back through it."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch._C._distributed_c10d import Store

from open_exaone.base import interrupt
from open_exaone.base.errors import RankError
from open_exaone.rollout.team import OnRow, Row

BEAT_S = 1.0  # between two signs of life of a rank, and between its looks whether the job has been ended
RECEIVE_S = 0.05  # between two looks for rows
Reached = Callable[[], AbstractContextManager[None]]  # turns what torch.distributed raises into RankError


class JobOver(Exception):
    """The first rank has ended a job before its last chunk was done."""


class SharedJob:
    """See `rollout.team.Shared`."""

    def __init__(
        self, store: Store, size: int, chunks: Sequence[Row], on_row: OnRow, timeout_s: float, reached: Reached
    ) -> None:
        """Args:
        store: with nothing in it; the others see the same.
        timeout_s: how long another rank may give no sign of life.
        """
        self._store, self._claims, self._on_row = store, _Claims(store, len(chunks), reached), on_row
        self._timeout_s, self._reached = timeout_s, reached
        self._num_messages = dict.fromkeys(range(1, size), 0)  # received, of each rank that has not finished
        self._ends: dict[int, Row] = {}
        self._num_received = 0
        self._looked_s = 0.0
        with reached():
            for number, chunk in enumerate(chunks):
                store.set(f"chunk/{number}", json.dumps(chunk))

    def take(self) -> int | None:
        number = self._claims.next()
        if number is not None:
            with self._reached():
                self._store.delete_key(f"chunk/{number}")
        return number

    def receive(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < RECEIVE_S:
            return
        self._looked_s = now_s
        with self._reached():
            if self._store.add("sent", 0) == self._num_received:
                return
        for rank in list(self._num_messages):
            while rank in self._num_messages and (text := self._message(rank)) is not None:
                self._read(rank, json.loads(text))

    def _message(self, rank: int) -> bytes | None:
        """The next one of a rank; None where it is not there yet."""
        key = f"sent/{rank}/{self._num_messages[rank]}"
        with self._reached():
            if not self._store.check([key]):
                return None
            text = self._store.get(key)
            self._store.delete_key(key)
        self._num_messages[rank] += 1
        self._num_received += 1
        return text

    def _read(self, rank: int, message: dict[str, Any]) -> None:
        for row in message.get("rows", ()):
            self._on_row(row)
        if "end" not in message:
            return
        end = message["end"]
        if end["interrupted"]:
            raise interrupt.Interrupted
        if end["error"] is not None:
            raise RankError(f"rank {rank}: {end['error']}")
        self._ends[rank] = end["value"]
        del self._num_messages[rank]

    def finish(self) -> list[Row]:
        started_s = time.monotonic()
        beats: dict[int, tuple[bytes, float]] = {}  # each rank's last sign of life, and when it was seen
        looked_s = started_s
        self._looked_s = 0.0
        while True:
            interrupt.check()
            self.receive()
            if not self._num_messages:
                return [self._ends[rank] for rank in sorted(self._ends)]
            if (now_s := time.monotonic()) - looked_s > BEAT_S:
                looked_s = now_s
                for rank in self._num_messages:
                    beat = self._beat(rank)
                    if beat != beats.get(rank, (b"", 0.0))[0]:
                        beats[rank] = beat, now_s
                    if now_s - beats.get(rank, (b"", started_s))[1] > self._timeout_s:
                        raise RankError(
                            f"rank {rank} has not responded for parallel.step_timeout_s = {self._timeout_s:g} seconds: "
                            "its process has exited or hangs: the samples are saved, and the same command resumes"
                        )
            time.sleep(RECEIVE_S)

    def _beat(self, rank: int) -> bytes:
        key = f"alive/{rank}"
        with self._reached():
            return self._store.get(key) if self._store.check([key]) else b""


class TakenJob:
    """See `rollout.team.Job`."""

    def __init__(self, store: Store, rank: int, reached: Reached, is_over: Callable[[], bool]) -> None:
        """Args:
        store: the job's own.
        is_over: whether the first rank has ended the job.
        """
        self.head: Row = {}
        self._store, self._rank, self._reached, self._is_over = store, rank, reached, is_over
        self._claims = _Claims(store, 0, reached)
        self._mutex = threading.Lock()
        self._num_messages = 0
        self._looked_s = 0.0

    def begin(self, head: Row, num_chunks: int) -> None:
        """Takes what the first rank says of the job, once it has."""
        self.head, self._claims = head, _Claims(self._store, num_chunks, self._reached)

    def take(self) -> Row | None:
        self.check()
        if (number := self._claims.next()) is None:
            return None
        with self._reached():
            chunk: Row = json.loads(self._store.get(f"chunk/{number}"))
            self._store.delete_key(f"chunk/{number}")
        return chunk

    def check(self) -> None:
        interrupt.check()
        if (now_s := time.monotonic()) - self._looked_s < BEAT_S:
            return
        self._looked_s = now_s
        if self._is_over():
            raise JobOver

    def send(self, rows: Sequence[Row]) -> None:
        self._send({"rows": list(rows)})

    def end(self, end: Row) -> None:
        """Sends what has become of this rank's share, after all its rows."""
        self._send({"end": end})

    def _send(self, message: Row) -> None:
        text = json.dumps(message)
        with self._mutex, self._reached():
            self._store.set(f"sent/{self._rank}/{self._num_messages}", text)
            self._num_messages += 1
            self._store.add("sent", 1)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Within it, a thread gives signs of life, whatever takes this rank long."""
        is_done = threading.Event()

        def beat() -> None:
            number = 0
            while not is_done.wait(BEAT_S if number else 0.0):
                number += 1
                try:
                    self._store.set(f"alive/{self._rank}", str(number))
                except RuntimeError:  # the first rank has ended, which this one finds out by itself
                    return

        thread = threading.Thread(target=beat, name="alive", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_done.set()
            thread.join()


class _Claims:
    """The chunks of a job that no rank has claimed yet."""

    def __init__(self, store: Store, num_chunks: int, reached: Reached) -> None:
        self._store, self._num_chunks, self._reached = store, num_chunks, reached
        self._are_over = False

    def next(self) -> int | None:
        """Claims one: its number, or None where none is left."""
        if not self._are_over:
            with self._reached():
                number = int(self._store.add("claimed", 1)) - 1
            if number < self._num_chunks:
                return number
            self._are_over = True
        return None
