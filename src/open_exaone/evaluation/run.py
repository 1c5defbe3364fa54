"""Generates and judges every sample that an evaluation asks for and its folder has not; each is kept at once."""

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import asdict, replace
from threading import Lock
from typing import Any, TypeVar

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import NO_FINDING, Sample
from open_exaone.base.version import code_version
from open_exaone.evaluation.judged import judged, judging_key
from open_exaone.evaluation.missing import NO_GENERATION, NO_REPLY, answered, is_missing
from open_exaone.evaluation.rows import Place, checked, essence, read_sample, task_row, with_verdict
from open_exaone.evaluation.spread import Wanted, shared_stream
from open_exaone.evaluation.statistics import estimate, is_narrow_enough
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.remote.http import EndpointError
from open_exaone.rollout.judge_outage import UNJUDGED, Patience, is_open
from open_exaone.rollout.judging import JudgePool, is_slow
from open_exaone.rollout.provider import Generations, Provider, Seen, prompt_text, requests_for
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.rollout.run import check_verdicts
from open_exaone.rollout.team import Row
from open_exaone.verify.settings import JudgeSettings

Item = TypeVar("Item")
OnEvent = Callable[[dict[str, Any]], None]
Samples = tuple[tuple[Sample, ...], ...]  # [P, k]

STOPPING_BLOCK = 32  # questions between two looks at the interval's width
REPORT_EVERY_S = 1.0


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
        label: what events are reported under.
        until_width: stop a task once its 95 % interval for pass@1 is at most so wide to each side; its questions are
            then taken in an order drawn from its seed, and those that were not asked are left out.

    Returns:
        each task, with the problems that were asked, and their samples; one that could not be had has no reply
        (`missing.is_missing`).

    Raises:
        DataError: the folder is broken, no sample could be generated, or none could be judged.
        EndpointError: the judge model refuses, or is down for longer than its `max_wait_s`.
        RunFolderError: the folder is another evaluation's.
        Interrupted: after Ctrl-C or SIGTERM; what was generated is kept.
    """
    settings = settings or JudgeSettings()
    if len({task.name for task in tasks}) < len(tasks):
        raise ConfigError(f"suite {suite}: two tasks have one name: give each its own")
    seen: Seen = Counter()  # over all tasks, so that a prompt which two of them ask alike is drawn anew
    wanted = [_wanted(task, provider, settings, seen) for task in tasks]
    plan = _plan(tasks, provider, suite, until_width, settings)
    with store.opened(), interrupt.deferred_interrupts():
        keys = {item.place: item.key for items in wanted for item in items}
        samples, others = store.claim(plan, keys)
        lost = {place for place, sample in samples.items() if is_missing(sample)}
        samples = {place: sample for place, sample in samples.items() if place not in lost}
        run = _Run(provider, store, settings, samples, lost, _Progress(label, len(keys), on_event))
        num_done = sum(item.place in samples and run.is_judged(item) for items in wanted for item in items)
        if samples and num_done < len(keys):
            on_event({"message": f"{label}: continuing at sample {num_done:,} of {len(keys):,}"})
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
    """What is there so far."""

    def __init__(
        self,
        provider: Provider,
        store: Store,
        settings: JudgeSettings,
        samples: dict[Place, Sample],
        lost: Set[Place],
        progress: "_Progress",
    ) -> None:
        self.provider, self.store, self.settings = provider, store, settings
        self.samples, self.progress = samples, progress
        self.lost = lost  # samples that an earlier part could not have

    def ask(self, wanted: Sequence[Sequence[Wanted]]) -> None:
        """Generates and judges what is not there, of each task.

        Raises:
            DataError, Interrupted: see `run_tasks`.
        """
        items = [item for task in wanted for item in task]
        missing = [item for item in items if item.place not in self.samples]
        there = [item for item in items if item.place in self.samples]
        unjudged = [item for item in there if not self.is_judged(item)]
        self.progress.count([self.samples[item.place] for item in there if self.is_judged(item)], are_new=False)
        by_place = {item.place: item for item in items}
        started = time.monotonic()
        pool = JudgePool(
            self.samples,
            lambda place, sample: judged(by_place[place].problem, sample, self.settings, by_place[place].judged_by),
            is_slow=lambda place: is_slow(by_place[place].problem),
            patience=Patience(self.settings.endpoint),
            on_judged=self._keep,
        )
        try:
            for item in unjudged:
                self.samples[item.place] = replace(self.samples[item.place], verdict=UNJUDGED)
                pool.add(item.place)
            try:
                with closing(self._generated(missing)) as stream:
                    for item in stream:
                        pool.add(item.place)
                        interrupt.check()
            except EndpointError as error:
                if not self._fails_as_before(error, missing):
                    raise
            pool.finish()
        finally:
            pool.stop()
            if missing:
                self.store.add_part(time.monotonic() - started, self.provider.notes)
        self._fill(missing)
        for task in wanted:
            check_verdicts([sample.verdict for sample in answered(self.samples[item.place] for item in task)])

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
        own: set[Place] = set()  # drawn by this rank
        with closing(self._stream(missing)) as stream:
            for number, generation in stream:
                item = missing[number]
                sample = item.sample(generation, keeps_ids=self.store.keeps_ids)
                self.store.put(sample)
                self.samples[item.place] = sample
                own.add(item.place)
                yield item
        for item in missing:  # what the ranks that drew it could not judge
            if item.place not in own and item.place in self.samples and is_open(self.samples[item.place]):
                yield item

    def _stream(self, missing: Sequence[Wanted]) -> Generations:
        """(place in `missing`, what this rank has drawn); `_receive` gets what others have."""
        provider, keeps_ids = self.provider, self.store.keeps_ids
        if isinstance(provider, LocalProvider) and provider.team is not None:
            return shared_stream(provider, provider.team, missing, self._receive, keeps_ids=keeps_ids)
        return provider.stream([item.request for item in missing])

    def _receive(self, row: Row) -> None:
        """Keeps a sample that another rank has drawn, or its verdict."""
        where = "a row of another rank"
        fields = checked(row, where, ("task", "problem"), ("index",))
        place = Place(fields["task"], fields["problem"], fields["index"])
        if "key" in row:
            self.samples[place] = read_sample(row, where)
            self.store.put(self.samples[place])
            return
        self.samples[place] = with_verdict(self.samples[place], row, where)
        self._keep([place])

    def _keep(self, places: Sequence[Place]) -> None:
        done = [self.samples[place] for place in places]
        self.store.put_verdicts(done)
        self.progress.count(done, are_new=True)

    def is_judged(self, item: Wanted) -> bool:
        """Whether its verdict is the one that it would get now; a verifier that failed may do better."""
        sample = self.samples[item.place]
        return sample.judged_by == item.judged_by and sample.verdict.status not in NO_FINDING

    def _fails_as_before(self, error: EndpointError, missing: Sequence[Wanted]) -> bool:
        """Whether only samples were asked for that could not be had before, of a server that has given others."""
        return (
            bool(self.samples)
            and not error.is_unreachable
            and not error.is_refusal
            and all(item.place in self.lost for item in missing)
        )

    def _fill(self, items: Sequence[Wanted]) -> None:
        """Puts samples without a reply in the places of those that could not be had.

        Raises:
            DataError: there are no others.
        """
        left_out = [item for item in items if item.place not in self.samples]
        if left_out and not answered(self.samples.values()):
            why = f": {self.provider.failure}" if self.provider.failure else ""
            raise DataError(f"no sample could be generated{why}: run the same command again to retry")
        for item in left_out:
            place = item.place
            sample = Sample(item.key, place.task, place.problem, place.index, NO_GENERATION, NO_REPLY, item.judged_by)
            self.samples[place] = sample
        self.progress.count([self.samples[item.place] for item in left_out], are_new=False)


class _Progress:
    """Reports how far a measurement is, at most once a second; threads count at once."""

    def __init__(self, label: str, num_wanted: int, on_event: OnEvent) -> None:
        self._label, self._num_wanted, self._on_event = label, num_wanted, on_event
        self._num_done = self._num_tokens = 0
        self._shares: dict[str, dict[str, Counter[bool]]] = {}  # task -> problem -> how many were correct, or not
        self._started = self._reported = time.monotonic()
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
            if samples and (now - self._reported >= REPORT_EVERY_S or self._num_done == self._num_wanted):
                self._reported = now
                self._report(samples[-1].task, now - self._started)

    def _report(self, task: str, seconds: float) -> None:
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


def _wanted(task: Task, provider: Provider, settings: JudgeSettings, seen: Seen) -> list[Wanted]:
    """Every sample of a task, with the hash of all that fixes what will be generated."""
    requests = requests_for(
        task.problems, provider.tokenizer, task.sampling, thinking=task.thinking, seen=seen, begun=task.begun
    )
    sampling = {name: value for name, value in asdict(task.sampling).items() if name != "num_samples"}
    common = [essence(provider.identity), code_version(), task.thinking, sampling]
    k = task.sampling.num_samples
    wanted = []
    for problem, row in zip(task.problems, _blocks(requests, k), strict=True):
        judged_by = judging_key(problem, settings)
        hashed = hashlib.sha256(json.dumps([*common, prompt_text(row[0])], sort_keys=True).encode())
        for request in row:
            own = hashed.copy()
            own.update(f"#{request.index}{f':{request.occurrence}' * bool(request.occurrence)}".encode())
            place = Place(task.name, problem.id, request.index)
            wanted.append(Wanted(place, problem, request, own.hexdigest()[:32], judged_by))
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
