"""The figures of docs/findings.md and docs/story.md, from files of runs: small pictures that stand alone."""

import importlib
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STAGES = ("sft", "rl_more")


@pytest.fixture
def plots(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("findings_plots")


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("story_plots")


def task(name: str, mode: str, score: float, **more: Any) -> dict[str, Any]:
    interval = [score - 0.03, score + 0.03]
    return {"measured_on": name, "mode": mode, "pass_at_1": score, "ci95": interval, "num_problems": 2, "k": 2, **more}


def cells(*correct: int) -> list[dict[str, Any]]:
    """A cell for each length, of 50 problems."""
    return [
        {"kind": "single", "length": 256 * (place + 1), "depth": 0.0, "num_problems": 50, "pass_at_1": number / 50}
        for place, number in enumerate(correct)
    ]


def words_of(path: Path) -> str:
    """A figure's words; it is whole XML, small, and loads nothing."""
    text = path.read_text(encoding="utf-8")
    assert len(text) < 30_000
    assert re.findall('https?://[^"]*|href|url\\(|@import', text) == ["http://www.w3.org/2000/svg"]
    return " | ".join(ElementTree.fromstring(text).itertext())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two stages in both modes; in the second every second thought is Korean, as no question is."""
    stages = []
    for place, name in enumerate(STAGES):
        needles = [
            task("needle-non-reasoning", "non_reasoning", 0.9, per_cell=cells(50, 40 + place)),
            task("needle_ko-non-reasoning", "non_reasoning", 0.9, per_cell=cells(50, 42)),
        ]
        both = [task("test", "reasoning", 0.5 + place / 10), task("test-non-reasoning", "non_reasoning", 0.1)]
        stages.append({"name": name, "folder": f"{place}-{name}", "tasks": [*both, *needles]})
        folder = tmp_path / f"{place}-{name}" / "eval"
        folder.mkdir(parents=True)
        rows = [
            {
                "task": task_name,
                "problem": problem,
                "num_thought_tokens": tokens,
                "thought": thought,
                "answer": "It is 4.",
            }
            for task_name, tokens in (("test", 10), ("test-non-reasoning", 1_000))
            for problem in ("a", "b")
            for thought in ("I add two and two.", "둘에 둘을 더합니다." if place else "I add them.")
        ]
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "report.json").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    return tmp_path


def test_a_run_s_figures_hold_its_numbers_and_intervals(
    plots: ModuleType, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    languages = [type("Problem", (), {"id": name, "language": "en"})() for name in ("a", "b")]
    monkeypatch.setattr(plots.RunFolder, "problems", lambda self, name: languages)
    monkeypatch.setattr(sys, "argv", ["", str(run), "--out", str(run)])
    plots.main()
    accuracy = words_of(run / "stages-accuracy.svg")
    assert "2 problems, 2 samples; 95 % intervals" in accuracy
    assert "reasoning mode, rl_more 60.0 (57.0 to 63.0)" in accuracy
    assert "non-reasoning mode, sft 10.0 (7.0 to 13.0)" in accuracy
    replies = words_of(run / "stages-replies.svg")
    assert "thought tokens, rl_more 10.0 (10.0 to 10.0)" in replies
    assert "wrong language, %, sft 0.0 (" in replies and "wrong language, %, rl_more 50.0 (" in replies
    needles = words_of(run / "needles.svg")
    assert "after sft the lowest of 2 cells has 82%, 512 tokens at depth 0 %" in needles
    assert "after rl_more the lowest of 2 cells has 83%" in needles


def test_an_ablation_s_figure_has_each_seed_and_the_paired_difference(plots: ModuleType, tmp_path: Path) -> None:
    runs = [{"seed": seed, "score": 0.6 + seed / 100, "ci95": [0.55, 0.65]} for seed in range(3)]
    difference = {"value": -0.003, "low": -0.011, "high": 0.006, "by_seed": [-0.01, 0.0, 0.001]}
    found = {
        **{"ablation": "rl_loss", "baseline": "agapo", "measured": {"num_problems": 500, "k": 4}},
        "arms": [
            {"name": "agapo", "runs": runs, "mean": 0.61, "difference": None},
            {"name": "grpo", "runs": runs, "mean": 0.607, "difference": difference},
        ],
    }
    (tmp_path / "ablation.json").write_text(json.dumps(found), encoding="utf-8")
    plots.plot_ablation(tmp_path, tmp_path)
    words = words_of(tmp_path / "ablation-rl-loss.svg")
    assert "-0.3 (-1.1 to +0.6)" in words and "points above agapo, paired" in words
    text = (tmp_path / "ablation-rl-loss.svg").read_text(encoding="utf-8")
    assert text.count('class="mark of-1"') == 3 and text.count('class="mark of-2"') == 4


def story_run(folder: Path) -> dict[str, Any]:
    """A run of two stages: the family without thoughts is solved in RL, half of the samples of the other always are."""
    for name, solved in (("sft", 0), ("rl", 2)):
        rows = [
            {
                "task": task,
                "problem": f"{family}/en/0",
                "verdict": "correct" if index < correct and task == "test" else "wrong",
            }
            for task in ("test", "harder")
            for family, correct in (("shopping", 1), ("two_shoppers", solved))
            for index in range(2)
        ]
        (folder / name / "eval").mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / name / "eval" / "samples.jsonl").write_text(text, encoding="utf-8")
    steps = [
        {"step": step, "pass_rate/shopping": 0.5, "pass_rate/two_shoppers": step / 40 if step > 5 else None}
        for step in range(1, 41)
    ]
    (folder / "rl" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps), encoding="utf-8")
    conditions = [
        {"condition": "unchanged", "accuracy": 0.9, "ci95": [0.85, 0.94]},
        {"condition": "other_problem", "accuracy": 0.0, "ci95": [0.0, 0.02]},
    ]
    stages: list[dict[str, Any]] = [{"name": name, "kind": name, "folder": name} for name in ("sft", "rl")]
    stages[-1]["faithfulness"] = [{"num_problems": 200, "conditions": conditions}]
    return {"stages": stages}


def test_the_story_s_figures_hold_a_run_s_numbers_and_intervals(story: ModuleType, tmp_path: Path) -> None:
    report = story_run(tmp_path)
    story.plot_stages(tmp_path, report, tmp_path)
    words = words_of(tmp_path / "story-stages.svg")
    assert "Families with worked thoughts, sft 50.0 (" in words and "Families with worked thoughts, rl 50.0 (" in words
    assert "Families without any, sft 0.0 (0.0 to " in words and "Families without any, rl 100.0 (" in words
    story.plot_rl(tmp_path, report, tmp_path)
    words = words_of(tmp_path / "story-rl.svg")
    assert "families with thoughts: from 50 to 50 %" in words and "families without: from 26 to 89 %" in words
    story.plot_thought(report, tmp_path)
    words = words_of(tmp_path / "story-thought.svg")
    assert "its own 90.0 (85.0 to 94.0); another problem's 0.0 (0.0 to 2.0)" in words


def test_the_seeds_figure_has_every_seed_s_scores(story: ModuleType, tmp_path: Path) -> None:
    stages = [
        {"name": name, "by_seed": {"0": first, "1": second}}
        for name, first, second in (("base", 0.02, 0.03), ("sft", 0.7, 0.6), ("rl", 0.9, 0.9))
    ]
    ways = {way: {"stages": stages} for way in ("samples", "greedy")}
    story.plot_seeds({"measured": {"num_problems": 1000}, "ways": ways}, tmp_path)
    words = words_of(tmp_path / "story-seeds.svg")
    assert "By sampling, seed 0: 2.0, 70.0, 90.0" in words and "Greedily, seed 1: 3.0, 60.0, 90.0" in words


def test_captions_of_equal_heights_are_moved_apart(story: ModuleType) -> None:
    heights = story.spread({"a": 20.0, "b": 20.0, "c": 10.0})
    assert heights["c"] == 10.0
    placed = sorted(heights.values())
    assert all(after - before >= 13 for before, after in pairwise(placed))
