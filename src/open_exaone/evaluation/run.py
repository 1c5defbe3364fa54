"""Generates and judges every sample that an evaluation asks for and its folder has not; each is kept at once."""

import contextlib
import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import NO_FINDING, Ask, Problem, Sample
from open_exaone.base.version import code_version
from open_exaone.evaluation.judged import UNJUDGED, is_slow, judged, judging_key
from open_exaone.evaluation.rows import Place, essence, task_row
from open_exaone.evaluation.statistics import estimate, is_narrow_enough
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.rollout.providers.provider import Provider
from open_exaone.rollout.run import check_verdicts
from open_exaone.verify.settings import JudgeSettings

Item = TypeVar("Item")
OnEvent = Callable[[dict[str, Any]], None]
Samples = tuple[tuple[Sample, ...], ...]  # [P, k]

STOPPING_BLOCK = 32  # questions between two looks at the interval's width
TELL_EVERY_S = 1.0
JUDGED_AT_ONCE = 64  # samples


@dataclass(frozen=True, slots=True)
class Wanted:
    """One sample that is asked for."""

    place: Place
    problem: Problem
    ask: Ask
    key: str
    judged_by: str


def run_tasks(
    tasks: Sequence[Task],
    provider: Provider,
    store: Store,
    settings: JudgeSettings | None = None,
    *,
    suite: str,
    until_width: float | None = None,
    label: str = "measure",
    on_event: OnEvent = lambda event: None,
) -> list[tuple[Task, Samples]]:
    """Measures every task, several at once; what the folder has is not generated again.

    Args:
        suite: its name, for the record.
        label: what events are told under.
        until_width: stop a task once its 95 % interval for pass@1 is at most so wide to each side; its questions are
            then taken in an order drawn from its seed, and those that were not asked are left out.

    Returns:
        each task, with the problems that were asked, and their samples.

    Raises:
        DataError: the folder is broken, samples could not be had, or none could be judged.
        RunFolderError: the folder is another evaluation's.
        Interrupted: after Ctrl-C or SIGTERM; what was generated is kept.
    """
    settings = settings or JudgeSettings()
    if len({task.name for task in tasks}) < len(tasks):
        raise ConfigError(f"suite {suite}: two tasks have one name: give each its own")
    wanted = [_wanted(task, provider, settings) for task in tasks]
    plan = _plan(tasks, provider, suite, until_width, settings)
    with store.opened(), interrupt.deferred_interrupts():
        keys = {item.place: item.key for items in wanted for item in items}
        samples, others = store.claim(plan, keys)
        run = _Run(provider, store, settings, samples, _Progress(label, len(keys), on_event))
        if until_width is None:
            run.ask(wanted)
        else:
            wanted = [run.ask_until(task, items, until_width) for task, items in zip(tasks, wanted, strict=True)]
        done = [_grouped(*pair, run.samples) for pair in zip(tasks, wanted, strict=True)]
        asked = {item.place for items in wanted for item in items}
        aside = [sample for place, sample in (others | run.samples).items() if place not in asked]
        flat = [sample for _, samples in done for row in samples for sample in row]
        store.finish([task for task, _ in done], flat, aside)
    return done


class _Run:
    """What is there so far, and the threads that judge."""

    def __init__(
        self,
        provider: Provider,
        store: Store,
        settings: JudgeSettings,
        samples: dict[Place, Sample],
        progress: "_Progress",
    ) -> None:
        self.provider, self.store, self.settings = provider, store, settings
        self.samples, self.progress = samples, progress

    def ask(self, wanted: Sequence[Sequence[Wanted]]) -> None:
        """Generates and judges what is not there, of each task.

        Raises:
            DataError, Interrupted: see `run_tasks`.
        """
        items = [item for task in wanted for item in task]
        missing = [item for item in items if item.place not in self.samples]
        there = [item for item in items if item.place in self.samples]
        unjudged = [item for item in there if not self._is_judged(item)]
        self.progress.count([self.samples[item.place] for item in there if self._is_judged(item)], are_new=False)
        started, judging = time.monotonic(), _Judging(self._judge)
        try:
            for item in unjudged:
                judging.add(item)
            with closing(self._generated(missing)) as stream:
                for item in stream:
                    judging.add(item)
                    interrupt.check()
            judging.finish()
        finally:
            judging.stop()
            if missing:
                self.store.tell(time.monotonic() - started, self.provider.notes)
        for task in wanted:
            self._check(task)

    def ask_until(self, task: Task, items: Sequence[Wanted], width: float) -> list[Wanted]:
        """The same block by block of questions, until the interval is narrow enough; returns what was asked."""
        k = task.sampling.num_samples
        questions = list(_blocks(items, k))
        random.Random(f"{task.sampling.seed}:{task.name}").shuffle(questions)
        asked: list[Wanted] = []
        for block in _blocks(questions, STOPPING_BLOCK):
            new = [item for question in block for item in question]
            self.ask([new])
            asked += new
            shares = [sum(self.samples[item.place].verdict.correct for item in row) / k for row in _blocks(asked, k)]
            if is_narrow_enough(shares, width):
                break
        chosen = {item.place for item in asked}
        return [item for item in items if item.place in chosen]

    def _generated(self, missing: Sequence[Wanted]) -> Generator[Wanted, None, None]:
        if not missing:
            return
        with closing(self.provider.stream([item.ask for item in missing])) as stream:
            for place, generation in stream:
                item = missing[place]
                sample = Sample(item.key, item.place.task, item.place.problem, item.place.index, generation, UNJUDGED)
                self.store.put(sample)
                self.samples[item.place] = sample
                yield item

    def _judge(self, items: Sequence[Wanted]) -> None:
        done = [judged(item.problem, self.samples[item.place], self.settings, item.judged_by) for item in items]
        self.store.put_verdicts(done)
        self.samples.update({item.place: sample for item, sample in zip(items, done, strict=True)})
        self.progress.count(done, are_new=True)

    def _is_judged(self, item: Wanted) -> bool:
        """Whether its verdict is the one that it would get now; a verifier that failed may do better."""
        sample = self.samples[item.place]
        return sample.judged_by == item.judged_by and sample.verdict.status not in NO_FINDING

    def _check(self, items: Sequence[Wanted]) -> None:
        left_out = [item for item in items if item.place not in self.samples]
        if left_out:
            why = f": {self.provider.failure}" if self.provider.failure else ""
            raise DataError(
                f"{len(left_out)} of {len(items)} samples could not be had{why}; the others are kept: the same command "
                "asks for the rest"
            )
        check_verdicts([self.samples[item.place].verdict for item in items])


class _Judging:
    """Threads that judge: what is judged in no time by the dozen, as each time that a thread wakes it takes a core from
    the engine; the rest one by one. They end with the process, whatever a verifier waits for."""

    def __init__(self, judge: Callable[[Sequence[Wanted]], None]) -> None:
        self._judge = judge
        self._todo: SimpleQueue[Sequence[Wanted] | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._num_open = 0
        self._is_stopped = False
        self._waiting: list[Wanted] = []
        self._last = time.monotonic()
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(os.cpu_count() or 1)]
        for thread in self._threads:
            thread.start()

    def add(self, item: Wanted) -> None:
        """Raises what judging an earlier one raised."""
        if is_slow(item.problem):
            self._hand([item])
            return
        self._waiting.append(item)
        if len(self._waiting) >= JUDGED_AT_ONCE or time.monotonic() - self._last >= TELL_EVERY_S:
            self._hand(self._waiting)
            self._waiting, self._last = [], time.monotonic()

    def finish(self) -> None:
        """Waits for all verdicts; Ctrl-C is heeded."""
        self._hand(self._waiting)
        while self._num_open:
            interrupt.check()
            with contextlib.suppress(Empty):
                self._take(self._done.get(timeout=0.1))

    def stop(self) -> None:
        """No further verdict is begun."""
        self._is_stopped = True
        for _ in self._threads:
            self._todo.put(None)

    def _hand(self, items: Sequence[Wanted]) -> None:
        self._num_open += 1
        self._todo.put(items)
        with contextlib.suppress(Empty):
            while True:
                self._take(self._done.get_nowait())

    def _take(self, error: BaseException | None) -> None:
        self._num_open -= 1
        if error is not None:
            raise error

    def _work(self) -> None:
        for items in iter(self._todo.get, None):
            if self._is_stopped:
                return
            try:
                self._judge(items)
                self._done.put(None)
            except BaseException as error:
                self._done.put(error)


class _Progress:
    """Tells how far a measurement is, at most once a second; threads count at once."""

    def __init__(self, label: str, num_wanted: int, on_event: OnEvent) -> None:
        self._label, self._num_wanted, self._on_event = label, num_wanted, on_event
        self._num_done = self._num_tokens = 0
        self._shares: dict[str, dict[str, Counter[bool]]] = {}  # task -> problem -> how many were correct, or not
        self._started = self._told = time.monotonic()
        self._mutex = Lock()

    def count(self, samples: Sequence[Sample], *, are_new: bool) -> None:
        """So many more samples are judged."""
        with self._mutex:
            for sample in samples:
                counts = self._shares.setdefault(sample.task, {}).setdefault(sample.problem, Counter())
                counts[sample.verdict.correct] += 1
            self._num_done += len(samples)
            self._num_tokens += sum(sample.generation.num_tokens for sample in samples) if are_new else 0
            now = time.monotonic()
            if samples and (now - self._told >= TELL_EVERY_S or self._num_done == self._num_wanted):
                self._told = now
                self._tell(samples[-1].task, now - self._started)

    def _tell(self, task: str, seconds: float) -> None:
        counts = self._shares[task].values()
        seen = estimate([count[True] / count.total() for count in counts])  # of the questions that have a sample
        self._on_event(
            {
                "stage": self._label,
                "step": self._num_done,
                "num_steps": self._num_wanted,
                "seconds": seconds,
                "tokens_per_second": self._num_tokens / max(seconds, 1e-9),
                "note": f"{task} {seen.value:.1%} [{seen.low:.1%}, {seen.high:.1%}]",
            }
        )


def _wanted(task: Task, provider: Provider, settings: JudgeSettings) -> list[Wanted]:
    """Every sample of a task, with the hash of all that fixes what will be generated."""
    asks = [Ask(problem.question, task.thinking, task.sampling, 0) for problem in task.problems]
    sampling = {name: value for name, value in asdict(task.sampling).items() if name != "num_samples"}
    common = [essence(provider.identity), code_version(), task.thinking, sampling]
    wanted = []
    for problem, ask, prompt in zip(task.problems, asks, provider.prompts(asks), strict=True):
        judged_by = judging_key(problem, settings)
        hashed = hashlib.sha256(json.dumps([*common, prompt], sort_keys=True).encode())
        for index in range(task.sampling.num_samples):
            own = hashed.copy()
            own.update(f"#{index}".encode())
            place = Place(task.name, problem.id, index)
            wanted.append(Wanted(place, problem, replace(ask, index=index), own.hexdigest()[:32], judged_by))
    return wanted


def _plan(
    tasks: Sequence[Task], provider: Provider, suite: str, until_width: float | None, settings: JudgeSettings
) -> dict[str, Any]:
    """What evaluation.json says."""
    return {
        "suite": suite,
        "model": dict(provider.identity),
        "code_version": code_version(),
        "until_width": until_width,
        "judge": settings.model_dump(mode="json"),
        "tasks": [task_row(task) for task in tasks],
    }


def _grouped(task: Task, items: Sequence[Wanted], samples: Mapping[Place, Sample]) -> tuple[Task, Samples]:
    """A task with the problems that were asked, and their samples [P, k]."""
    rows = list(_blocks([samples[item.place] for item in items], task.sampling.num_samples))
    asked = {item.problem.id for item in items}
    problems = tuple(problem for problem in task.problems if problem.id in asked)
    is_whole = task.is_whole and len(problems) == len(task.problems)
    return replace(task, problems=problems, is_whole=is_whole), tuple(tuple(row) for row in rows)


def _blocks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
