"""Rewards of one's own in a whole run: checked before training, told when edited, stopped with the state saved."""

import json

import pytest

from open_exaone.cli.main import main

SHORT = ("--set", "base.num_epochs=0.2", "--set", "sft.num_epochs=0.2", "--set", "rl.checkpoint_steps=100")


def run(recipe_file, folder, *overrides: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["run", str(recipe_file), "--out", str(folder), *SHORT, *overrides])
    return int(ended.value.code or 0)


@pytest.fixture
def short_recipe(recipe_file, tmp_path):
    """The tiny recipe without its preference stage, which needs a model that is right now and then."""
    text = recipe_file.read_text(encoding="utf-8")
    begin, end = text.index('[[stages]]\nkind = "preference"'), text.index('[[stages]]\nkind = "rl"')
    path = tmp_path / "short.toml"
    path.write_text(text[:begin] + text[end:], encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("code", "reward", "said"),
    [
        (None, "mine.py:score", "no such file"),
        ("def scores(sample): return 1.0", "mine.py:score", "score"),
        ("def score(sample) return 1.0", "mine.py:score", "SyntaxError"),
        ("", "preference", "judge.endpoint"),
        ("", "corect", "The terms are correct"),
    ],
)
def test_a_reward_that_cannot_be_given_is_found_before_training(
    short_recipe, tmp_path, monkeypatch, capsys, code, reward, said
) -> None:
    monkeypatch.chdir(tmp_path)
    if code is not None:
        (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    assert run(short_recipe, tmp_path / "run", "--set", f"rl.reward={reward}") == 2
    assert said in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("01-base/metrics.jsonl"))
    if code is None:  # what never began may begin with another recipe
        (tmp_path / "mine.py").write_text("def score(sample): return 1.0", encoding="utf-8")
        assert run(short_recipe, tmp_path / "run", "--set", "rl.reward=mine.py:score", "--set", "rl.num_steps=1") == 0


def test_a_mistake_stops_the_run_with_the_state_saved_and_its_mending_is_told(
    short_recipe, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from pathlib import Path\n"
        "def score(sample):\n"
        "    steps = len(list(Path('run/03-rl/rollouts').glob('step-*')))\n"
        "    return 1.0 if steps < 2 else 1.0 / 0\n",
        encoding="utf-8",
    )
    assert run(short_recipe, tmp_path / "run", "--set", "rl.reward=mine.py:score") == 1
    said = capsys.readouterr().err
    assert "mine.py:score failed on a reply: " in said and "problem " in said and "line 4: ZeroDivisionError" in said
    assert [path.name for path in (tmp_path / "run" / "03-rl" / "checkpoints").iterdir()] == ["step-000002"]
    mine.write_text("def score(sample): return 0.5", encoding="utf-8")
    assert run(short_recipe, tmp_path / "run", "--set", "rl.reward=mine.py:score") == 0
    assert "mine.py:score has changed since this stage began" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run" / "03-rl" / "metrics.jsonl").read_text().splitlines()]
    assert [row["reward_mean"] for row in rows] == [1.0, 1.0, 0.5]


def test_fifty_steps_with_equal_rewards_are_logged_and_reported(short_recipe, tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "def score(sample):\n"
        "    steps = len(list(Path('run/03-rl/rollouts').glob('step-*')))\n"
        "    return 0.3 if steps > 1 else float(len(sample['answer']) + len(sample['thought']))\n",
        encoding="utf-8",
    )
    changes = ("reward=mine.py:score", "num_steps=52", "max_new_tokens=6", "batch_prompts=2")
    sets = [part for change in changes for part in ("--set", f"rl.{change}")]
    assert run(short_recipe, tmp_path / "run", *sets) == 0
    said = [record.message for record in caplog.records if "steps in a row had nothing" in record.message]
    assert [text.split()[0] for text in said] == ["10", "20", "40"] and all("the same reward" in text for text in said)
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    note, asked = report["stages"][-1]["notes"]
    assert asked == "104 prompts were drawn from 24 problems: each 4.3 times"
    assert note.startswith("50 of 52 steps had nothing to learn from: ") and "the same reward" in note
    assert report["stages"][-1]["empty_steps"] == 50
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "50 of 52 steps had nothing to learn from" in page and '<th scope="col">empty steps</th>' in page
    assert "sample rollouts of steps 1, 26, 52" in page
