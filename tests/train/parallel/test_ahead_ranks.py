"""Samples of coming steps on two ranks: the first one alone draws them, and whatever ends its thread ends both."""

import json
import subprocess
import sys

import pytest

import tiny_ahead
from open_exaone.base.files import read_jsonl
from open_exaone.pipeline import launch
from open_exaone.train.state import checkpoints
from ranked_runs import ENVIRONMENT
from tiny_ranks import assert_alike


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ahead")
    command = [sys.executable, tiny_ahead.__file__, str(launch._free_port()), str(folder)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder, {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_the_first_rank_draws_and_both_learn_what_one_process_learns(found):
    folder, runs = found
    alone, first, second = runs["alone"], runs["whole-0"], runs["whole-1"]
    assert first["asked"] == alone["asked"] == [0, 1, 2, 3] and second["asked"] == []
    assert first["judged"] == second["judged"] == []  # the thread judges what it has drawn
    assert first["weights"] == second["weights"] == pytest.approx(alone["weights"], abs=1e-4)
    assert len(alone["rows"]) == 4
    assert_alike(alone["rows"], first["rows"])
    assert [row["staleness"] for row in first["rows"]] == [0, 1, 1, 1]
    assert any(row["gradient_norm"] > 0 for row in first["rows"])
    groups = [
        [row["ids"] for path in sorted((folder / name / "rollouts").glob("*.jsonl")) for row in read_jsonl(path)]
        for name in ("alone", "whole")
    ]
    assert groups[0] == groups[1] and len(groups[0]) == 4 * 16


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        ("error", ["DataError: the server gives nonsense", "RankError: rank 0: the server gives nonsense"]),
        ("interrupted", ["Interrupted: ", "Interrupted: "]),
    ],
)
def test_what_ends_the_thread_ends_both_ranks_with_the_state_saved(found, name, errors):
    folder, runs = found
    assert [runs[f"{name}-{rank}"]["error"] for rank in range(2)] == errors
    assert checkpoints(folder / name / "checkpoints")
    assert not (folder / name / "rollouts" / "step-000004.jsonl").exists()
