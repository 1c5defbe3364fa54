"""`exaone data check`: what it prints, writes and ends with; what is wrong for any command of `exaone data`."""

import json
import subprocess
import sys

import pytest

from data.made_up import TALK, THOUGHT, write_rows

RECIPE = """
name = "x"
model = "anywhere"
[data.rows]
{}
[[stages]]
kind = "sft"
name = "sft"
data = "rows"
num_epochs = 1
optimizer = {{ kind = "adamw", learning_rate = 1e-4 }}
"""


def test_check_names_bad_rows_and_ends_with_1(cli, tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [TALK, b"\xff", {"messages": []}, THOUGHT])
    code, said = cli("data", "check", path, "--out", tmp_path / "bad.jsonl")
    assert code == 1
    assert f"{path}: line 2: is not UTF-8" in said and f"{path}: line 3: messages: holds no turn" in said
    assert "4 rows of the format messages: 2 good, 2 bad" in said and "1 in reasoning mode" in said
    written = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(row["number"], row["reason"]) for row in written] == [(2, "not UTF-8"), (3, "empty")]
    assert cli("data", "check", write_rows(tmp_path / "good.jsonl", [TALK]))[0] == 0


def test_check_prints_the_first_bad_rows_and_all_where_asked(cli, tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [TALK, *[{"messages": []}] * 70, b"\xff"])
    code, said = cli("data", "check", path)
    assert code == 1 and "line 51: messages" in said and "line 52: messages" not in said
    assert "line 72: is not UTF-8" in said  # the first of its kind
    assert "… and 20 more bad rows" in said and "70 bad: empty" in said
    assert "line 71: messages" in cli("data", "check", path, "--all")[1]


def test_check_prints_columns_that_are_no_unicode(tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [json.dumps({**TALK, "\udc00": 1}).encode(), b'{"\\udc00": 1}'])
    command = [sys.executable, "-m", "open_exaone", "data", "check", rows]
    with open(tmp_path / "said", "wb") as said:  # a file takes no half surrogate pair
        process = subprocess.run(command, stdout=said, stderr=subprocess.STDOUT, check=False)
    told = (tmp_path / "said").read_text()
    assert process.returncode == 1 and r"the row has \udc00" in told
    assert "columns that are not read: �" in told


def test_check_looks_at_the_replies_that_a_training_learns(cli, tmp_path, tokenizer_folder):
    user, reply = TALK["messages"]
    long = {**reply, "reasoning_content": "So. " * 50}
    rows = write_rows(tmp_path / "rows.jsonl", [{"messages": [user, long, {**user}, reply]}])
    limits = ("--tokenizer", tokenizer_folder, "--max-tokens", 100)
    code, said = cli("data", "check", rows, *limits)
    assert code == 1 and "too long" in said
    (tmp_path / "train.toml").write_text(RECIPE.format(f'turns = "last"\nsources = [{{ path = "{rows}" }}]'))
    assert cli("data", "check", tmp_path / "train.toml", *limits)[0] == 0


def test_check_reads_the_sources_of_a_recipe(cli, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", [{"ask": "Q", "gold": "5"}])
    sources = f'sources = [{{ path = "{rows}", fields = {{ question = "ask", answer = "gold" }} }}]'
    (tmp_path / "train.toml").write_text(RECIPE.format(sources))
    code, said = cli("data", "check", tmp_path / "train.toml")
    assert code == 0 and "1 row of the format problems: 1 good" in said
    assert cli("data", "check", rows, "--field", "question=ask", "--field", "answer=gold")[0] == 0
    code, said = cli("data", "check", tmp_path / "train.toml", "--split", "test")
    assert code == 2 and "leave the flags out" in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("check", "none.jsonl"), 1, "none.jsonl: no such file"),
        (("check", "none.toml"), 2, "none.toml: no such file"),
        (("check", "{rows}", "--field", "question"), 2, "write it as FIELD=COLUMN"),
        (("check", "{rows}", "--field", "ask=question"), 2, "ask: unknown"),
        (("check", "{rows}", "--max-tokens", "5"), 2, "tokens are counted by a tokenizer"),
        (("check", "{rows}", "--format", "pairs"), 1, "mixed schema"),
        (("decontaminate", "{rows}", "--against", "nosuch", "--out", "{out}"), 2, "benchmark 'nosuch': unknown"),
        (("decontaminate", "{rows}", "--against", "{rows}", "--out", "{out}", "--samples", "0"), 2, "at least 1"),
    ],
)
def test_what_is_wrong_is_said(cli, tmp_path, arguments, code, said):
    names = {"rows": write_rows(tmp_path / "rows.jsonl", [TALK]), "out": tmp_path / "out.jsonl"}
    ended, told = cli("data", *(argument.format(**names) for argument in arguments))
    assert (ended, said in told) == (code, True), told
    assert not (tmp_path / "out.jsonl").exists()
