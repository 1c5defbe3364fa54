"""`exaone eval`: a finished run's own measurement, repeated; its flags."""

import json
from dataclasses import replace

import pytest

from evaluation.made_up import MadeUp, right, sums
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Reply, Sample, StopReason, Verdict, VerdictStatus
from open_exaone.cli.eval import EvalArguments
from open_exaone.cli.flags import BenchmarkRows, SamplingFlags
from open_exaone.evaluation.missing import NO_GENERATION, NO_REPLY
from open_exaone.evaluation.report import build_report
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.store import Store
from open_exaone.kernels.build import library
from open_exaone.pipeline.measure import stage_entry
from open_exaone.tasks.benchmarks.registry import load_problems


def test_eval_repeats_a_run_s_own_measurement(cli, finished_run, monkeypatch, tmp_path):
    folder, _ = finished_run
    monkeypatch.chdir(tmp_path)
    code, text = cli("eval", folder)
    assert code == 0
    assert "is the same as the run's own measurement" in text
    code, text = cli("eval", folder, "--suite", "nope")
    assert code == 2 and "data of this run are test, rl, preference, sft, base" in text
    code, text = cli("eval", folder, "--stage", "nope")
    assert code == 2 and "must be one of base, sft, prefer, rl" in text
    code, text = cli("eval", folder, "--engine-option", "weights=int4")
    assert code == 2 and "--engine-option: weights = 'int4': must be one of int8" in text
    code, text = cli("eval", folder, "--engine-option", "weights=int8", "--limit", "2")
    has_kernels = library() is not None
    assert code == (0 if has_kernels else 2) and ("the native engine cannot" not in text) == has_kernels, text


def test_every_flag_reaches_the_measurement():
    given = EvalArguments(
        samples=3,
        budget=[1024, 4096],
        mode="reasoning",
        rows=BenchmarkRows(rows=["math_500=a=b"]),
        drawing=SamplingFlags(top_p=0.5, stop=["\n"], logit_bias=["42=-100", "7=1.5"]),
    )
    choices = given.choices()
    assert (choices.num_samples, choices.budgets, choices.modes) == (3, (1024, 4096), ("reasoning",))
    assert choices.sampling == {"top_p": 0.5, "stop": ["\n"], "logit_bias": {42: -100.0, 7: 1.5}}
    assert choices.rows == {"math_500": "a=b"}
    assert given.changed_from_default() == [
        *("--samples", "--budget", "--mode", "--top-p", "--logit-bias", "--stop", "--rows")
    ]
    with pytest.raises(ConfigError, match="--logit-bias 42: write it as ID=BIAS"):
        SamplingFlags(logit_bias=["42"]).given()


def test_missing_samples_are_named_and_change_the_exit_status(cli, monkeypatch, tmp_path):
    task = sums(2, 1)
    rows = [[Sample("", task.name, problem.id, 0, NO_GENERATION, NO_REPLY)] for problem in task.problems]
    lacking = score_task(task, rows)
    whole = lacking.model_copy(update={"missing": (), "notes": ()})
    for entry, status in ((whole, 0), (lacking, 1)):
        report = build_report([entry], suite="", model={}, code_version="", versions={}, started="", seconds=0)
        monkeypatch.setattr("open_exaone.cli.eval._measure", lambda *args, report=report: (tmp_path, report))
        code, text = cli("eval", "model", "--suite", "nano")
        assert code == status
        assert ("note: sums: 2 of 2 samples (sum/0 #0, sum/1 #0) have no reply" in text) == bool(status)
    assert stage_entry(lacking)["mean_reply_tokens"] is None  # as for the comparison with the run's own measurement


def test_the_lowest_cell_of_a_needle_test_is_a_line_below_the_table(cli, monkeypatch, tmp_path):
    problems = load_problems("needle", "64,2048:kinds=single,depths=3,repeats=4,prompt=plain")
    task = replace(sums(1, 1, name="needle"), problems=tuple(problems))
    answers = {problem.id: "" if problem.id.endswith("2048-0-2-3") else problem.answer for problem in problems}
    rows = [[sample_of(task.name, problem.id, answers[problem.id])] for problem in problems]
    entries = [score_task(task, rows), score_task(sums(1, 1), [[sample_of("sums", "sum/0", "1")]])]
    report = build_report(entries, suite="", model={}, code_version="", versions={}, started="", seconds=0)
    monkeypatch.setattr("open_exaone.cli.eval._measure", lambda *args: (tmp_path, report))
    code, text = cli("eval", "model", "--suite", "nano")
    assert code == 0 and text.count("the lowest cell") == 1
    assert "needle, single: the lowest cell: 3 of 4 at 2,048 tokens, depth 50 %. Report" in text


def sample_of(task: str, problem: str, answer: str) -> Sample:
    status = VerdictStatus.CORRECT if answer else VerdictStatus.WRONG
    generation = Generation(Reply("", answer), StopReason.END, 60, 5, 0)
    return Sample("", task, problem, 0, generation, Verdict(status, answer, ""))


def test_missing_samples_are_named_wherever_replies_are_judged_anew(cli, tmp_path):
    """In a file of another harness, and in an evaluation's folder where a task has no reply at all."""
    file, folder = tmp_path / "replies.jsonl", tmp_path / "folder"
    file.write_text("".join(json.dumps({"reply": reply, "gold": "5"}) + "\n" for reply in ("5", None)))
    lost = MadeUp(right, fail=lambda request: request.sampling.seed == 1)
    run_tasks([sums(2, 1), sums(9, 1, "lost", seed=1)], lost, Store(folder), suite="test")
    for source, out, name in (
        (file, tmp_path / "out", "1 of 2 samples (replies/2 #0)"),
        (folder, folder, "9 of 9 samp"),
    ):
        where = () if source is out else ("--out", out)
        code, text = cli("eval", "--rescore", source, *where)
        assert code == 0 and name in text and "have no reply and count as not correct" in text, text
        page = (out / "report.html").read_text()
        assert name in page[: page.index('id="results"')]


def test_two_evaluations_are_set_side_by_side_on_a_page(cli, tmp_path):
    for name, replies in (("theirs", ("5", "4", "5")), ("ours", ("5", "5", "5"))):
        (tmp_path / name).mkdir()
        rows = [{"reply": reply, "gold": "5", "question": f"Q{n}"} for n, reply in enumerate(replies)]
        (tmp_path / name / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    theirs, ours = tmp_path / "out-theirs", tmp_path / "out-ours"
    assert cli("eval", "--rescore", tmp_path / "theirs" / "r.jsonl", "--out", theirs)[0] == 0
    code, text = cli("eval", "--rescore", tmp_path / "ours" / "r.jsonl", "--out", ours, "--against", theirs)
    assert code == 0 and f"1 gained, 0 lost; side by side: {ours / 'against.html'}" in text, text
    page = (ours / "against.html").read_text()
    assert page.count("<article>") == 1 and ">Q1</p>" in page


def test_a_model_that_is_not_there_is_reported_before_missing_rows(cli, tmp_path) -> None:
    (tmp_path / "empty.jsonl").touch()
    code, text = cli("eval", "no-such-model", "--suite", "math_500", "--rows", f"math_500={tmp_path / 'empty.jsonl'}")
    assert code == 2 and "no-such-model: is neither a model's folder" in text and "empty.jsonl" not in text
