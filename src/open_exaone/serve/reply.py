"""From a reply's tokens to what a client sees: text, stop strings, thought, answer and tool calls, as they come."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from open_exaone.base.records import Reply, StopReason, ToolCall, TopLogprobs
from open_exaone.engine.request import prompt_of
from open_exaone.serve.logprobs import TokenLogprobs
from open_exaone.serve.worker import Job
from open_exaone.text.chat import CALL_CLOSE, CALL_OPEN
from open_exaone.text.split import Part, Piece, join_pieces, read_tool_call
from open_exaone.text.stream import Detokenizer
from open_exaone.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Delta:
    """What has come of one reply since the last one: pieces in order, and the tokens that they were made of."""

    index: int  # of the reply in its request
    pieces: Sequence[Piece]  # a tool call is one that can be read; others are pieces of the answer
    ids: Sequence[int] = ()
    logprobs: Sequence[float] = ()  # under the raw model at temperature 1
    top_logprobs: Sequence[TopLogprobs] = ()  # one a token, where the request asks for some
    stop: StopReason | None = None  # in the last one
    notes: Sequence[str] = ()  # what was wrong with tool calls that cannot be read

    def token_logprobs(self, tokenizer: Tokenizer) -> TokenLogprobs:
        """How likely its tokens were."""
        return TokenLogprobs(tokenizer, self.ids, self.logprobs, self.top_logprobs)


class StopText:
    """Cuts a text at the first of some strings; what may begin one is held back."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""
        self._is_over = False

    def feed(self, text: str) -> str:
        """Takes more text; returns what has become certain."""
        if not self._strings:
            return text
        if self._is_over:
            return ""
        text = self._held + text
        places = [place for string in self._strings if (place := text.find(string)) >= 0]
        if places:
            self._is_over, self._held = True, ""
            return text[: min(places)]
        num = max(_overlap(text, string) for string in self._strings)
        self._held = text[len(text) - num :]
        return text[: len(text) - num]

    def finish(self) -> str:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """How many characters at the end of a text begin a string."""
    return next((num for num in range(min(len(string) - 1, len(text)), 0, -1) if text.endswith(string[:num])), 0)


class Reader:
    """Reads one job.

    Args:
        thinking: as its prompt was rendered; None: the text is not split, as where there is no conversation.
        reads_calls: whether tool calls are split off; otherwise they are part of the answer's text.
        begun: what its prompt has of the reply already; it is not given again.
    """

    def __init__(
        self,
        index: int,
        job: Job,
        tokenizer: Tokenizer,
        *,
        thinking: bool | None,
        reads_calls: bool,
        begun: str = "",
    ) -> None:
        self.job = job
        self._index, self._reads_calls = index, reads_calls
        self._detokenizer = Detokenizer(tokenizer, skip_special=True)
        self._splitter = None if thinking is None else tokenizer.splitter(thinking=thinking)
        if self._splitter is not None and begun:
            self._splitter.feed(begun)
        self._stops = StopText(job.request.sampling.stop)
        self._stop_ids = frozenset(job.request.sampling.stop_ids)
        self.is_done = False

    def read(self) -> Delta | None:
        """What has come; None where nothing has."""
        job = self.job
        stop, start = job.stop, job.num_read  # the stop before the number: it is written last
        end = job.num_ready
        if self.is_done or (stop is None and start == end):
            return None
        ids: Sequence[int] = job.sample.ids[start:end] if job.sample else ()
        logprobs = job.sample.logprobs[start:end] if job.sample else ()
        top_logprobs = job.sample.top_logprobs[start:end] if job.sample else ()
        job.num_read = end
        shown = [token for token in ids if token not in self._stop_ids] if self._stop_ids else ids
        text = self._detokenizer.feed(shown)
        text = self._stops.feed(text)
        if stop is not None:
            self.is_done = True
            text += self._stops.feed(self._detokenizer.finish()) + self._stops.finish()
        pieces, notes = self._shown(self._split(text, stop is not None))
        return Delta(self._index, pieces, ids, logprobs, top_logprobs, stop, notes)

    def _split(self, text: str, is_last: bool) -> Sequence[Piece]:
        if self._splitter is None:
            return [Piece(Part.ANSWER, text)] if text else []
        return self._splitter.feed(text) + (self._splitter.finish() if is_last else [])

    def _shown(self, pieces: Iterable[Piece]) -> tuple[list[Piece], list[str]]:
        """Calls that cannot be read, or that nobody asked for, as text; and what is wrong with them."""
        shown, notes = [], []
        for piece in pieces:
            if piece.part is Part.TOOL_CALL:
                error = read_tool_call(piece.text).error
                if error is not None or not self._reads_calls:
                    piece = Piece(Part.ANSWER, CALL_OPEN + piece.text + CALL_CLOSE)
                if error is not None and self._reads_calls:
                    notes.append(f"A tool call could not be parsed and is left in the text. {error}")
            shown.append(piece)
        return shown, notes


@dataclass(slots=True)
class Outcome:
    """A whole reply: the fold over its deltas."""

    index: int = 0
    pieces: list[Piece] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[TopLogprobs] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stop: StopReason | None = None

    def take(self, delta: Delta) -> None:
        """One delta more."""
        self.pieces += delta.pieces
        self.ids += delta.ids
        self.logprobs += delta.logprobs
        self.top_logprobs += delta.top_logprobs
        self.notes += delta.notes
        self.stop = delta.stop

    def token_logprobs(self, tokenizer: Tokenizer) -> TokenLogprobs:
        """How likely its tokens were."""
        return TokenLogprobs(tokenizer, self.ids, self.logprobs, self.top_logprobs)

    def reply(self, *, finished: bool) -> Reply:
        """The reply, joined.

        Args:
            finished: whether its thought, if one was opened, was closed.
        """
        return join_pieces(self.pieces, finished=finished)

    @property
    def calls(self) -> list[ToolCall]:
        return [read_tool_call(text) for part, text in self.pieces if part is Part.TOOL_CALL]

    def text(self, part: Part) -> str:
        """All of one part."""
        return "".join(text for of, text in self.pieces if of is part)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a whole request."""

    num_prompt: int
    num_cached: int  # of the prompt: remembered from earlier requests
    num_reply: int  # of all replies together
    num_thought: int  # of these


def num_prompt_tokens(jobs: Sequence[Job]) -> tuple[int, int]:
    """Tokens of the prompts, each counted once, and how many of these were remembered."""
    firsts = [job for job in jobs if job.request.index == 0]
    cached = sum(job.sample.num_cached or 0 for job in firsts if job.sample is not None)
    return sum(len(prompt_of(job.request)) for job in firsts), cached
