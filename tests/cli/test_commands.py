"""The command line: exit codes, and messages that name what is wrong and the mend."""

import io
import re
import sys

import pytest

from open_exaone.cli.main import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return exit_.value.code, re.sub(r"\s+", " ", out + err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["story", "nope"], "recipe 'nope': unknown. The recipes are nano/exaone-deep"),
        (["story", "nope.toml"], "nope.toml: no such file"),
        (["story", "--set", "rl.group_size"], "write it as stage.key=value"),
        (["story", "--set", "rl.group_sise=4"], "group_sise: unknown key; did you mean"),
        (["story", "--set", "rl.group_size=1"], "group_size = 1: should be greater than or equal to 2"),
        (["story", "--set", "rl.group_size=many"], "group_size = 'many': should be a valid integer"),
        (["story", "--set", "rll.group_size=4"], "'rll' is neither a stage (base, sft, prefer, rl) nor one of"),
        (["story", "--set", "problems.splits.test.num_problems=0"], "should be greater than or equal to 1"),
        (["story", "--set", "evaluation.split=exam"], "evaluation.split = 'exam': must be one of test"),
        (["story", "--set", "model.num_kv_heads=3"], "num_kv_heads = 3 must divide num_heads = 4"),
        (["story", "--set", 'problems.splits.test.families=["sudoku"]'], "sudoku"),
        (
            ["story", "--set", "rl.max_new_tokens=400"],
            "rl.max_new_tokens = 400: must lie below model.max_positions = 384",
        ),
        (["story", "--set", "stages=5", "--set", "rl.num_steps=3"], "'rl' is neither a stage"),
        (["eval", "nowhere", "--samples", "0"], "--samples 0: must be at least 1"),
        (["chat", "nowhere", "--temperature", "-1"], "--temperature -1.0: must lie in 0"),
        (["story", "--speed", "9"], "--speed"),
        (["story", "--device", "tpu"], "tpu"),
        (["eval", "nowhere"], "nowhere: is neither a model's folder (config.json) nor a run's (recipe.toml)"),
        (["chat", "nowhere"], "nowhere: is neither"),
        (["sing"], "sing"),
    ],
)
def test_misuse_exits_2_and_says_the_mend(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = run(capsys, *arguments)
    assert code == 2
    assert said in text
    assert not list(tmp_path.iterdir())


def test_a_broken_toml_file_is_named_with_its_line(capsys, tmp_path):
    (tmp_path / "recipe.toml").write_text('name = "x"\nseed = = 3\n')
    code, text = run(capsys, "story", tmp_path / "recipe.toml")
    assert code == 2
    assert "recipe.toml: not valid TOML" in text and "line 2" in text


def test_doctor_finds_what_it_needs(capsys):
    code, text = run(capsys, "doctor")
    assert code == 0
    assert "torch" in text and "processor" in text


def test_chat_and_eval_work_on_a_finished_run(capsys, told_run, monkeypatch, tmp_path):
    folder, _ = told_run
    monkeypatch.setattr(sys, "stdin", io.StringIO("Who is the tallest?\n/think off\n1\n/quit\nnever read\n"))
    code, text = run(capsys, "chat", folder, "--device", "cpu")
    assert code == 0
    assert "thinking is off" in text
    monkeypatch.chdir(tmp_path)
    code, text = run(capsys, "eval", folder)
    assert code == 0
    assert "is the same as the story's own measurement" in text
    code, text = run(capsys, "eval", folder, "--suite", "nope")
    assert code == 2 and "sets of this run are base, preference, rl, sft, test" in text
    code, text = run(capsys, "eval", folder, "--stage", "nope")
    assert code == 2 and "must be one of base, sft, prefer, rl" in text


def test_the_module_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["exaone", "--version"])
    code, text = run(capsys, "--version")
    assert code == 0 and re.fullmatch(r" ?\d+\.\d+\.\d+ ?", text)
