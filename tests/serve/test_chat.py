"""The terminal chat, driven by lines as a pipe would."""

import io
import subprocess
import sys
from collections.abc import Callable

import pytest

from doubles import make_model, make_tokenizer
from evaluation.made_up import MadeUp
from open_exaone.base.errors import PromptTooLongError
from open_exaone.base.records import Problem, Reply, Sampling, ToolCall, Verdict, VerdictStatus
from open_exaone.base.terminal import Console
from open_exaone.engine.engine import Engine
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.serve.chat import NUM_OFFERED, Message, asking, run_chat

PROBLEMS = [Problem(f"sum/{i}", "sum", "en", f"What is {i} + {i}?", str(2 * i), "text") for i in range(1, 6)]


class Model:
    """Doubles the first number it is asked about; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[Message], bool]] = []

    def __call__(self, messages: list[Message], thinking: bool) -> Reply:
        self.asked.append((messages, thinking))
        number = int(next((word for word in messages[-1]["content"].split() if word.isdecimal()), "0"))
        return Reply(f"twice {number}" if thinking else "", f"It is {2 * number}.")


def judge(problem: Problem, reply: Reply) -> Verdict:
    correct = problem.answer in reply.answer
    return Verdict(VerdictStatus.CORRECT if correct else VerdictStatus.WRONG, None, "compared")


def talk(
    ask: Callable[[list[Message], bool], Reply],
    *lines: str | BaseException,
    problems: list[Problem] = PROBLEMS,
    thinking: bool = True,
    color: bool = False,
    judge: Callable[[Problem, Reply], Verdict] = judge,
) -> str:
    script = iter(lines)

    def read_line(prompt: str) -> str:
        line = next(script, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    file = io.StringIO()
    console = Console(file=file, width=120, force_terminal=color, color_system="standard" if color else None)
    run_chat(ask, judge, problems, thinking=thinking, console=console, read_line=read_line)
    return file.getvalue()


def test_a_number_asks_that_problem_and_shows_thought_answer_and_verdict() -> None:
    model = Model()
    shown = talk(model, "2")
    assert model.asked == [([{"role": "user", "content": "What is 2 + 2?"}], True)]
    assert shown.index("twice 2") < shown.index("It is 4.") < shown.index("correct: compared")


def test_a_line_in_another_encoding_is_refused_in_one_sentence() -> None:
    model = Model()
    shown = talk(model, "caf\udce9", "1")
    assert shown.count("not in the terminal's encoding") == 1 and len(model.asked) == 1


def test_the_thought_is_dimmed_and_the_answer_is_not() -> None:
    shown = talk(Model(), "2", color=True)
    assert "\x1b[2mtwice 2\x1b[0m\nIt is 4.\n" in shown


def test_a_wrong_answer_is_told_with_the_right_one() -> None:
    assert "wrong: compared (the answer is 2)" in talk(lambda *_: Reply("", "no idea"), "1")


def test_an_empty_line_offers_the_next_problems_and_begins_again_after_the_last() -> None:
    model = Model()
    shown = talk(model, "", "1", "3")
    assert shown.count("[1]") == 2
    assert [messages[-1]["content"] for messages, _ in model.asked] == ["What is 4 + 4?", "What is 1 + 1?"]


def test_a_number_that_is_not_on_offer_is_a_message() -> None:
    model = Model()
    talk(model, str(NUM_OFFERED + 1), "²")
    assert [messages[-1]["content"] for messages, _ in model.asked] == [str(NUM_OFFERED + 1), "²"]


def test_the_conversation_is_kept_without_thoughts_until_new_or_a_problem() -> None:
    model = Model()
    talk(model, "add 1", "add 2", "/new", "add 3", "1")
    kept = [[message["content"] for message in messages] for messages, _ in model.asked]
    assert kept == [["add 1"], ["add 1", "It is 2.", "add 2"], ["add 3"], ["What is 1 + 1?"]]


def test_thinking_is_turned_off_and_on() -> None:
    model = Model()
    shown = talk(model, "/think", "/think off", "a", "/think on", "b", "/think maybe", "c")
    assert [thinking for _, thinking in model.asked] == [False, True, True]
    assert "thinking is on\nthinking is off\n" in shown


@pytest.mark.parametrize("end", ["/quit", EOFError(), KeyboardInterrupt()])
def test_quit_end_of_input_and_ctrl_c_end_cleanly(end: str | BaseException) -> None:
    model = Model()
    talk(model, end, "never asked")
    assert not model.asked


def test_ctrl_c_during_a_reply_ends_cleanly() -> None:
    asked = []

    def ask(messages: list[Message], thinking: bool) -> Reply:
        asked.append(messages)
        raise KeyboardInterrupt

    talk(ask, "a", "b")
    assert len(asked) == 1


def test_tool_calls_are_shown_with_what_is_wrong_with_them() -> None:
    calls = (ToolCall('{"name": "roll"}', "roll", {}), ToolCall("{", error="This is not valid JSON."))
    assert 'hm\n{"name": "roll"}\n{\nThis is not valid JSON.\n' in talk(lambda *_: Reply("hm", "", calls), "a")


def test_a_failed_turn_is_told_and_forgotten() -> None:
    asked = []

    def ask(messages: list[Message], thinking: bool) -> Reply:
        asked.append(len(messages))
        if len(asked) == 2:
            raise PromptTooLongError("the prompt has 600 tokens; the context holds 512")
        return Reply("", "ok")

    shown = talk(ask, "a", "b", "c", "1")
    assert asked == [1, 3, 3, 1]
    assert "holds 512 (/new begins" in shown


def test_each_turn_is_one_request_with_a_seed_of_its_own() -> None:
    provider = MadeUp(lambda request: request.messages[-1]["content"][::-1])
    ask = asking(provider, Sampling(9, num_samples=4, seed=5))
    shown = talk(ask, "abc", "def", problems=[])
    assert "cba" in shown and "fed" in shown
    assert [(len(one.messages), one.sampling.seed, one.index) for one in provider.asked] == [(1, 6, 0), (3, 7, 0)]


def test_a_conversation_that_leaves_no_room_for_a_reply_is_shown_as_an_error() -> None:
    provider = LocalProvider(Engine(make_model(), make_tokenizer()))
    long = " ".join(["How much is 3 + 4?"] * 40)
    assert "fills the model's context (/new begins" in talk(asking(provider, Sampling(9)), long, problems=[])


def test_model_text_cannot_steer_the_terminal_or_be_markup() -> None:
    shown = talk(lambda *_: Reply("", "\x1b[2J[bold]x[/bold]\x07"), "a")
    assert "\x1b" not in shown
    assert "[bold]x[/bold]" in shown


def test_without_problems_it_only_talks() -> None:
    model = Model()
    assert "[1]" not in talk(model, "", "1", problems=[])
    assert len(model.asked) == 1


def test_piped_standard_input_drives_it_without_torch() -> None:
    code = (
        "import sys; from open_exaone.serve.chat import run_chat; from open_exaone.base.records import Reply\n"
        "run_chat(lambda messages, thinking: Reply('', messages[-1]['content'][::-1]), None)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], input="abc\n값\n", capture_output=True, text=True, check=True)
    assert "cba" in done.stdout
    assert "값" in done.stdout
    assert done.stderr == ""
