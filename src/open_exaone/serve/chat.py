"""The terminal chat: offers problems that the model can do, and shows its thought dimmed."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from open_exaone.base.errors import OpenExaoneError, PromptTooLongError
from open_exaone.base.records import Problem, Reply, Sampling, Verdict
from open_exaone.base.terminal import Console
from open_exaone.rollout.provider import Provider, requests_for

Message = dict[str, str]  # {"role": "user" | "assistant", "content": …}
Ask = Callable[[list[Message], bool], Reply]
Judge = Callable[[Problem, Reply], Verdict]

NUM_OFFERED = 3
HELP = (
    "/think on|off · /new forgets the conversation · /quit · a number asks that problem · an empty line offers others"
)


def asking(provider: Provider, sampling: Sampling) -> Ask:
    """What `run_chat` asks: one sample of the provider for each turn, every turn with a seed of its own.

    Raises (when called):
        PromptTooLongError: the conversation leaves no room for a reply.
        OpenExaoneError: see `Provider.stream`.
    """
    turn = 0

    def ask(messages: list[Message], thinking: bool) -> Reply:
        nonlocal turn
        turn += 1
        own = replace(sampling, seed=sampling.seed + turn, num_samples=1)
        with closing(provider.stream(requests_for([messages], provider.tokenizer, own, thinking=thinking))) as stream:
            for _, generation in stream:
                if generation.num_tokens:
                    return generation.reply
        raise PromptTooLongError(provider.failure or "the conversation fills the model's context")

    return ask


def run_chat(
    ask: Ask,
    judge: Judge,
    problems: Sequence[Problem] = (),
    *,
    thinking: bool = True,
    console: Console | None = None,
    read_line: Callable[[str], str] = input,
) -> None:
    """Talks until /quit, the end of the input, or Ctrl-C.

    Args:
        ask: (messages, thinking) -> the reply. An `OpenExaoneError` from it is shown, and the conversation goes on
            without that turn.
        judge: the verdict on a reply to an offered problem.
        problems: offered in this order, three at a time, from the start again after the last.
        thinking: the mode to begin in.
        read_line: (prompt) -> one line, or EOFError; `input` also reads a pipe.
    """
    chat = Chat(ask, judge, problems, thinking, console or Console())
    chat.say(HELP, "dim")
    chat.offer()
    try:
        while chat.open:
            chat.take(read_line("> ").strip())
    except (EOFError, KeyboardInterrupt):
        chat.console.print()


class Chat:
    """A conversation and the problems on offer. `open` turns False at /quit."""

    def __init__(self, ask: Ask, judge: Judge, problems: Sequence[Problem], thinking: bool, console: Console) -> None:
        self.open = True
        self.console = console
        self._ask = ask
        self._judge = judge
        self._problems = problems
        self._thinking = thinking
        self._messages: list[Message] = []
        self._next = 0  # where in `problems` the next offer begins
        self._offered: list[Problem] = []

    def take(self, line: str) -> None:
        """Acts on one line: a command, a problem's number, a message, or nothing for a new offer."""
        if not line:
            self.offer()
        elif any("\ud800" <= sign <= "\udfff" for sign in line):
            self.say("This line is not in the terminal's encoding: set both to UTF-8, such as LANG=C.UTF-8.", "red")
        elif line.startswith("/"):
            self._command(line)
        elif line.isascii() and line.isdigit() and 1 <= int(line) <= len(self._offered):
            self._ask_problem(self._offered[int(line) - 1])
        else:
            self._turn(line)

    def offer(self) -> None:
        """Lists the next few problems."""
        count = min(NUM_OFFERED, len(self._problems))
        self._offered = [self._problems[(self._next + i) % len(self._problems)] for i in range(count)]
        self._next += count
        for number, problem in enumerate(self._offered, start=1):
            self.say(f"[{number}] {problem.question.strip()}", "cyan")

    def say(self, text: str, style: str = "", end: str = "\n") -> None:
        """Prints a line or several."""
        from rich.text import Text

        self.console.print(Text(text, style=style), soft_wrap=True, end=end)

    def _command(self, line: str) -> None:
        match line.split():
            case ["/quit" | "/exit"]:
                self.open = False
            case ["/new"]:
                self._messages.clear()
                self.say("A new conversation.", "dim")
            case ["/think"]:
                self.say(f"thinking is {'on' if self._thinking else 'off'}", "dim")
            case ["/think", "on" | "off" as choice]:
                self._thinking = choice == "on"
                self.say(f"thinking is {choice}", "dim")
            case _:
                self.say(HELP, "dim")

    def _ask_problem(self, problem: Problem) -> None:
        """A problem opens a new conversation, as it does when the model is measured."""
        self._messages.clear()
        self.say(problem.question.strip(), "bold")
        reply = self._turn(problem.question)
        if reply is not None:
            verdict = self._judge(problem, reply)
            gold = "" if verdict.correct else f" (the answer is {problem.answer})"
            self.say(f"{verdict.status}: {verdict.why}{gold}", "green" if verdict.correct else "red")

    def _turn(self, content: str) -> Reply | None:
        """Asks, shows the reply and remembers its answer (not its thought); None where asking failed."""
        messages: list[Message] = [*self._messages, {"role": "user", "content": content}]
        try:
            reply = self._ask(messages, self._thinking)
        except OpenExaoneError as error:
            self.say(f"{error} (/new begins a new conversation)", "red")
            return None
        self._show(reply)
        self._messages = [*messages, {"role": "assistant", "content": reply.answer}]
        return reply

    def _show(self, reply: Reply) -> None:
        """Prints the thought dimmed, then the answer, then each tool call with what is wrong with it."""
        shown = [(reply.thought, "dim"), (reply.answer, "")]
        for call in reply.tool_calls:
            shown += [(call.text, "dim"), (call.error or "", "red")]
        for text, style in shown:
            if text:
                self.say(text, style)
