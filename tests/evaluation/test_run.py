"""Running: what is asked, what is kept, what is asked again, and what stops it."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import make_model, make_tokenizer
from evaluation.made_up import MadeUp, half_right, right, sum_problem, sums
from mock_endpoint import endpoint, mock_endpoint
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.interrupt import Interrupted
from open_exaone.base.records import Request, Sampling
from open_exaone.engine.engine import Engine
from open_exaone.evaluation.missing import refuse_missing
from open_exaone.evaluation.run import Samples, run_tasks
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.remote import http
from open_exaone.remote.http import EndpointError
from open_exaone.remote.settings import Endpoint
from open_exaone.rollout import judge_outage
from open_exaone.rollout.provider import Generations
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.verify.settings import JudgeSettings


def measure(folder: Path, tasks: list[Task], provider: MadeUp, **options: object) -> list[tuple[Task, Samples]]:
    return run_tasks(tasks, provider, Store(folder), suite="test", **options)  # type: ignore[arg-type]


def verdicts(done: list[tuple[Task, Samples]]) -> list[list[list[bool]]]:
    return [[[sample.verdict.correct for sample in row] for row in samples] for _, samples in done]


def test_every_sample_is_asked_once_judged_and_kept_in_order(tmp_path: Path) -> None:
    provider = MadeUp(half_right)
    done = measure(tmp_path, [sums(4, 2), sums(2, 1, "more")], provider)
    assert verdicts(done) == [[[True, True], [True, False], [True, True], [True, False]], [[True], [True]]]
    assert len(provider.asked) == 10
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [(row["task"], row["problem"], row["index"]) for row in rows[:3]] == [
        ("sums", "sum/0", 0),
        ("sums", "sum/0", 1),
        ("sums", "sum/1", 0),
    ]
    stored = Store(tmp_path).read()
    assert [(task, samples) for task, samples in zip(stored.tasks, stored.samples, strict=True)] == done
    assert not (tmp_path / "journal.jsonl").exists()


def test_what_is_there_is_not_asked_again_and_more_samples_are_added(tmp_path: Path) -> None:
    measure(tmp_path, [sums(4, 2)], MadeUp(right))
    provider = MadeUp(right)
    assert verdicts(measure(tmp_path, [sums(4, 2)], provider)) == [[[True, True]] * 4]
    assert provider.asked == []
    measure(tmp_path, [sums(5, 3)], provider)
    assert len(provider.asked) == 5 * 3 - 4 * 2


@pytest.mark.parametrize(
    ("task", "model", "differs"),
    [
        (sums(4, 2, temperature=0.7), "made up", "temperature"),
        (sums(4, 2, seed=1), "made up", "seed"),
        (sums(4, 2), "another", "model.model"),
    ],
)
def test_a_folder_with_another_evaluation_s_samples_is_refused(
    tmp_path: Path, task: Task, model: str, differs: str
) -> None:
    measure(tmp_path, [sums(4, 2)], MadeUp(right))
    before = (tmp_path / "samples.jsonl").read_bytes()
    with pytest.raises(RunFolderError, match=f"not what this evaluation would give.*{differs}.*--out"):
        measure(tmp_path, [task], MadeUp(right, model))
    assert (tmp_path / "samples.jsonl").read_bytes() == before


def test_fewer_samples_may_be_asked_for_and_the_others_are_kept(tmp_path: Path) -> None:
    measure(tmp_path, [sums(40, 3)], MadeUp(half_right))
    before = (tmp_path / "samples.jsonl").read_text().splitlines()
    provider = MadeUp(half_right)
    [(task, samples)] = measure(tmp_path, [sums(4, 2)], provider)
    assert (len(task.problems), len(samples), len(samples[0])) == (4, 4, 2)
    assert Store(tmp_path).read().samples == (samples,)
    [(stopped, _)] = measure(tmp_path, [sums(40, 3)], provider, until_width=0.2)
    assert 32 == len(stopped.problems) and not stopped.is_whole
    measure(tmp_path, [sums(40, 3)], provider)
    assert provider.asked == []
    assert (tmp_path / "samples.jsonl").read_text().splitlines() == before
    assert not (tmp_path / "unused.jsonl").exists()


def test_a_mended_gold_answer_is_judged_by_and_nothing_is_asked_again(tmp_path: Path) -> None:
    task = sums(2, 2)
    wrong = replace(task, problems=tuple(replace(problem, answer="7") for problem in task.problems))
    assert verdicts(measure(tmp_path, [wrong], MadeUp(right))) == [[[False, False]] * 2]
    provider = MadeUp(right)
    assert verdicts(measure(tmp_path, [task], provider)) == [[[True, True]] * 2]
    assert provider.asked == []


def test_a_verifier_that_failed_is_asked_again(tmp_path: Path) -> None:
    judge = tmp_path / "mine.py"
    judge.write_text("def judge(sample):\n    raise RuntimeError('broken')\n")
    task = sums(4, 2)
    own = replace(task, problems=tuple(replace(problem, verifier=f"{judge}:judge") for problem in task.problems))
    with pytest.raises(DataError, match="no reply could be judged"):
        measure(tmp_path / "out", [own, sums(2, 2, "fine")], MadeUp(right))
    judge.write_text("def judge(sample):\n    return 1.0\n")
    provider = MadeUp(right)
    assert verdicts(measure(tmp_path / "out", [own, sums(2, 2, "fine")], provider))[0] == [[True, True]] * 4
    assert provider.asked == []


def test_two_tasks_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two tasks have one name"):
        measure(tmp_path, [sums(), sums(2)], MadeUp(right))


def test_samples_of_other_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(tmp_path, [sums()], MadeUp(right))
    monkeypatch.setattr("open_exaone.evaluation.run.code_version", lambda: "0.0.1+other")
    with pytest.raises(RunFolderError, match="code_version"):
        measure(tmp_path, [sums()], MadeUp(right))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match=r"holds no evaluation.*--out"):
        measure(tmp_path, [sums()], MadeUp(right))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_could_not_be_had_is_missing_and_asked_for_again(tmp_path: Path) -> None:
    broken = MadeUp(right, fail=lambda ask: ask.index == 1)
    ((task, samples),) = measure(tmp_path, [sums()], broken)
    assert [[sample.verdict.correct for sample in row] for row in samples] == [[True, False, True]] * 6
    entry = score_task(task, samples)
    assert entry.missing == tuple(f"{problem.id} #1" for problem in task.problems)
    assert entry.pass_at_1 == pytest.approx(2 / 3)
    assert entry.rates.error.value == pytest.approx(1 / 3)
    provider = MadeUp(right)
    assert verdicts(measure(tmp_path, [sums()], provider)) == [[[True] * 3] * 6]
    assert len(provider.asked) == 6


def test_where_nothing_could_be_had_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sample could be generated: it broke: mend it"):
        measure(tmp_path, [sums()], MadeUp(right, fail=lambda ask: True))


QUESTIONS = [sum_problem(number).question for number in range(6)]


def hangs(question: str, request: dict[str, object]) -> str:
    if question == QUESTIONS[2]:
        time.sleep(5)
    return str(int(question.split()[2]) + 1)


@pytest.mark.parametrize(
    ("settings", "why", "timeout_s"),
    [
        ({"refuse_prompts": QUESTIONS[2:3]}, "answers 400", 60.0),
        ({"fail_prompts": QUESTIONS[2:3]}, "500", 60.0),
        ({}, "timeout_s = 2.5", 2.5),
    ],
    ids=["content filter", "steady 500", "timeout"],
)
def test_one_question_that_is_never_answered_leaves_a_report_of_the_rest(
    tmp_path: Path, settings: dict[str, Any], why: str, timeout_s: float
) -> None:
    reply = hangs if not settings else lambda question, request: str(int(question.split()[2]) + 1)
    with mock_endpoint(reply, **settings) as server:
        for _ in range(2):  # the second time, it alone is asked
            provider = endpoint(server.url, timeout_s=timeout_s, max_attempts=2)
            ((task, samples),) = measure(tmp_path, [sums(6, 1)], provider)
            entry = score_task(task, samples)
            assert (entry.missing, entry.pass_at_1) == (("sum/2 #0",), 5 / 6)
            assert entry.notes == ("1 of 6 samples (sum/2 #0) have no reply and count as not correct",)
            with pytest.raises(
                DataError, match=rf"1 of 6 samples \(sum/2 #0\) have no reply: .*{why}.*asks for them again"
            ):
                refuse_missing([sample for row in samples for sample in row], provider.failure)
    with mock_endpoint(lambda question, request: "3", port=server.server_address[1]) as server:
        assert verdicts(measure(tmp_path, [sums(6, 1)], endpoint(server.url))) == [[[True]] * 6]
        assert len(server.requests) == 1
    with pytest.raises(EndpointError):  # a server that is gone is no property of a question
        measure(tmp_path / "other", [sums(6, 1)], endpoint("http://127.0.0.1:9/v1"))


def test_a_parser_that_swallows_every_answer_is_noted(tmp_path: Path) -> None:
    with mock_endpoint(lambda question, request: {"content": None, "reasoning_content": "Hm. 3"}) as server:
        ((task, samples),) = measure(tmp_path, [sums(6, 1)], endpoint(server.url))
    (note,) = score_task(task, samples, of_endpoint=True).notes
    assert "every reply has a thought and no answer" in note and "reasoning parser" in note
    assert score_task(task, samples).notes == ("every reply has a thought and no answer",)  # no server, no parser
    assert score_task(task, samples).notes == ("every reply has a thought and no answer",)  # of this package's engine


def test_a_stop_s_samples_are_kept(tmp_path: Path) -> None:
    provider = MadeUp(right)

    def interrupting(ask: object) -> str:
        if len(provider.asked) == 5:
            signal.raise_signal(signal.SIGINT)
        return right(ask)  # type: ignore[arg-type]

    provider.answer = interrupting
    with pytest.raises(Interrupted):
        measure(tmp_path, [sums()], provider)
    later = MadeUp(right)
    assert verdicts(measure(tmp_path, [sums()], later)) == [[[True] * 3] * 6]
    assert len(later.asked) == 18 - 5


def test_a_cut_line_is_forgotten_and_the_lines_after_it_are_whole(tmp_path: Path) -> None:
    def breaking(index: int) -> MadeUp:
        provider = MadeUp(right)
        provider.answer = lambda ask: right(ask) if len(provider.asked) < 6 + 6 * index else str(1 / 0)
        return provider

    with pytest.raises(ZeroDivisionError):
        measure(tmp_path, [sums()], breaking(0))
    journal = tmp_path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    generations = [line for line in lines if b'"key"' in line]
    journal.write_bytes(b"".join(generations[:-1]) + generations[-1][:40])
    with pytest.raises(ZeroDivisionError):
        measure(tmp_path, [sums()], breaking(1))
    provider = MadeUp(right)
    assert verdicts(measure(tmp_path, [sums()], provider)) == [[[True] * 3] * 6]
    assert len(provider.asked) == 18 - 4 - 11  # those that failed, and the one that was cut


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    with Store(tmp_path).opened(), pytest.raises(RunFolderError, match="another process measures into it"):
        measure(tmp_path, [sums()], MadeUp(right))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"key": 1}', "line 1: field 'key' must be a text"),
        ("[]", "line 1: is no sample"),
        ("no json", "line 1: not valid JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    measure(tmp_path, [sums()], MadeUp(right))
    (tmp_path / "samples.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=f"samples.jsonl: {complaint}"):
        Store(tmp_path).read()


def test_measuring_stops_once_the_interval_is_narrow_enough(tmp_path: Path) -> None:
    [(task, samples)] = measure(tmp_path, [sums(400, 1)], MadeUp(right), until_width=0.05)
    assert 32 <= len(task.problems) == len(samples) < 400
    numbers = [int(problem.id.removeprefix("sum/")) for problem in task.problems]
    assert numbers == sorted(numbers)
    assert numbers[-1] > len(numbers)  # drawn, not the first ones
    provider = MadeUp(right)
    assert measure(tmp_path, [sums(400, 1)], provider, until_width=0.05) == [(task, samples)]
    assert provider.asked == []


def test_problems_with_one_prompt_get_samples_of_their_own(tmp_path: Path) -> None:
    twin = sum_problem(1)
    task = sums(2, 2)
    twins = Task(
        "t", "t", (*task.problems, type(twin)("twin", "sum", "en", twin.question, "0", "math")), task.sampling, True
    )
    [(_, samples)] = measure(tmp_path, [twins], MadeUp(right))
    assert [row[0].verdict.correct for row in samples] == [True, True, False]


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.store import Store
from evaluation.made_up import MadeUp, half_right, sums
provider = MadeUp(half_right)
provider.pause_s = 0.002
log = open({log!r}, "a")
answer = provider.answer
def told(ask):
    log.write(f"{{ask.messages}} {{ask.index}}\\n"); log.flush()
    return answer(ask)
provider.answer = told
run_tasks([sums(40, 4)], provider, Store(Path({folder!r})), suite="test")
"""


NUM_KILLS = 6


def test_killed_again_and_again_it_ends_in_the_same_samples(tmp_path: Path) -> None:
    whole, cut, log = tmp_path / "whole", tmp_path / "cut", tmp_path / "log"
    measure(whole, [sums(40, 4)], MadeUp(half_right))
    script = SCRIPT.format(tests=str(Path(__file__).parents[1]), log=str(log), folder=str(cut))
    draw = random.Random(3)
    for _ in range(NUM_KILLS):
        before = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", script])
        while process.poll() is None and (not log.exists() or log.stat().st_size == before):
            time.sleep(0.002)  # until it has generated something
        time.sleep(draw.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        if (cut / "samples.jsonl").exists():
            break
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (cut / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    asked = log.read_text().splitlines()
    assert len(asked) - len(set(asked)) <= NUM_KILLS  # at most the one in the making at each kill


def test_ids_and_log_probabilities_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    def run(name: str, provider: MadeUp, keeps_ids: bool) -> Samples:
        store = Store(tmp_path / name, keeps_ids=keeps_ids)
        [(_, samples)] = run_tasks([sums(3, 2)], provider, store, suite="test")
        assert store.read().samples == (samples,)
        return samples

    kept = run("with", MadeUp(right), True)
    assert [[sample.generation.ids for sample in row] for row in kept] == [[(0,) * 7, (1,) * 7]] * 3
    assert kept[0][0].generation.logprobs == (-0.5,) * 7
    again = MadeUp(right)
    assert run("with", again, True) == kept and again.asked == []
    assert run("without", MadeUp(right), False)[0][0].generation.ids is None
    assert run("without", again, True) == kept and len(again.asked) == 6  # what lacks them is generated again


@pytest.mark.parametrize("ids", ["[1]", "7", '["1", 2, 3, 4, 5, 6, 7]'])
def test_stored_ids_are_not_trusted(tmp_path: Path, ids: str) -> None:
    run_tasks([sums(1, 1)], MadeUp(right), Store(tmp_path, keeps_ids=True), suite="test")
    file = tmp_path / "samples.jsonl"
    file.write_text(file.read_text().replace('"ids": [0, 0, 0, 0, 0, 0, 0]', f'"ids": {ids}'))
    with pytest.raises(DataError, match="line 1: field 'ids' must"):
        Store(tmp_path).read()


def test_a_question_that_stands_twice_is_asked_as_two(tmp_path: Path) -> None:
    twin = replace(sum_problem(1), id="twin")
    provider = MadeUp(right)
    [(_, samples)] = measure(tmp_path, [replace(sums(2, 2), problems=(*sums(2, 2).problems, twin))], provider)
    asked = {(request.messages[0]["content"], request.index, request.occurrence) for request in provider.asked}
    assert len(asked) == 6 and ("What is 1 + 1?", 0, 1) in asked
    assert len({sample.key for row in samples for sample in row}) == 6


def test_a_question_of_two_tasks_is_drawn_anew_where_they_ask_alike(tmp_path: Path) -> None:
    """Under other sampling, such as another budget, it keeps its numbers, so that only what was changed differs."""
    budget = sums(2, 2, "budget", thinking_budget=9)
    tasks = [sums(2, 2), sums(2, 1, "more"), replace(sums(2, 2, "plain"), thinking=False), budget]
    provider = MadeUp(right)
    measure(tmp_path, tasks, provider)
    asked = [(r.thinking, r.sampling.thinking_budget, r.occurrence, r.index) for r in provider.asked]
    assert len(set(asked)) == 7 and max(occurrence for _, _, occurrence, _ in asked) == 1
    assert asked.count((True, None, 1, 0)) == 2 and asked.count((True, 9, 0, 1)) == 2


def test_an_evaluation_that_was_cut_ends_in_the_very_samples_of_the_engine(tmp_path: Path) -> None:
    """Whatever was there at the cut, and in whatever order; questions stand twice, in one task and in two."""

    class Cut(BaseException):
        pass

    class Cutting(LocalProvider):
        def stream(self, requests: Sequence[Request]) -> Generations:
            draw = random.Random(len(requests))
            order = draw.sample(range(len(requests)), len(requests))
            some = super().stream([requests[place] for place in order])
            for place, generation in itertools.islice(some, 5):
                yield order[place], generation
            raise Cut

    def provider(kind: type[LocalProvider], num_slots: int) -> LocalProvider:
        return kind(Engine(make_model(), make_tokenizer(), num_slots=num_slots), weights="w")

    sampling = Sampling(20, temperature=1.0, top_p=1.0, num_samples=4)
    twin = replace(sum_problem(1), id="twin")
    tasks = [replace(sums(2, name=n), sampling=sampling, problems=(*sums(2).problems, twin)) for n in ("a", "b")]
    measure(tmp_path / "whole", tasks, provider(LocalProvider, 16))
    for num_slots in (3, 7, 2):
        with pytest.raises(Cut):
            measure(tmp_path / "cut", tasks, provider(Cutting, num_slots))
    done = measure(tmp_path / "cut", tasks, provider(LocalProvider, 5))
    assert (tmp_path / "cut" / "samples.jsonl").read_bytes() == (tmp_path / "whole" / "samples.jsonl").read_bytes()
    replies = [(s.generation.reply.thought, s.generation.num_tokens) for _, rows in done for row in rows for s in row]
    assert len(set(replies)) == len(replies) == 24


def test_a_judge_model_that_is_down_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its samples are kept meanwhile, and no verdict is an error."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 1e-3)
    task = replace(sums(3, 2), problems=tuple(replace(p, verifier="rule_then_judge") for p in sums(3).problems))
    with mock_endpoint(lambda question, _: "SAME", error_share=1.0) as judge:
        up = {**judge.settings, "error_share": 0.0}
        monkeypatch.setattr(judge_outage, "_sleep", lambda seconds: setattr(judge, "settings", up))
        settings = JudgeSettings(endpoint=Endpoint(base_url=judge.url, model="m", max_attempts=1))
        provider = MadeUp(lambda request: r"\boxed{many}")
        [(_, samples)] = run_tasks([task], provider, Store(tmp_path), settings, suite="test")
    assert all(sample.verdict.correct for row in samples for sample in row)


def test_a_judge_model_that_refuses_ends_it_and_the_samples_are_kept(tmp_path: Path) -> None:
    task = replace(sums(3, 2), problems=tuple(replace(p, verifier="rule_then_judge") for p in sums(3).problems))
    with mock_endpoint(lambda question, _: "SAME") as judge:
        wrong = Endpoint(base_url=judge.url.replace("/v1", "/v2"), model="m", max_attempts=1)
        provider = MadeUp(lambda request: r"\boxed{many}")
        with pytest.raises(EndpointError, match="the judge model refuses: .*404.*the samples are saved"):
            run_tasks([task], provider, Store(tmp_path), JudgeSettings(endpoint=wrong), suite="test")
        settings = JudgeSettings(endpoint=wrong.model_copy(update={"base_url": judge.url}))
        provider = MadeUp(lambda request: pytest.fail("it is asked again"))
        [(_, samples)] = run_tasks([task], provider, Store(tmp_path), settings, suite="test")
    assert all(sample.verdict.correct for row in samples for sample in row)
