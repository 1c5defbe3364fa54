"""A reply as it is shown in a terminal: the thought dimmed or hidden, then the answer, then tool calls."""

from collections.abc import Iterable

from open_exaone.base.records import Reply, StopReason
from open_exaone.base.terminal import Console
from open_exaone.serve.session import End, Event, Note
from open_exaone.text.split import Part, read_tool_call

STOPS = {
    StopReason.LENGTH: "the reply ends here, at its token limit (--max-new-tokens)",
    StopReason.CANCELLED: "stopped; the text so far is kept",
    StopReason.ERROR: "the reply could not be finished",
}
_STYLES = {Part.THOUGHT: "dim", Part.ANSWER: "", Part.TOOL_CALL: "cyan"}


class View:
    """Prints events. Control characters of a reply are drawn as U+FFFD: `base.terminal.Console`."""

    def __init__(self, console: Console, *, shows_thoughts: bool = True) -> None:
        self.console = console
        self.shows_thoughts = shows_thoughts
        self._part: Part | None = None  # of the text that stands in the line at hand

    def say(self, text: str, style: str = "dim", end: str = "\n") -> None:
        """Prints a text of ours, or of the reply."""
        from rich.text import Text

        self.console.print(Text(text, style=style), soft_wrap=True, end=end)

    def show(self, events: Iterable[Event]) -> Reply | None:
        """Prints a reply as it comes; gives it whole, None where it failed before its end."""
        self._part, reply = None, None
        try:
            for event in events:
                if isinstance(event, Note):
                    self._end_line()
                    self.say(event.text, "yellow")
                elif isinstance(event, End):
                    reply = event.reply
                    self._end_line()
                    self._tell_end(event)
                else:
                    self._piece(event.part, event.text)
        finally:
            self._end_line()
        return reply

    def _piece(self, part: Part, text: str) -> None:
        is_hidden = part is Part.THOUGHT and not self.shows_thoughts
        if part is not self._part or part is Part.TOOL_CALL:
            self._end_line()
            if is_hidden:
                self.say("(thinking …)", end="")
            self._part = part
        if not is_hidden:
            self.say(text, _STYLES[part], end="")
        if part is Part.TOOL_CALL and (error := read_tool_call(text).error):
            self._end_line()
            self.say(error, "red")

    def _end_line(self) -> None:
        if self._part is not None:
            self.console.print()
        self._part = None

    def _tell_end(self, end: End) -> None:
        if not end.reply.finished and end.stop is StopReason.LENGTH:
            self.say(
                "the token limit ended the thought, so there is no answer: /budget N ends thoughts earlier", "yellow"
            )
        elif not end.reply.finished and end.stop not in STOPS:
            self.say("the model ended its turn within its thought, so there is no answer", "yellow")
        elif end.stop in STOPS:
            self.say(STOPS[end.stop], "yellow")
