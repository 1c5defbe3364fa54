"""The terminal chat's commands and what it shows, line by line; `test_terminal_pty` types into it."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from open_exaone.base.records import Problem, Reply, Verdict, VerdictStatus
from open_exaone.base.terminal import Console
from open_exaone.serve.session import Events, Message, Session, Settings
from open_exaone.serve.terminal import NUM_OFFERED, Chat, answer_once
from open_exaone.serve.terminal_input import read_message
from open_exaone.serve.terminal_view import View
from serve.made_up import STEERING, MadeUp

PROBLEMS = [Problem(f"sum/{i}", "sum", "en", f"What is {i} + {i}?", str(2 * i), "text") for i in range(1, 6)]


def judge(problem: Problem, reply: Reply) -> Verdict:
    correct = problem.answer in reply.answer
    return Verdict(VerdictStatus.CORRECT if correct else VerdictStatus.WRONG, None, "compared")


def talk(*lines: str, problems: list[Problem] = PROBLEMS, color: bool = False, model: MadeUp | None = None) -> str:
    script = iter(lines)

    def read_line(prompt: str) -> str:
        line = next(script, None)
        if line is None:
            raise EOFError
        return line

    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=color, color_system="standard" if color else None)
    Chat(Session(model or MadeUp()), View(console), judge, problems).run(read_line)
    return file.getvalue()


def test_a_number_asks_that_problem_in_a_new_conversation_and_shows_the_verdict() -> None:
    model = MadeUp()
    shown = talk("hello", "2", model=model)
    assert [len(messages) for messages, _, _ in model.asked] == [1, 1]
    assert model.asked[1][0][0]["content"] == "What is 2 + 2?"
    assert "wrong: compared (the answer is 4)" in shown


def test_problems_are_offered_in_turn_and_a_number_that_is_not_on_offer_is_a_message() -> None:
    model = MadeUp()
    shown = talk("/problems", "1", "/problems", str(NUM_OFFERED + 1), "²", model=model)
    assert shown.count("[1] ") == 3
    assert [messages[-1]["content"] for messages, _, _ in model.asked] == ["What is 4 + 4?", "4", "²"]
    assert "name a run's folder" in talk("/problems", problems=[])


def test_settings_are_changed_shown_and_taken_by_the_next_turn() -> None:
    model = MadeUp()
    shown = talk("/think off", "/budget 12", "/system Be brief.", "ab", "/system off", "/budget off", "cd", model=model)
    [(first, one, _), (second, other, _)] = model.asked
    assert (one.thinking, one.budget, first[0]["content"]) == (False, 12, "Be brief.")
    assert (other.budget, [message["role"] for message in second]) == (None, ["user", "assistant", "user"])
    assert "thinking off, thoughts shown, budget 12 tokens, system none" in shown
    assert "thinking on, thoughts shown, budget off, system none" in talk("/think")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("/think maybe", "write it as /think on|off"),
        ("/budget 0", "write it as /budget N|off"),
        ("/budget ²", "write it as /budget N|off"),
        ("/budget 99999999999999999999", "write it as"),
        ("/save", "write it as /save FILE"),
        ("/nonsense", "there is no such command; see /help"),
        ("/undo", "nothing was asked yet"),
        ("/load nowhere.json", "no such file"),
    ],
)
def test_a_command_that_is_wrong_says_how_it_is_written(line: str, why: str) -> None:
    model = MadeUp()
    shown = talk(line, "next", model=model)
    assert why in shown and len(model.asked) == 1


def test_help_names_every_command() -> None:
    shown = talk("/help")
    assert all(
        name in shown for name in ("/retry", "/undo", "/save FILE", "/load FILE", "/thoughts show|hide", "/quit")
    )


def test_thoughts_are_dimmed_or_hidden() -> None:
    assert "\x1b[2mhm, \x1b[0m\x1b[2mso\x1b[0m\nba\n" in talk("ab", color=True).replace("\x1b[0mba", "ba")
    hidden = talk("/thoughts hide", "ab")
    assert "hm" not in hidden and "(thinking …)\nba\n" in hidden


def test_save_and_load_go_on_with_a_conversation(tmp_path: Path) -> None:
    path, model = tmp_path / "chat.json", MadeUp()
    talk("/think off", "ab", f"/save {path}")
    assert "1 turns; thinking off" in talk(f"/load {path}", "cd", model=model)
    assert [message["content"] for message in model.asked[0][0]] == ["ab", "ba", "cd"]


def test_a_failure_is_shown_and_retry_asks_again() -> None:
    model = MadeUp()
    shown = talk("fail", "/retry", model=model)
    assert shown.count("the connection broke in the middle of the reply (/retry asks again") == 2
    assert "li\n" in shown  # what came


def test_ctrl_c_before_a_reply_begins_does_not_leave() -> None:
    class Interrupted(MadeUp):
        def stream(self, messages: Sequence[Message], settings: Settings, turn: int) -> Events:
            if messages[-1]["content"] == "break":
                raise KeyboardInterrupt
            return super().stream(messages, settings, turn)

    model = Interrupted()
    assert "stopped\n" in talk("break", "ab", model=model) and len(model.asked) == 1


def test_what_is_missing_at_the_end_is_said() -> None:
    assert "the token limit ended the thought, so there is no answer" in talk("open")


def test_tool_calls_are_shown_with_what_is_wrong_with_them() -> None:
    assert 'llac\n{"name": "roll", "arguments": {}}\n{\nThis is not valid JSON' in talk("call")


def test_notes_stand_in_lines_of_their_own() -> None:
    assert "eton\nthe first 2 turns are left out\n" in talk("note")


def test_a_reply_cannot_steer_the_terminal_or_be_markup() -> None:
    shown = talk("steer")
    assert not set("\x1b\x07\r\x9b") & set(shown) and "[bold]x[/bold]" in shown


def test_a_line_in_another_encoding_is_refused_in_one_sentence() -> None:
    model = MadeUp()
    assert "not in the terminal's encoding" in talk("caf\udce9", "ab", model=model) and len(model.asked) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["one"], "one"),
        (["one\\", "two\\", "three"], "one\ntwo\nthree"),
        (["one\\"], "one\n"),
        (['"""', "a", "  b", '"""'], "a\n  b"),
        (['"""a', 'b"""'], "a\nb"),
        (['"""one"""'], "one"),
        (['"""', "a"], "a"),
    ],
)
def test_messages_of_several_lines(lines: list[str], message: str) -> None:
    script = iter(lines)

    def read_line(prompt: str) -> str:
        line = next(script, None)
        if line is None:
            raise EOFError
        return line

    assert read_message(read_line).rstrip("\n") == message.rstrip("\n")


def test_a_pipe_gets_the_answer_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer_once(Session(MadeUp()), "ab") == 0
    assert capsys.readouterr() == ("ba\n", "")
    assert answer_once(Session(MadeUp()), "ab", shows_thoughts=True) == 0
    assert capsys.readouterr() == ("ba\n", "hm, so\n")


@pytest.mark.parametrize(
    ("asked", "out", "why"),
    [
        ("fail", "li\n", "exaone: the connection broke in the middle of the reply\n"),
        ("fail at once", "", "exaone: it cannot\n"),
        ("long", "gnol\n", "exaone: the token limit ended the answer: raise --max-new-tokens\n"),
        ("open", "", "exaone: the reply has no answer: raise --max-new-tokens, or try --budget N or --no-thinking\n"),
    ],
)
def test_a_pipe_gets_what_came_and_the_exit_code(
    asked: str, out: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer_once(Session(MadeUp()), asked) == 1
    assert capsys.readouterr() == (out, why)


def test_a_pipe_is_not_steered_either(capsys: pytest.CaptureFixture[str]) -> None:
    answer_once(Session(MadeUp()), "steer", shows_thoughts=True)
    assert not set("\x1b\x07\r\x9b") & set("".join(capsys.readouterr())) and STEERING


def test_the_terminal_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys; from open_exaone.serve import session, terminal, terminal_input, terminal_view\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
