"""The one pool that judges, for training and evaluation: in threads, while more samples arrive.

A verdict that the judge model owes leaves its sample open: nothing more is judged for a while, and in the end the judge
model is waited for (`judge_outage.Patience`).
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic

from open_exaone.base import interrupt
from open_exaone.base.records import Problem
from open_exaone.rollout.judge_outage import LONGEST_PAUSE_S, Item, Key, Patience, given_up, is_open
from open_exaone.verify.own import is_own

JUDGED_AT_ONCE = 64  # samples
LONGEST_BATCH_S = 1.0  # until a batch of fewer is judged
_POLL_S = 0.1  # how soon Ctrl-C takes effect
_SLOW_KINDS = frozenset({"code", "reasoning_gym", "rule_then_judge"})


def is_slow(problem: Problem) -> bool:
    """Whether a verdict takes a process or another machine, so that each deserves a thread of its own."""
    return problem.verifier in _SLOW_KINDS or is_own(problem.verifier)


class JudgePool(Generic[Key, Item]):
    """Judges samples in as many threads as there are cores.

    What is quick is judged in batches, as each time that a thread wakes it takes a core from the engine; the rest one
    by one. The threads end with the process, whatever a verifier waits for.

    Args:
        items: all samples, by key; those that were judged are replaced in it.
        judge: a sample with the verdict that it gets now; what it raises ends the judging.
        is_slow: whether a sample deserves a thread of its own.
        on_judged: called by threads with samples that were judged and are not open any more.
        on_pause: called before each wait for the judge model, and where judging ends with an error.
    """

    def __init__(
        self,
        items: dict[Key, Item],
        judge: Callable[[Key, Item], Item],
        *,
        is_slow: Callable[[Key], bool],
        patience: Patience,
        on_judged: Callable[[Sequence[Key]], None] = lambda keys: None,
        on_pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._items: dict[Key, Item] = items
        self._judge: Callable[[Key, Item], Item] = judge
        self._is_slow, self._patience, self._on_judged, self._on_pause = is_slow, patience, on_judged, on_pause
        self._todo: SimpleQueue[Sequence[Key] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._batch: list[Key] = []
        self._batch_since = time.monotonic()
        self._num_handed = 0  # batches that threads have
        self._added: dict[Key, None] = {}  # in order
        self._failed: list[Key] = []  # that are open though they were judged, since the last wait
        self._error: BaseException | None = None
        self._paused_at: float | None = None  # nothing is begun since
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(os.cpu_count() or 1)]
        for thread in self._threads:
            thread.start()

    def add(self, key: Key) -> None:
        """Has an open sample judged; raises what judging an earlier one raised."""
        try:
            self._add(key)
        except BaseException:
            self._on_pause()
            raise

    def _add(self, key: Key) -> None:
        assert is_open(self._items[key])  # as what a pause leaves out is found by that
        self._added[key] = None
        self._hand(key)
        with contextlib.suppress(Empty):
            while True:
                self._take(self._done.get_nowait())
        if self._error is not None:
            raise self._error
        if self._paused_at is not None and time.monotonic() - self._paused_at > LONGEST_PAUSE_S:
            self._drain()
            self._again()

    def finish(self) -> None:
        """Waits for all verdicts, and for the judge model where it is down.

        Raises:
            DataError, ConfigError: a problem cannot be judged.
            EndpointError: the judge model refuses, or nothing was judged for `max_wait_s`.
            Interrupted: after Ctrl-C or SIGTERM.
        """
        try:
            while True:
                self._drain()
                if self._error is not None:
                    raise self._error
                num_open = sum(is_open(self._items[key]) for key in self._added)
                if not num_open:
                    return
                interrupt.check()
                self._on_pause()
                closed = self._patience.wait({key: self._items[key] for key in self._failed}, num_open)
                for key in closed:
                    self._items[key] = given_up(self._items[key])
                if closed:
                    self._on_judged(closed)
                self._again()
        except BaseException:
            self._on_pause()
            raise

    def settle(self, limit_s: float = math.inf) -> None:
        """Waits for the verdicts that were begun, for at most so long; what the judge model owes stays open.

        Raises:
            DataError, ConfigError, Interrupted: as `finish`.
        """
        self._drain(time.monotonic() + limit_s)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """No further verdict is begun."""
        self._paused_at = time.monotonic()
        for _ in self._threads:
            self._todo.put(None)

    def _again(self) -> None:
        """Has all that are open judged."""
        self._failed.clear()
        self._paused_at = None
        for key in self._added:
            if is_open(self._items[key]):
                self._hand(key)

    def _hand(self, key: Key) -> None:
        if self._is_slow(key):
            self._put([key])
            return
        self._batch.append(key)
        if len(self._batch) >= JUDGED_AT_ONCE or time.monotonic() - self._batch_since >= LONGEST_BATCH_S:
            self._put_batch()

    def _put_batch(self) -> None:
        batch, self._batch, self._batch_since = self._batch, [], time.monotonic()
        self._put(batch)

    def _put(self, keys: Sequence[Key]) -> None:
        self._num_handed += 1
        self._todo.put(keys)

    def _drain(self, until_s: float = math.inf) -> None:
        """Waits until the threads have nothing left to do, or it is so late."""
        self._put_batch()
        while self._num_handed and time.monotonic() < until_s:
            interrupt.check()
            with contextlib.suppress(Empty):
                self._take(self._done.get(timeout=_POLL_S))

    def _take(self, error: BaseException | None) -> None:
        self._num_handed -= 1
        self._error = self._error or error

    def _work(self) -> None:
        for keys in iter(self._todo.get, None):
            try:
                self._judge_batch(keys)
                self._done.put(None)
            except BaseException as error:  # a thread's border: raised again where samples are added
                self._paused_at = self._paused_at or time.monotonic()
                self._done.put(error)

    def _judge_batch(self, keys: Sequence[Key]) -> None:
        judged = []
        try:
            for key in keys:
                if self._paused_at is not None or interrupt.requested():
                    return
                item = self._items[key] = self._judge(key, self._items[key])
                if not is_open(item):
                    judged.append(key)
                    continue
                self._failed.append(key)
                self._paused_at = time.monotonic()
        finally:
            if judged:
                self._on_judged(judged)
