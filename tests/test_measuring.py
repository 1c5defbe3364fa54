"""Whole measurements against an endpoint that answers gold, wrong, cut, in another language, or fails."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import open_exaone as ox
from mock_endpoint import mock_endpoint
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.registry import load_problems
from tasks.benchmarks.constraint_replies import CONTRADICTORY
from tasks.benchmarks.replies import gold_reply, wrong_reply
from tasks.benchmarks.rows import MADE_UP, write_rows

DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
REAL = {  # benchmark -> its file, and so many problems
    "csat_2025_math": ("csat/csat_math_2025_transcribed.jsonl", 46),
    "math_500": ("math/math500.jsonl", 40),
    "aime_2025": ("aime/aime25.jsonl", 30),
    "hmmt_feb_2025": ("aime/hmmt_feb_2025.jsonl", 30),
    "mmlu_redux": ("mcq/mmlu_redux.jsonl", 40),
    "mmlu_pro": ("mcq/mmlu_pro_test_questions.jsonl", 40),
    "humaneval": ("code/HumanEval.jsonl.gz", 6),
    "mbpp": ("code/mbpp.jsonl", 6),
    "ifeval": ("ifeval/input_data.jsonl", 40),
}


def math_file(tmp_path: Path, num_rows: int = 12) -> str:
    """MATH-500's schema, with questions of ours."""
    rows = [
        {"problem": f"How much is {number} + 2?", "answer": str(number + 2), "unique_id": f"made/up/{number}.json"}
        for number in range(num_rows)
    ]
    path = tmp_path / "math.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def answering(problems: list[Problem], reply: Callable[[Problem], str]) -> Callable[[str, dict[str, Any]], str]:
    by_question = {problem.question: problem for problem in problems}
    return lambda question, _: reply(by_question[question])


def thinking_first(reply: Callable[[Problem], str]) -> Callable[[Problem], str]:
    return lambda problem: f"<think>\nLet me see.\n</think>\n\n{reply(problem)}"


@pytest.mark.usefixtures("sandbox")
@pytest.mark.parametrize("name", REAL)
def test_gold_answers_score_all_and_wrong_ones_none(name: str, tmp_path: Path) -> None:
    file, limit = REAL[name]
    if not (DATA / file).exists():
        pytest.skip(f"{DATA / file}: not here; OPEN_EXAONE_DATA names the folder")
    problems = load_problems(name, str(DATA / file), limit=limit)
    contradictory = sum(problem.id in CONTRADICTORY for problem in problems)
    for reply, score in ((gold_reply, 1 - contradictory / len(problems)), (wrong_reply, 0.0)):
        with mock_endpoint(answering(problems, thinking_first(reply))) as server:
            report = ox.evaluate(
                server.url, name, rows={name: str(DATA / file)}, limit=limit, num_samples=2, out=tmp_path / str(score)
            )
        assert report["pass_at_1"] == pytest.approx(score)
        assert (report["num_problems"], report["k"]) == (limit, 2)
        low, high = report["ci95"]
        assert low <= score <= high
    if name == "csat_2025_math":
        assert report["csat"]["mean_points"] == 0


def test_truncated_replies_are_told_apart_from_wrong_ones(tmp_path: Path) -> None:
    file = math_file(tmp_path)
    problems = load_problems("math_500", file)
    with mock_endpoint(answering(problems, thinking_first(gold_reply)), truncate=True) as server:
        report = ox.evaluate(server.url, "math_500", rows={"math_500": file}, out=tmp_path / "out")
    assert report["pass_at_1"] == 0 and report["rates"]["truncated"]["value"] == 1
    assert report["stops"] == {"length": len(problems)}


def test_answers_in_another_language_are_counted(tmp_path: Path) -> None:
    file = math_file(tmp_path)
    problems = load_problems("math_500", file)

    def korean(problem: Problem) -> str:
        return f"차근차근 더해 보면 답이 나옵니다. 그래서 정답은 \\boxed{{{problem.answer}}} 입니다."

    for reply, share in ((korean, 1.0), (lambda p: f"Adding them step by step gives us \\boxed{{{p.answer}}}.", 0.0)):
        with mock_endpoint(answering(problems, reply)) as server:
            out = tmp_path / f"out-{share}"
            report = ox.evaluate(server.url, "math_500", rows={"math_500": file}, out=out)
        assert report["pass_at_1"] == 1
        assert report["rates"]["language_mismatch"]["value"] == share


def test_an_endpoint_that_fails_one_time_in_five_gives_the_same_report(tmp_path: Path) -> None:
    file = math_file(tmp_path, 40)
    problems = load_problems("math_500", file)

    def half_right(problem: Problem) -> str:
        return gold_reply(problem) if int(problem.answer) % 2 else wrong_reply(problem)

    reports = []
    for share in (0.0, 0.2):
        with mock_endpoint(answering(problems, half_right), error_share=share) as server:
            report = ox.evaluate(
                server.url, "math_500", rows={"math_500": file}, num_samples=3, out=tmp_path / str(share)
            )
            assert (server.num_errors > 0) == (share > 0)
            assert set(server.num_by_prompt.values()) == {3}
        reports.append({key: report[key] for key in ("pass_at_1", "ci95", "cons_at", "pass_at", "rates", "tokens")})
    assert reports[0] == reports[1]
    assert reports[0]["pass_at_1"] == 0.5


def test_what_an_endpoint_cannot_do_is_in_the_report(tmp_path: Path) -> None:
    file = math_file(tmp_path)
    problems = load_problems("math_500", file)
    with mock_endpoint(answering(problems, gold_reply), refuse_fields=("seed", "chat_template_kwargs")) as server:
        report = ox.evaluate(server.url, "math_500", rows={"math_500": file}, out=tmp_path / "out")
    assert report["pass_at_1"] == 1
    assert any("seed" in note for note in report["model"]["notes"])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"suite": None}, "choose what to measure"),
        ({"suite": "math_501"}, "--suite math_501: unknown.*The suites are"),
        ({"num_samples": 0}, "--samples 0"),
        ({"limit": 0}, "--limit 0"),
        ({"rows": {"aime_2025": "x"}}, "--rows aime_2025: not in suite math_500"),
        ({"rows": {"math_500": "nowhere.jsonl"}}, "nowhere.jsonl"),
        ({"stage": "sft"}, "--stage sft: an endpoint has no stages"),
        ({"engine": "vllm"}, "--engine vllm: .* is an endpoint itself"),
        ({"until_width": 2.0}, "--until-width 2.0"),
    ],
)
def test_contradictory_wishes_are_refused(options: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    wishes: dict[str, Any] = {"suite": "math_500", "rows": {"math_500": math_file(tmp_path)}, **options}
    with mock_endpoint(lambda question, _: "5") as server:
        with pytest.raises((ConfigError, DataError), match=complaint):
            ox.evaluate(server.url, wishes.pop("suite"), out=tmp_path / "out", **wishes)
        assert server.requests == []


def test_a_folder_is_judged_anew_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from open_exaone.cli.main import main

    file = math_file(tmp_path)
    problems = load_problems("math_500", file)
    with mock_endpoint(answering(problems, gold_reply)) as server:
        for out in ("one", "two"):
            ox.evaluate(server.url, "math_500", rows={"math_500": file}, out=tmp_path / out)
        before = (tmp_path / "one" / "samples.jsonl").read_bytes()
        num_requests = len(server.requests)
        with pytest.raises(SystemExit) as ended:
            main(["eval", "--rescore", str(tmp_path / "one"), "--compare", "--against", str(tmp_path / "two")])
        assert ended.value.code == 0 and len(server.requests) == num_requests
    assert (tmp_path / "one" / "samples.jsonl").read_bytes() == before
    told = capsys.readouterr().out
    assert "EXAONE Deep 32B" in told and "100.0%" in told


def test_every_benchmark_without_rows_here_is_named_with_its_mend(tmp_path: Path) -> None:
    with mock_endpoint(lambda question, _: "5") as server, pytest.raises(DataError) as failure:
        ox.evaluate(server.url, "exaone-deep", rows={"csat_2025_math": "none.jsonl"}, out=tmp_path / "out")
    for name in ("math_500", "csat_2025_math", "aime_2024", "gpqa_diamond"):
        assert f"- {name}: " in str(failure.value)


def test_other_samples_go_to_another_folder_and_more_of_the_same_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = math_file(tmp_path)
    with mock_endpoint(answering(load_problems("math_500", file), gold_reply)) as server:
        first = ox.evaluate(server.url, "math_500", rows={"math_500": file})
        more = ox.evaluate(server.url, "math_500", rows={"math_500": file}, num_samples=2)
        other = ox.evaluate(server.url, "math_500", rows={"math_500": file}, seed=1)
        assert first["folder"] == more["folder"] != other["folder"]
        assert len(server.requests) == 12 + 12 + 12
        with pytest.raises(RunFolderError, match="seed"):
            ox.evaluate(server.url, "math_500", rows={"math_500": file}, seed=2, out=first["folder"])


def num_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_killed_again_and_again_it_ends_in_the_same_report(tmp_path: Path) -> None:
    file = math_file(tmp_path, 60)
    problems = load_problems("math_500", file)
    draw = random.Random(5)
    with mock_endpoint(answering(problems, gold_reply), latency_s=0.02) as server:
        command = [sys.executable, "-m", "open_exaone", "eval", server.url, "--suite", "math_500"]
        command += ["--rows", f"math_500={file}", "--samples", "4", "--concurrency", "4", "--out"]
        subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
        num_kills = 0
        journal = tmp_path / "cut" / "journal.jsonl"
        for _ in range(6):
            before = num_lines(journal)
            process = subprocess.Popen([*command, str(tmp_path / "cut")], stdout=subprocess.DEVNULL)
            while process.poll() is None and num_lines(journal) == before:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.1))  # of 1.2 seconds
            if process.poll() is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            num_kills += 1
        subprocess.run([*command, str(tmp_path / "cut")], check=True, capture_output=True)
        num_asked = len(server.requests)
    assert num_kills >= 2  # a busy machine may let the last of them end before it is killed
    # At a kill up to 4 requests are in flight, and up to 4 replies have arrived that are not yet written.
    assert num_asked <= 2 * 240 + 8 * num_kills
    whole, cut = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("whole", "cut"))
    for report in (whole, cut):
        del report["started"], report["seconds"]
    assert whole == cut
    assert (tmp_path / "whole" / "samples.jsonl").read_bytes() == (tmp_path / "cut" / "samples.jsonl").read_bytes()


def test_a_benchmark_of_ones_own_needs_no_code(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"frage": "What is 2 + 3?", "antwort": "5"}])
    described = tmp_path / "mine.toml"
    described.write_text(
        'name = "mine"\nwhat = "Sums."\nlanguage = "en"\njudge = "math"\nfile = "rows.jsonl"\n'
        '[fields]\nquestion = "frage"\nanswer = "antwort"\n',
        encoding="utf-8",
    )
    with mock_endpoint(lambda question, _: r"\boxed{5}") as server:
        assert ox.evaluate(server.url, str(described), out=tmp_path / "out")["pass_at_1"] == 1


def test_made_up_rows_are_enough_to_run(tmp_path: Path) -> None:
    assert "gpqa_diamond" in MADE_UP
    write_rows(tmp_path / "gpqa.jsonl", MADE_UP["gpqa_diamond"])
    problems = load_problems("gpqa_diamond", str(tmp_path / "gpqa.jsonl"))
    with mock_endpoint(answering(problems, gold_reply)) as server:
        report = ox.evaluate(
            server.url, "gpqa_diamond", rows={"gpqa_diamond": str(tmp_path / "gpqa.jsonl")}, out=tmp_path / "out"
        )
    assert report["pass_at_1"] == 1


def command(*arguments: object) -> tuple[int, str]:
    """The command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "open_exaone", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--samples", "4"], "--samples: --rescore generates nothing"),
        (["--suite", "math_500"], "--suite: --rescore generates nothing"),
        (["--kind", "choice"], "--kind choice: is for --rescore FILE"),
        (["--shared-only"], "--shared-only: needs --against"),
        (["--out", "x"], "--out x: the new verdicts of an evaluation's folder stay in it"),
        (["--against", "nowhere"], "nowhere: holds no evaluation"),
    ],
)
def test_flags_that_judging_anew_cannot_heed_are_refused(flags: list[str], complaint: str, tmp_path: Path) -> None:
    file = math_file(tmp_path)
    with mock_endpoint(answering(load_problems("math_500", file), gold_reply)) as server:
        ox.evaluate(server.url, "math_500", rows={"math_500": file}, out=tmp_path / "out")
    code, told = command("eval", "--rescore", tmp_path / "out", *flags)
    assert code in (1, 2) and complaint in told and "Traceback" not in told


def test_flags_are_checked_before_anything_is_asked(tmp_path: Path) -> None:
    file = math_file(tmp_path)
    with mock_endpoint(lambda question, _: "5") as server:
        asked = ["eval", server.url, "--suite", "math_500", "--rows", f"math_500={file}", "--out", tmp_path / "out"]
        for flags, complaint in [
            (["--against", tmp_path / "nowhere"], "holds no evaluation"),
            (["--device", "cpu"], "a server has its own"),
            (["--engine-option", "4"], "write it as NAME=VALUE"),
            (["--engine-option", "colour=red"], "colour"),
            (["--rescore", tmp_path], "generates nothing: leave the model"),
        ]:
            code, told = command(*asked, *flags)
            assert code in (1, 2) and complaint in told and "Traceback" not in told, told
        assert server.requests == []


def test_a_suite_s_settings_reach_the_endpoint(tmp_path: Path) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(
        'name = "mine"\nwhat = "Ours."\n[defaults]\nk = 2\ntemperature = 0.7\ntop_p = 0.9\npresence_penalty = 1.5\n'
        'max_new_tokens = 777\nseed = 5\n[[tasks]]\nbenchmark = "math_500"\n',
        encoding="utf-8",
    )
    file = math_file(tmp_path, 3)
    with mock_endpoint(answering(load_problems("math_500", file), gold_reply)) as server:
        report = ox.evaluate(server.url, str(suite), rows={"math_500": file}, out=tmp_path / "out")
    wanted = {"temperature": 0.7, "top_p": 0.9, "presence_penalty": 1.5, "max_tokens": 777}
    assert all({name: request[name] for name in wanted} == wanted for request in server.requests)
    assert len({request["seed"] for request in server.requests}) == 6
    assert (report["k"], report["presence_penalty"], report["seed"]) == (2, 1.5, 5)


def test_judging_anew_keeps_what_was_set_beside(tmp_path: Path) -> None:
    file = math_file(tmp_path)
    with mock_endpoint(answering(load_problems("math_500", file), gold_reply)) as server:
        ox.evaluate(server.url, "math_500", rows={"math_500": file}, compare=True, out=tmp_path / "out")
    before = json.loads((tmp_path / "out" / "report.json").read_text())
    code, told = command("eval", "--rescore", tmp_path / "out")
    assert code == 0 and "no verdict changed" in told
    after = json.loads((tmp_path / "out" / "report.json").read_text())
    assert after == before and len(after["tasks"][0]["published"]) >= 10


def test_a_part_of_a_benchmark_is_not_said_to_be_within(tmp_path: Path) -> None:
    file = math_file(tmp_path)
    with mock_endpoint(answering(load_problems("math_500", file), gold_reply)) as server:
        report = ox.evaluate(server.url, "math_500", rows={"math_500": file}, limit=5, compare=True, out=tmp_path / "o")
    assert not report["is_whole"]
    assert {row["within"] for row in report["published"]} == {None}


def test_a_stored_evaluation_may_not_choose_code(tmp_path: Path) -> None:
    from open_exaone.base.errors import DataError
    from open_exaone.pipeline.rescore import rescore_folder

    file, folder, mine = math_file(tmp_path, 3), tmp_path / "out", tmp_path / "mine.py"
    with mock_endpoint(answering(load_problems("math_500", file), gold_reply)) as server:
        ox.evaluate(server.url, "math_500", rows={"math_500": file}, out=folder)
    mine.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef f(sample):\n    return 0\n")
    problems = folder / "problems.jsonl"
    problems.write_text(problems.read_text().replace('"math"', json.dumps(f"{mine}:f")))
    with pytest.raises(DataError, match=f"a row of data may not choose: name it .*--kind {mine}:f"):
        rescore_folder(folder)
    assert not (tmp_path / "ran").exists()
    rescore_folder(folder, kind=f"{mine}:f")
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("field", ["model", "tasks", "seconds", "notes", "suite", "judge"])
@pytest.mark.parametrize("value", [None, 7, "x", [[]], {"a": 1}])
def test_an_edited_folder_is_explained_or_judged(field: str, value: object, tmp_path: Path) -> None:
    from open_exaone.base.errors import OpenExaoneError
    from open_exaone.pipeline.rescore import rescore_folder

    file = math_file(tmp_path, 3)
    with mock_endpoint(answering(load_problems("math_500", file), gold_reply)) as server:
        ox.evaluate(server.url, "math_500", rows={"math_500": file}, out=tmp_path / "out")
    samples = (tmp_path / "out" / "samples.jsonl").read_bytes()
    plan = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    (tmp_path / "out" / "evaluation.json").write_text(json.dumps({**plan, field: value}))
    told = "evaluation.json"
    try:
        rescore_folder(tmp_path / "out")
    except OpenExaoneError as error:
        told = str(error)
    assert "evaluation.json" in told
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == samples
