"""`exaone data decontaminate`: what it keeps, and what it reports."""

import json
import os
from pathlib import Path

import pytest

from data.made_up import TALK, THOUGHT, write_rows


def test_decontaminate_leaves_out_what_a_benchmark_asks(cli, tmp_path):
    item = "A train leaves at noon and travels at sixty miles an hour towards a town that is far away."
    held = {"messages": [{"role": "user", "content": f"Solve: {item.upper()}"}, {"role": "assistant", "content": "5"}]}
    rows = write_rows(tmp_path / "rows.jsonl", [TALK, b"\xff", held, THOUGHT])
    items = write_rows(tmp_path / "items.jsonl", [{"problem": item, "answer": "5"}])
    out = tmp_path / "kept.jsonl"
    code, said = cli("data", "decontaminate", rows, "--against", items, "--out", out, "--samples", "all")
    assert code == 1 and "line 2: is not UTF-8" in said and "3 examples, 1 left out" in said
    assert [json.loads(line) for line in out.read_text().splitlines()] == [TALK, THOUGHT]
    report = json.loads((tmp_path / "kept.report.json").read_text())
    assert [(row["line"], row["item"]) for row in report["dropped_rows"]] == [(3, "items:1")]


def test_the_known_overlaps_of_real_files_are_found(cli, tmp_path):
    data = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[3] / "shared" / "data")) / "math"
    if not (data / "contamination_exact.json").exists():
        pytest.skip(f"{data} isn't here; set OPEN_EXAONE_DATA to where math/ stands")
    hits = json.loads((data / "contamination_exact.json").read_text())["hits"]
    train = data / "math_prm800k_train_12000.jsonl"
    out, rows = tmp_path / "kept.jsonl", f"math_500={data / 'math500.jsonl'}"
    for seed in (0, 1):
        cli("data", "decontaminate", train, "--against", "math_500", "--rows", rows, "--out", out, "--seed", seed)
        report = json.loads((tmp_path / "kept.report.json").read_text())
        dropped = {(row["line"] - 1, row["item"].removeprefix("math_500:")) for row in report["dropped_rows"]}
        assert dropped >= {(number, item) for number, _, item in hits[f"math/{train.name}"]}
        assert len(out.read_text().splitlines()) == 12_000 - len(dropped)
