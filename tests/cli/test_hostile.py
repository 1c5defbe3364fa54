"""What the command line prints of hostile names, values and limits: one sentence, no escape, no traceback."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from doubles import make_model, make_tokenizer
from open_exaone.base.printable import printable
from open_exaone.checkpoint.folder import save_model
from open_exaone.cli.main import main

ESCAPES = "\x1b]52;c;cm0gLXJm\x07\x1b[31m\x9b2J\u202e"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    shown = captured.out + captured.err
    assert ended.value.code in (1, 2) and shown.strip()
    assert "Traceback" not in shown and printable(shown) == shown
    return shown


def test_names_values_and_keys_steer_no_terminal(tmp_path, capsys) -> None:
    toml = tmp_path / f"{ESCAPES.replace('/', '')}.toml"
    escaped = json.dumps(ESCAPES)
    for text in (f"name = {escaped}", f"{escaped} = 1", ESCAPES, f"[data]\nsources = [{{path = {escaped}}}]"):
        toml.write_text(text)
        for command in (("train",), ("run",), ("data", "check"), ("judge", "x.jsonl", "--settings")):
            refused(capsys, *command, toml)
    rows = tmp_path / f"{ESCAPES.replace('/', '')}.jsonl"
    for text in (json.dumps({ESCAPES: ESCAPES}), ESCAPES, json.dumps({"messages": ESCAPES})):
        rows.write_text(text)
        refused(capsys, "data", "check", rows)
        refused(capsys, "judge", rows)
        refused(capsys, "eval", "--rescore", rows, "--out", tmp_path / "out")
    for arguments in ((ESCAPES,), ("chat", ESCAPES), ("chat", f"--{ESCAPES}"), ("convert", ESCAPES, "[/red]")):
        refused(capsys, *arguments)
    assert "[/red]" in refused(capsys, "chat", tmp_path / "[/red]")


def test_a_link_in_a_folder_of_data_is_not_followed(tmp_path, capsys) -> None:
    (tmp_path / "secret").write_text('{"text": "precious"}\n')
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").symlink_to(tmp_path / "secret")
    for arguments in (("data", "check", tmp_path / "data"), ("fetch", "gsm8k", "--rows", tmp_path / "data")):
        shown = refused(capsys, *arguments)
        assert "a.jsonl: is a link to" in shown and "precious" not in shown


def test_a_run_s_folder_reads_and_writes_nothing_elsewhere(tmp_path, capsys) -> None:
    victim, run = tmp_path / "victim", tmp_path / "run"
    victim.write_text("precious")
    run.mkdir()
    (run / "recipe.toml").write_text("name = 'x'")
    (run / ".lock").symlink_to(victim)
    assert "is a link to" in refused(capsys, "chat", run)
    (run / "recipe.toml").unlink()
    (run / "evaluation.json").write_text("{}")
    assert "is a link to" in refused(capsys, "eval", "--rescore", run)
    assert victim.read_text() == "precious"


def test_too_little_address_space_is_said(tmp_path) -> None:
    megabytes = 700
    folder = tmp_path / "model"
    model = make_model()
    save_model(folder, model.config, dict(model.named_parameters()), make_tokenizer(), {})

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    command = [sys.executable, "-m", "open_exaone", "convert", str(folder), str(tmp_path / "out")]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode in (0, 1), ran.stderr
    assert "Traceback" not in ran.stderr
    if ran.returncode:
        assert "ulimit -v" in ran.stderr.splitlines()[-1]
