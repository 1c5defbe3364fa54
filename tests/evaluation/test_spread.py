"""Ranks that share out an evaluation's samples keep what one process keeps, byte for byte.

The ranks are threads with an engine each that meet at a store, as processes do; the model is the one that comes along.
"""

import functools
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from open_exaone.base.errors import RankError
from open_exaone.base.files import read_jsonl
from open_exaone.base.interrupt import Interrupted
from open_exaone.base.records import Problem, Sampling, StopReason
from open_exaone.checkpoint.folder import load_model, load_tokenizer
from open_exaone.engine.engine import Engine
from open_exaone.evaluation import spread
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.faithfulness import measure_thoughts
from open_exaone.pipeline.source import resolve_model
from open_exaone.rollout.provider import requests_for
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.tasks.generated import GeneratedSource, draw_problems
from open_exaone.verify.settings import JudgeSettings
from train.parallel.test_jobs import LIMIT_S, meet, together

SETTINGS = JudgeSettings()
WARM = Sampling(60, temperature=1.2, top_p=1.0, num_samples=3, seed=4)


class Counting(LocalProvider):
    """Counts what it has drawn."""

    num_drawn = 0

    def stream(self, requests, **options):
        for place, generation in super().stream(requests, **options):
            self.num_drawn += 1
            yield place, generation


@functools.cache
def problems():
    source = GeneratedSource(families=("worked", "unworked"), num_problems=14)
    return tuple(draw_problems(source, 0, set(), "test", SETTINGS))


def tasks(number=14):
    sampled = Task("sampled", "test", problems()[:number], WARM, True)
    greedy = replace(sampled, name="greedy", sampling=replace(WARM, temperature=0.0, num_samples=1))
    budget = replace(sampled, name="budget", sampling=replace(WARM, thinking_budget=12, num_samples=2))
    return [sampled, greedy, budget, replace(sampled, name="direct", thinking=False)]


def provider(team=None, weights="abc", num_slots=8):
    folder = resolve_model(Path("pebble-0.9m"))
    engine = Engine(load_model(folder, dtype="float32"), load_tokenizer(folder), num_slots=num_slots)
    return Counting(engine, model="pebble", weights=weights, team=team)


def run(folder, team=None, number=14, settings=SETTINGS, keeps_ids=False, own=None, **options):
    store = Store(folder, keeps_ids=keeps_ids)
    return run_tasks(tasks(number), own or provider(team), store, settings, suite="test", **options)


class Patient:
    """The first rank's team, which claims its first chunk of a job behind the other rank's."""

    size = 2

    def __init__(self, world):
        self._world, self.has_begun = world, threading.Event()

    def share(self, head, chunks, on_row):
        self.has_begun.clear()
        job = self._world.share(head, chunks, on_row)
        take, job.take = job.take, lambda: self.has_begun.wait(LIMIT_S) and take()
        return job

    def begin(self, job):
        """On the other rank."""
        take = job.take

        def taken():
            chunk = take()
            self.has_begun.set()
            return chunk

        job.take = taken


def in_two(act, settings=SETTINGS, open_other=provider):
    """Has two ranks do it: the first one's result, what the other drew, and what both ended with."""
    (one, two), other = meet(2), open_other()
    team, results = Patient(one), []
    serve = spread.serving(lambda: other, settings)

    def served(job):
        team.begin(job)
        try:
            return serve(job)
        finally:
            team.has_begun.set()

    ends = together([lambda: one.lead(lambda: results.append(act(team))), lambda: two.lead(lambda: None, served)])
    return results, other.num_drawn, ends


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one process measures: its folder."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder)
    return folder


def test_two_ranks_keep_what_one_process_keeps(whole, tmp_path):
    """Samples, verdicts and their order, of sampled and greedy tasks, under a budget, in both modes."""
    events = []
    [done], num_drawn, ends = in_two(lambda team: run(tmp_path / "two", team, on_event=events.append))
    assert ends == [None, None]
    for name in ("samples.jsonl", "problems.jsonl"):
        assert (tmp_path / "two" / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "two" / "journal.jsonl").exists()
    samples = [sample for _, rows in done for row in rows for sample in row]
    assert len({sample.verdict.status for sample in samples}) >= 3
    assert {sample.generation.stop for sample in samples} > {StopReason.LENGTH, StopReason.BUDGET}
    assert 20 < num_drawn < len(samples)  # the other has its share
    assert events[-1]["step"] == len(samples) == 14 * 9
    assert tuple(rows for _, rows in done) == Store(whole).read().samples


def test_ids_and_log_probabilities_come_too_where_they_are_kept(tmp_path):
    run(tmp_path / "one", number=4, keeps_ids=True)
    _, num_drawn, _ = in_two(lambda team: run(tmp_path / "two", team, number=4, keeps_ids=True))
    assert num_drawn > 0
    assert (tmp_path / "two" / "samples.jsonl").read_bytes() == (tmp_path / "one" / "samples.jsonl").read_bytes()
    assert all(row["ids"] and row["logprobs"] for row in read_jsonl(tmp_path / "two" / "samples.jsonl"))


def test_replies_after_altered_thoughts_are_shared_out_too(tmp_path):
    def measured(folder, team=None):
        own = provider(team)
        done = run(folder, own=own)
        return measure_thoughts(done, own, folder, SETTINGS, suite="test")

    alone = measured(tmp_path / "one")
    [uses], num_drawn, _ = in_two(lambda team: measured(tmp_path / "two", team))
    assert uses == alone and num_drawn > 0
    name = "faithfulness/samples.jsonl"
    assert len(read_jsonl(tmp_path / "one" / name)) > 14
    assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_tasks_stop_at_the_same_question(tmp_path, monkeypatch):
    monkeypatch.setattr("open_exaone.evaluation.run.STOPPING_BLOCK", 4)
    monkeypatch.setattr("open_exaone.evaluation.statistics.MIN_QUESTIONS_TO_STOP", 4)
    alone = run(tmp_path / "one", until_width=0.45)
    [done], num_drawn, _ = in_two(lambda team: run(tmp_path / "two", team, until_width=0.45))
    assert done == alone and num_drawn > 0
    assert any(len(task.problems) < 14 for task, _ in done)


@pytest.mark.parametrize("is_shared_first", [True, False])
def test_what_was_cut_resumes_on_another_number_of_ranks(whole, tmp_path, is_shared_first):
    """What is there is not drawn again, whoever drew it."""

    def cut(event):
        if event.get("step", 0) > 20:
            raise Interrupted

    own = provider()
    monkey = pytest.MonkeyPatch()
    monkey.setattr("open_exaone.evaluation.run.REPORT_EVERY_S", 0.0)
    try:
        if is_shared_first:
            _, _, ends = in_two(lambda team: run(tmp_path, team, on_event=cut))
            assert [type(end) for end in ends] == [Interrupted, Interrupted]
        else:
            with pytest.raises(Interrupted):
                run(tmp_path, on_event=cut)
    finally:
        monkey.undo()
    num_there = sum("key" in row for row in read_jsonl(tmp_path / "journal.jsonl"))
    assert 20 < num_there < 14 * 9
    if is_shared_first:
        run(tmp_path, own=own)
        num_drawn = own.num_drawn
    else:
        shared = []
        _, num_of_other, _ = in_two(lambda team: (shared.append(provider(team)), run(tmp_path, own=shared[0])))
        num_drawn = num_of_other + shared[0].num_drawn
    assert num_drawn == 14 * 9 - num_there
    assert (tmp_path / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()


def test_a_rank_with_another_model_is_refused(tmp_path):
    other = functools.partial(provider, weights="another")
    _, _, (first, second) = in_two(lambda team: run(tmp_path, team), open_other=other)
    assert "rank 1: this rank samples from another model than rank 0 does, which differs in weights" in str(first)
    assert isinstance(first, RankError) and isinstance(second, RankError)


def test_a_rank_judges_what_it_draws_but_for_functions_of_the_user(tmp_path, monkeypatch):
    """Those are left to the first rank."""
    file = tmp_path / "own.py"
    file.write_text("def length(sample):\n    return len(sample['answer']) % 2 == 0\n")
    own = [replace(problem, verifier=f"{file}:length", id=f"own/{problem.id}") for problem in problems()[:6]]
    task = Task("both", "both", (*problems()[:6], *own), WARM, True)
    judges = []

    def judged(problem, sample, settings, judged_by):
        judges.append((problem.id.startswith("own/"), threading.current_thread().name))
        return spread_judged(problem, sample, settings, judged_by)

    spread_judged = spread.judged
    monkeypatch.setattr(spread, "judged", judged)  # the other rank's
    counted = []

    def act(team):
        return run_tasks(
            [task], provider(team), Store(tmp_path / "two"), SETTINGS, suite="test", on_event=counted.append
        )

    _, num_drawn, ends = in_two(act)
    assert ends == [None, None] and num_drawn > 0
    assert judges and not any(is_own for is_own, _ in judges)
    run_tasks([task], provider(), Store(tmp_path / "one"), SETTINGS, suite="test")
    assert (tmp_path / "two" / "samples.jsonl").read_bytes() == (tmp_path / "one" / "samples.jsonl").read_bytes()


def test_chunks_hold_every_sample_once_and_prompts_whole_where_they_can():
    def wanted(number, k):
        problem = [Problem(f"p/{place}", "p", "en", "?", "1", "math") for place in range(number)]
        return [
            spread.Wanted(spread.Place("t", one.id, index), one, None, "", "") for one in problem for index in range(k)
        ]

    for number, k, ranks in ((100, 8, 2), (3, 64, 2), (5, 1, 8), (1000, 1, 4), (1, 1, 2)):
        chunks = list(spread._chunks(wanted(number, k), ranks))
        assert [place for chunk in chunks for place in chunk] == list(range(number * k))
        assert max(map(len, chunks)) <= 2 * spread.MAX_CHUNK
        assert len(chunks) >= min(number * k, 4 * ranks)
    assert all(len(chunk) % 8 == 0 for chunk in spread._chunks(wanted(100, 8), 2))


def test_a_prompt_that_fills_the_context_and_requests_that_come_later_keep_their_places():
    """What the engine gives does not depend on when a request is given to it."""
    one = provider(num_slots=3)
    [task, *_] = tasks()
    asked = requests_for(task.problems[:5], one.tokenizer, replace(WARM, max_new_tokens=30), thinking=True)
    full = replace(asked[0], prompt_ids=tuple(asked[0].prompt_ids) * 200)
    asked = [*asked[:4], full, *asked[4:]]
    at_once = dict(one.stream(asked))
    rest = list(asked)
    num_running = []

    def more(number):
        num_running.append(number)
        return [rest.pop(0) for _ in range(3 - number) if rest]

    lengths = [len(request.prompt_ids) + 30 for request in asked]
    assert dict(one.stream([], more=more, lengths=lengths)) == at_once
    assert sorted(at_once) == list(range(16)) and at_once[4].num_tokens == 0
    assert num_running[0] == 0 < max(num_running)
