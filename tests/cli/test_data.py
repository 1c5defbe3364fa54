"""`exaone data`: what it prints, writes and ends with."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data.made_up import PROBLEM, TALK, THOUGHT, write_rows
from doubles import make_tokenizer
from open_exaone.cli.main import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main(["data", *map(str, arguments)])
    out, err = capsys.readouterr()
    return exit_.value.code, re.sub(r"\s+", " ", out + err)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    make_tokenizer().save(folder)
    return folder


def test_check_names_bad_rows_and_ends_with_1(capsys, tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [TALK, b"\xff", {"messages": []}, THOUGHT])
    code, said = run(capsys, "check", path, "--out", tmp_path / "bad.jsonl")
    assert code == 1
    assert f"{path}: line 2: is not UTF-8" in said and f"{path}: line 3: messages: holds no turn" in said
    assert "4 rows of the format messages: 2 good, 2 bad" in said and "1 with a thought" in said
    written = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(row["number"], row["reason"]) for row in written] == [(2, "not UTF-8"), (3, "empty")]
    assert run(capsys, "check", write_rows(tmp_path / "good.jsonl", [TALK]))[0] == 0


def test_check_prints_the_first_bad_rows_and_all_where_asked(capsys, tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [TALK, *[{"messages": []}] * 70, b"\xff"])
    code, said = run(capsys, "check", path)
    assert code == 1 and "line 51: messages" in said and "line 52: messages" not in said
    assert "line 72: is not UTF-8" in said  # the first of its kind
    assert "… and 20 more bad rows" in said and "70 bad: empty" in said
    assert "line 71: messages" in run(capsys, "check", path, "--all")[1]


def test_check_prints_columns_that_are_no_unicode(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [json.dumps({**TALK, "\udc00": 1}).encode(), b'{"\\udc00": 1}'])
    command = [sys.executable, "-m", "open_exaone", "data", "check", rows]
    with open(tmp_path / "said", "wb") as said:  # a file takes no half surrogate pair
        process = subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, check=False)
    told = (tmp_path / "said").read_text()
    assert process.returncode == 1 and r"the row has \udc00" in told
    assert "columns that are not read: �" in told


def test_check_looks_at_the_replies_that_a_training_learns(capsys, tmp_path, tokenizer):
    user, reply = TALK["messages"]
    long = {**reply, "reasoning_content": "So. " * 50}
    rows = write_rows(tmp_path / "rows.jsonl", [{"messages": [user, long, {**user}, reply]}])
    limits = ("--tokenizer", tokenizer, "--max-tokens", 100)
    code, said = run(capsys, "check", rows, *limits)
    assert code == 1 and "too long" in said
    (tmp_path / "train.toml").write_text(f'[data]\nturns = "last"\nsources = [{{ path = "{rows}" }}]\n')
    assert run(capsys, "check", tmp_path / "train.toml", *limits)[0] == 0


def test_check_reads_the_sources_of_a_training(capsys, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [{"ask": "Q", "gold": "5"}])
    (tmp_path / "train.toml").write_text(
        f'name = "x"\n[data]\nsources = [{{ path = "{rows}", fields = {{ question = "ask", answer = "gold" }} }}]\n'
    )
    code, said = run(capsys, "check", tmp_path / "train.toml")
    assert code == 0 and "1 rows of the format problems: 1 good" in said
    assert run(capsys, "check", rows, "--field", "question=ask", "--field", "answer=gold")[0] == 0
    code, said = run(capsys, "check", tmp_path / "train.toml", "--split", "test")
    assert code == 2 and "leave the flags out" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("check", "none.jsonl"), 1, "none.jsonl: no such file"),
        (("check", "none.toml"), 2, "none.toml: no such file"),
        (("check", "{rows}", "--field", "question"), 2, "write it as OURS=COLUMN"),
        (("check", "{rows}", "--field", "ask=question"), 2, "ask: unknown"),
        (("check", "{rows}", "--max-tokens", "5"), 2, "tokens are counted by a tokenizer"),
        (("check", "{rows}", "--format", "pairs"), 1, "mixed schema"),
        (("decontaminate", "{rows}", "--against", "nosuch", "--out", "{out}"), 2, "benchmark 'nosuch': unknown"),
        (("decontaminate", "{rows}", "--against", "{rows}", "--out", "{out}", "--samples", "0"), 2, "at least 1"),
    ],
)
def test_what_is_wrong_is_said(capsys, tmp_path, arguments, code, said):
    names = {"rows": write_rows(tmp_path / "rows.jsonl", [TALK]), "out": tmp_path / "out.jsonl"}
    ended, told = run(capsys, *(argument.format(**names) for argument in arguments))
    assert (ended, said in told) == (code, True), told
    assert not (tmp_path / "out.jsonl").exists()


def test_stats_tell_lengths_by_domain_and_mode(capsys, tmp_path, tokenizer):
    rows = [{**TALK, "about": "sums"}] * 3 + [{**THOUGHT, "about": "thoughts"}]
    path, out = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "lengths.json"
    code, said = run(capsys, "stats", path, "--tokenizer", tokenizer, "--field", "domain=about", "--out", out)
    assert code == 0 and "sums" in said and "thoughts" in said
    groups = {(group["domain"], group["mode"]): group for group in json.loads(out.read_text())["groups"]}
    talk = len(make_tokenizer().render(TALK["messages"]))
    assert groups["sums", None]["tokens"]["count"] == 3 and groups["sums", None]["tokens"]["max"] == talk
    assert groups["thoughts", "reasoning"]["thought_tokens"]["max"] == len(make_tokenizer().encode("2 + 3 = 5"))
    problems = write_rows(tmp_path / "problems.jsonl", [PROBLEM, {"question": "Q?", "answer": "5"}])
    run(capsys, "stats", problems, "--tokenizer", tokenizer, "--out", out)
    assert json.loads(out.read_text())["groups"][-1]["tokens"]["count"] == 2  # with and without a solution


def test_decontaminate_leaves_out_what_a_benchmark_asks(capsys, tmp_path):
    item = "A train leaves at noon and travels at sixty miles an hour towards a town that is far away."
    held = {"messages": [{"role": "user", "content": f"Solve: {item.upper()}"}, {"role": "assistant", "content": "5"}]}
    rows = write_rows(tmp_path / "rows.jsonl", [TALK, b"\xff", held, THOUGHT])
    items = write_rows(tmp_path / "items.jsonl", [{"problem": item, "answer": "5"}])
    out = tmp_path / "kept.jsonl"
    code, said = run(capsys, "decontaminate", rows, "--against", items, "--out", out, "--samples", "all")
    assert code == 1 and "line 2: is not UTF-8" in said and "3 examples, 1 left out" in said
    assert [json.loads(line) for line in out.read_text().splitlines()] == [TALK, THOUGHT]
    report = json.loads((tmp_path / "kept.report.json").read_text())
    assert [(row["line"], row["item"]) for row in report["dropped_rows"]] == [(3, "items:1")]


def test_the_known_overlaps_of_real_files_are_found(capsys, tmp_path):
    data = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "math"
    if not (data / "contamination_exact.json").exists():
        pytest.skip(f"{data} isn't here; set OPEN_EXAONE_DATA to where math/ stands")
    hits = json.loads((data / "contamination_exact.json").read_text())["hits"]
    train = data / "math_prm800k_train_12000.jsonl"
    out, rows = tmp_path / "kept.jsonl", f"math_500={data / 'math500.jsonl'}"
    for seed in (0, 1):
        run(capsys, "decontaminate", train, "--against", "math_500", "--rows", rows, "--out", out, "--seed", seed)
        report = json.loads((tmp_path / "kept.report.json").read_text())
        dropped = {(row["line"] - 1, row["item"].removeprefix("math_500:")) for row in report["dropped_rows"]}
        assert dropped >= {(number, item) for number, _, item in hits[f"math/{train.name}"]}
        assert len(out.read_text().splitlines()) == 12_000 - len(dropped)
