"""Samples of coming steps, drawn by a server while the trainer learns from earlier ones.

Step s of sampling is drawn from the model as it was before step max(0, s - max_staleness): a function of the steps'
numbers, not of the clock, so that a run with the same samples is the same run. One thread draws and judges step behind
step. What a resumed run needs is on disk: the samples that are there, and the weights that the missing ones are drawn
from (`snapshot`); their digests travel in the state's memory.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from open_exaone.base import interrupt
from open_exaone.rollout.provider import requests_for
from open_exaone.train.buffer import rollout_groups, rollout_rows
from open_exaone.train.collect import Collected, Collector
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.train.snapshot import Snapshot, take_snapshot
from open_exaone.train.state import Memory

_POLL_S = 0.1  # how soon Ctrl-C takes effect
_LONGEST_CLOSE_S = 60.0
_AHEAD = "ahead"  # in a step's memory: the digest of the weights that each coming step is drawn from


@dataclass
class Ahead:
    """Draws the samples of up to `max_staleness` coming steps; with several ranks, the first one alone does.

    Args:
        collector: of a single process.
        num_steps: of sampling, that the stage has.
        world: the ranks that learn from the samples.
    """

    collector: Collector
    max_staleness: int
    num_steps: int
    num_updates: int  # optimizer steps on each step's samples
    world: World = ALONE
    _jobs: "queue.Queue[tuple[int, Snapshot] | None]" = field(default_factory=queue.Queue)
    _digests: dict[str, str] = field(default_factory=dict)  # of the coming steps
    _taken: dict[int, Snapshot] = field(default_factory=dict)  # the last one, by its step
    _done: dict[int, Collected] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stop: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None
    _thread: threading.Thread | None = None

    def collect(self, step: int, memory: Memory, *, again: bool = False) -> Collected:
        """The samples of one step, and has those of a coming one drawn from the model as it is.

        Args:
            step, memory, again: see `Collector.collect`.

        Raises:
            OpenExaoneError, Interrupted: what drawing or judging raised.
        """
        found: list[Collected] = []

        def lead() -> dict[str, Any]:
            found.append(self._collect(step, memory, again=again))
            return self._as_json(found[0])

        shared = self.world.lead(lead)
        return found[0] if found else self._read(step, shared)

    def close(self) -> None:
        """Ends the thread; what it has drawn so far is on disk."""
        self._stop.set()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(_LONGEST_CLOSE_S)

    def _collect(self, step: int, memory: Memory, *, again: bool) -> Collected:
        collected = self.collector.collect(step, memory, again=True) if again else None
        if self._thread is None:
            first = step + 1 if again else step
            self._begin(first, collected.memory if collected else memory, memory.get(_AHEAD, {}))
        if collected is None:
            self._launch(step + self.max_staleness, take=True)
            started = time.perf_counter()
            collected = self._wait(step)
            wait_s = time.perf_counter() - started
            collected = replace(collected, wait_s=wait_s, waited_s=min(wait_s, collected.waited_s))
        self._digests.pop(str(step), None)
        return replace(collected, ahead=dict(self._digests))

    def _begin(self, first: int, memory: Memory, digests: Mapping[str, str]) -> None:
        """Starts the thread, with the steps that were begun before this sitting, or that the first model draws."""
        self._thread = threading.Thread(target=self._work, args=[memory], name="sampling ahead", daemon=True)
        for step in range(first, first + self.max_staleness):
            if str(step) in digests:
                self._digests[str(step)] = digests[str(step)]
            self._launch(step, take=str(step) not in digests)
        self._thread.start()

    def _launch(self, step: int, *, take: bool) -> None:
        """Has a step drawn.

        Args:
            take: from the model as it is now.
        """
        if step >= self.num_steps:
            return
        source = max(0, step - self.max_staleness)
        path = self._path(source)
        if take and source not in self._taken:
            self._taken = {source: take_snapshot(self.collector.model, path)}
        if take:
            self._digests[str(step)] = self._taken[source].digest
        self._jobs.put((step, Snapshot(path, self._digests[str(step)], source * self.num_updates)))

    def _path(self, source: int) -> Path:
        return self.collector.folder / "rollouts" / f"step-{source + 1:06d}.policy.safetensors"

    def _wait(self, step: int) -> Collected:
        with self._changed:
            while step not in self._done:
                if self._failure is not None:
                    raise self._failure
                self._changed.wait(_POLL_S)
                interrupt.check()
            return self._done.pop(step)

    def _work(self, memory: Memory) -> None:
        """The thread: step behind step, each behind the prompts of the one before."""
        try:
            with interrupt.stopped_by(self._stop):
                while (job := self._jobs.get()) is not None:
                    interrupt.check()
                    step, snapshot = job
                    collected = self.collector.collect(step, memory, snapshot=snapshot)
                    memory = collected.memory
                    if step >= self.max_staleness:  # no later step is drawn from it
                        self._path(step - self.max_staleness).unlink(missing_ok=True)
                    with self._changed:
                        self._done[step] = collected
                        self._changed.notify_all()
        except BaseException as error:  # a thread's border: raised again where the step is waited for
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _as_json(self, collected: Collected) -> dict[str, Any]:
        """What the other ranks need of a step."""
        if self.world.size == 1:
            return {}
        own = {"keys": list(collected.keys), "waited_s": collected.waited_s, "wait_s": collected.wait_s}
        rows = rollout_rows(collected.groups)
        return {
            "first": collected.first,
            "rows": rows,
            "number": len(collected.groups),
            "ahead": collected.ahead,
            **own,
        }

    def _read(self, step: int, shared: dict[str, Any]) -> Collected:
        """The same on another rank."""
        collector, first, number = self.collector, shared["first"], shared["number"]
        tokenizer = collector.provider.tokenizer
        assert tokenizer is not None  # it gives ids
        places = collector.places(first, number)
        problems, thinking = collector.asked(places)
        requests = requests_for(problems, tokenizer, collector.sampling(step), thinking=thinking, seen=Counter())
        groups = rollout_groups(shared["rows"], problems, requests, tokenizer)
        keys = tuple(shared["keys"])
        return Collected(groups, first, keys, shared["waited_s"], shared["wait_s"], shared["ahead"])
