"""The terminal chat: commands, messages, and problems that the model can do; and one answer for a pipe."""

from collections.abc import Callable, Sequence
from pathlib import Path

from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.base.output import say, say_aside, say_error
from open_exaone.base.records import Problem, Reply, StopReason, Verdict
from open_exaone.serve.session import End, Events, Note, Session
from open_exaone.serve.terminal_input import read_message
from open_exaone.serve.terminal_view import View
from open_exaone.text.split import Piece, join_pieces

Judge = Callable[[Problem, Reply], Verdict]

NUM_OFFERED = 3
COMMANDS = {
    "/help": "this list",
    "/new": "start a new conversation",
    "/retry": "generate the last reply again",
    "/undo": "remove the last message and its reply",
    "/think on|off": "reasoning mode",
    "/thoughts show|hide": "whether thoughts are shown",
    "/budget N|off": "the maximum number of tokens of a thought",
    "/system TEXT|off": "the system prompt",
    "/save FILE": "write the conversation to a file",
    "/load FILE": "continue a saved conversation",
    "/problems": "offer problems that the model solved",
    "/quit": "end the chat; so does Ctrl-D, and Ctrl-C on an empty line",
}
GREETING = 'Ctrl-C stops a reply; /help lists the commands; a line that ends in \\, or """, begins a longer message.'


class Chat:
    """An interactive chat; `open` turns False at /quit.

    Args:
        judge: the verdict on a reply to an offered problem.
        problems: offered three at a time, from the start again after the last.
    """

    def __init__(self, session: Session, view: View, judge: Judge | None = None, problems: Sequence[Problem] = ()):
        self.open = True
        self._session, self._view, self._judge = session, view, judge
        self._problems = problems
        self._next = 0  # where in `problems` the next offer begins
        self._offered: list[Problem] = []

    def run(self, read_line: Callable[[str], str] = input, buffer: Callable[[], str] = lambda: "") -> None:
        """Talks until /quit, the end of the input, or Ctrl-C where nothing is typed.

        Args:
            read_line: (prompt) -> one line, or EOFError.
            buffer: what was typed when Ctrl-C came.
        """
        self._view.say(f"{self._session.model.name}. {GREETING}")
        self.offer()
        while self.open:
            try:
                message = read_message(read_line)
            except EOFError:
                break
            except KeyboardInterrupt:
                if not buffer():
                    break
                self._view.console.print()
                continue
            try:
                self.take(message)
            except KeyboardInterrupt:  # before its reply began, or once more within it
                self._view.say("stopped", "yellow")
        self._view.console.print()

    def take(self, text: str) -> None:
        """Acts on one message: a command, a problem's number, or words for the model."""
        line = text.strip()
        if any("\ud800" <= sign <= "\udfff" for sign in line):
            self._view.say(
                "This line is not in the terminal's encoding: set both to UTF-8, such as LANG=C.UTF-8.", "red"
            )
        elif line.startswith("/") and "\n" not in line:
            self._act(line)
        elif line.isascii() and line.isdigit() and 1 <= int(line) <= len(self._offered):
            self._ask_problem(self._offered[int(line) - 1])
        elif line:
            self._turn(self._session.ask(text))

    def offer(self) -> None:
        """Lists the next few problems; a number asks one."""
        count = min(NUM_OFFERED, len(self._problems))
        self._offered = [self._problems[(self._next + i) % len(self._problems)] for i in range(count)]
        self._next += count
        for number, problem in enumerate(self._offered, start=1):
            self._view.say(f"[{number}] {problem.question.strip()}", "cyan")
        if self._offered:
            self._view.say("A number asks one of these; /problems offers others.")

    def _act(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        try:
            self._command(name, rest.strip())
        except OpenExaoneError as error:
            self._view.say(str(error), "red")

    def _command(self, name: str, rest: str) -> None:
        session, say = self._session, self._view.say
        match name, rest:
            case "/quit" | "/exit", "":
                self.open = False
            case "/new", "":
                session.clear()
                say("A new conversation.")
            case "/retry", "":
                self._turn(session.retry())
            case "/undo", "":
                say(f"Taken back: {session.undo()}")
            case "/save", path if path:
                session.save(Path(path).expanduser())
                say(f"Saved to {path}.")
            case "/load", path if path:
                session.load(Path(path).expanduser())
                say(f"{len(session.messages) // 2} turns; {self._state()}.")
            case "/problems", "":
                self.offer()
                if not self._offered:
                    say("There are none: name a run's folder that was measured.")
            case "/help", "":
                for command, what in COMMANDS.items():
                    say(f"{command:<20} {what}")
            case _:
                self._set(name, rest)

    def _set(self, name: str, rest: str) -> None:
        """A command that changes a setting, or shows it."""
        settings, view = self._session.settings, self._view
        match name, rest:
            case (("/think" | "/thoughts" | "/budget" | "/system"), ""):
                pass
            case "/think", "on" | "off":
                settings.thinking = rest == "on"
            case "/thoughts", "show" | "hide":
                view.shows_thoughts = rest == "show"
            case "/budget", "off":
                settings.budget = None
            case "/budget", number if number.isascii() and number.isdigit() and 0 < int(number[:10]) < 10**9:
                settings.budget = int(number)
            case "/system", text if text:
                settings.system = "" if text == "off" else text
            case _:
                known = next((command for command in COMMANDS if command.split()[0] == name), None)
                raise ConfigError(f"write it as {known}" if known else f"{name}: there is no such command; see /help")
        view.say(self._state())

    def _state(self) -> str:
        settings = self._session.settings
        budget = f"{settings.budget} tokens" if settings.budget else "off"
        shown = "shown" if self._view.shows_thoughts else "hidden"
        system = f"“{settings.system}”" if settings.system else "none"
        return f"thinking {'on' if settings.thinking else 'off'}, thoughts {shown}, budget {budget}, system {system}"

    def _ask_problem(self, problem: Problem) -> None:
        """A problem opens a new conversation, as it does when the model is measured."""
        self._session.clear()
        self._view.say(problem.question.strip(), "bold")
        reply = self._turn(self._session.ask(problem.question))
        if reply is not None and self._judge is not None:
            verdict = self._judge(problem, reply)
            gold = "" if verdict.correct else f" (the answer is {problem.answer})"
            self._view.say(f"{verdict.status}: {verdict.why}{gold}", "green" if verdict.correct else "red")

    def _turn(self, events: Events) -> Reply | None:
        """Shows a reply; None where it failed."""
        try:
            return self._view.show(events)
        except OpenExaoneError as error:
            self._view.say(f"{error} (/retry asks again, /new begins a new conversation)", "red")
        finally:
            events.close()
        return None


def answer_once(session: Session, text: str, *, shows_thoughts: bool = False) -> int:
    """Asks once, for a pipe: the answer alone goes to standard output; thoughts, notes and errors to standard error.

    Returns:
        0; 1 where there is no whole answer. What came of it is printed all the same.
    """
    pieces, end, events = list[Piece](), None, session.ask(text)
    try:
        for event in events:
            if isinstance(event, Piece):
                pieces.append(event)
            elif isinstance(event, Note):
                say_error(event.text)
            elif isinstance(event, End):
                end = event
    except OpenExaoneError as error:
        say_error(error)
    finally:
        events.close()
    reply = end.reply if end is not None else join_pieces(pieces, finished=True)
    if shows_thoughts and reply.thought:
        say_aside(reply.thought)
    body = "\n".join(
        filter(None, [reply.answer, *(f"<tool_call>{call.text}</tool_call>" for call in reply.tool_calls)])
    )
    if body:
        say(body)
    return _exit_code(end, reply)


def _exit_code(end: End | None, reply: Reply) -> int:
    if end is None:
        return 1
    if not reply.finished or not (reply.answer or reply.tool_calls):
        say_error("the reply has no answer: raise --max-new-tokens, or try --budget N or --no-thinking")
        return 1
    if end.stop is StopReason.LENGTH:
        say_error("the token limit ended the answer: raise --max-new-tokens")
    return 1 if end.stop in (StopReason.LENGTH, StopReason.ERROR, StopReason.CANCELLED) else 0
