"""What stands in examples/ runs as its first lines say, only shorter."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from doubles import TINY, make_model, make_tokenizer
from open_exaone.checkpoint.folder import save_model
from open_exaone.cli.main import main

ROOT = Path(__file__).parents[1]
SHORT = {
    "model.width": 64,
    "model.num_layers": 2,
    "model.num_heads": 2,
    "base.num_epochs": 0.1,
    "sft.num_epochs": 0.2,
    "rl.num_steps": 2,
    "rl.batch_prompts": 4,
    "data.test.sources.0.num_problems": 8,
}


def test_from_ones_own_problems_and_reward_to_rl(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    overrides = [part for key, value in SHORT.items() for part in ("--set", f"{key}={value}")]
    with pytest.raises(SystemExit) as ended:
        main(["run", "examples/own_task/recipe.toml", "--out", str(tmp_path / "run"), *overrides])
    assert not ended.value.code
    steps = [json.loads(line) for line in (tmp_path / "run" / "03-rl" / "metrics.jsonl").read_text().splitlines()]
    assert [set(step) >= {"reward_examples/own_task/my_rewards.py:score", "reward_language"} for step in steps] == [
        True
    ] * 2
    samples = (tmp_path / "run" / "03-rl" / "rollouts" / "step-000001.jsonl").read_text().splitlines()
    assert {"examples/own_task/my_rewards.py:score", "language", "overlong"} == set(json.loads(samples[0])["terms"])


def test_the_file_of_problems_is_what_the_task_writes(capsys) -> None:
    runpy.run_path(str(ROOT / "examples" / "own_task" / "my_task.py"), run_name="__main__")
    assert capsys.readouterr().out == (ROOT / "examples" / "own_task" / "problems.jsonl").read_text()


def test_requests_join_and_leave_a_session(tmp_path, monkeypatch, capsys) -> None:
    """As docs/engine.md shows."""
    file = ROOT / "examples" / "session.py"
    [_, shown] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "engine.md").read_text("utf-8"), flags=re.DOTALL)
    assert file.read_text("utf-8").endswith(shown)
    save_model(tmp_path / "model", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    monkeypatch.setattr(sys, "argv", [str(file), str(tmp_path / "model")])
    runpy.run_path(str(file))
    replies = [line.rsplit(" ", 2) for line in capsys.readouterr().out.splitlines()]
    assert {question for question, _, _ in replies} == {"What is 17 + 25?", "What is 3 * 14?"}
    assert all(1 <= int(num) <= 64 and (stop == "end" or num == "64") for _, stop, num in replies)
