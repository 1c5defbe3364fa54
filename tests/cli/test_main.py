"""The command line as a whole: exit codes, and messages that name what is wrong and how to fix it."""

import errno
import re
import sys

import pytest

from open_exaone.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "nowhere", "--samples", "0"], "--samples 0: must be at least 1"),
        (["chat", "nowhere", "--temperature", "-1"], "temperature = -1.0: must lie in 0 (greedy) to 100"),
        (["run", "--speed", "9"], "--speed"),
        (["run", "--device", "tpu"], "tpu"),
        (["eval", "nowhere"], "nowhere: is neither a model's folder (config.json) nor a run's (recipe.toml)"),
        (["chat", "nowhere"], "nowhere: is neither"),
        (["sing"], "sing"),
        (["train"], "FILE is missing; see exaone train --help"),
        (["run", "--out"], "--out: needs a value; see exaone run --help"),
        (["doctor", "now"], "now: `exaone doctor` takes no such argument"),
        (["run", "--ranks", "0"], "--ranks 0: must be at least 1"),
        (
            ["serve", "--limit", "deadlines=1"],
            '--limit deadlines: unknown key; did you mean "deadline_s"? There are client_',
        ),
        (["chat", "runs/mine"], "runs/mine: there is no such folder; no run is in runs/ yet: `exaone run` makes one"),
    ],
)
def test_misuse_exits_2_and_names_the_fix(arguments, message, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text = cli(*arguments)
    assert code == 2
    assert message in text
    assert not list(tmp_path.iterdir())


def test_help_is_wrapped_to_the_terminal_alone(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    _, _, flags = capsys.readouterr().out.partition("─ Parameters ─")
    begun = [line for line in flags.splitlines() if line.startswith("│ ") and "--" not in line]
    assert (
        len(begun) > 9 and len({len(line) - len(line.lstrip("│ ")) for line in begun}) == 1
    )  # no indent of the code's


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), KeyError("memory"), OSError(5, "Input/output error")])
def test_an_error_that_is_not_of_memory_is_raised(error, monkeypatch) -> None:
    def fail(*_, **__) -> None:
        raise error

    monkeypatch.setattr("open_exaone.present.doctor.checks", fail)
    with pytest.raises(type(error)) as raised:
        main(["doctor"])
    assert raised.value is error


def test_a_file_that_this_user_may_not_read_is_named(cli, monkeypatch) -> None:
    def fail(*_, **__) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/models/one/config.json")

    monkeypatch.setattr("open_exaone.present.doctor.checks", fail)
    code, text = cli("doctor")
    assert code == 1 and "/models/one/config.json: permission is denied: let this user read it" in text


def test_the_module_is_the_command(cli, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["exaone", "--version"])
    code, text = cli("--version")
    assert code == 0 and re.fullmatch(r" ?\d+\.\d+\.\d+ ?", text)
