"""A chat as every front end holds it: messages, settings, and the reply as a stream of events.

    session.ask(text) -> Piece* Note* … End      what came is kept, also where the reply is stopped or fails midway

What replies is a `Model`: an engine in this process (`session_local`) or an OpenAI-compatible endpoint
(`session_endpoint`).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from open_exaone.base.config import Config, validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_json, write_json
from open_exaone.base.records import Reply, StopReason
from open_exaone.text.split import Piece, join_pieces

Message = dict[str, str]  # "role", "content"; a reply's may hold its thought as "reasoning_content"
MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Note:
    """What a user should know of the reply, in one sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The last event: the whole reply, and why it ended."""

    reply: Reply
    stop: StopReason


Event = Piece | Note | End
Events = Generator[Event, None, None]


@dataclass(slots=True)
class Settings:
    """What may change between two turns."""

    thinking: bool = True
    budget: int | None = None  # the longest thought, in tokens; None: as long as the model thinks
    system: str = ""  # instructions in front of the conversation


class Model(Protocol):
    """What replies to a conversation."""

    name: str  # as users know it

    def stream(self, messages: Sequence[Message], settings: Settings, turn: int) -> Events:
        """The reply's events as they come, an `End` last. Ctrl-C ends it with `StopReason.CANCELLED`.

        Args:
            messages: the system's, where there is one, then by turns the user's and the model's.
            turn: how many replies were asked for before: each has a random stream of its own.

        Raises:
            OpenExaoneError: it cannot reply, or not go on; what came before stands.
        """
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


class Nothing(ConfigError):
    """There is no turn to take back or to ask again."""


class _Turn(Config):
    role: Literal["user", "assistant"]
    """Who speaks."""
    content: str
    """The text; of a reply, its answer."""
    reasoning_content: str = ""
    """A reply's thought."""


class _Saved(Config):
    system: str = ""
    """Instructions in front of the conversation."""
    thinking: bool = True
    """Whether the model thinks."""
    budget: int | None = Field(default=None, ge=1)
    """The longest thought, in tokens."""
    messages: tuple[_Turn, ...] = ()
    """By turns the user's and the model's."""


@dataclass(slots=True)
class Session:
    """One conversation with one model."""

    model: Model
    settings: Settings = field(default_factory=Settings)
    messages: list[Message] = field(default_factory=list)  # by turns the user's and the model's
    unanswered: str | None = None  # a message whose reply failed before anything came
    _num_asked: int = 0

    def ask(self, text: str) -> Events:
        """Asks, and remembers the turn: what has come of the reply, however it ends. A turn without any is forgotten.

        Raises:
            OpenExaoneError: see `Model.stream`.
        """
        asked: list[Message] = [*self.messages, {"role": "user", "content": text}]
        system: list[Message] = [{"role": "system", "content": self.settings.system}] if self.settings.system else []
        pieces, reply = list[Piece](), None
        self.unanswered, self._num_asked = text, self._num_asked + 1
        stream = self.model.stream(_to_send([*system, *asked]), self.settings, self._num_asked - 1)
        try:
            for event in stream:
                if isinstance(event, Piece):
                    pieces.append(event)
                elif isinstance(event, End):
                    reply = event.reply
                yield event
        finally:
            stream.close()
            if pieces or reply is not None:
                self._remember(asked, reply or join_pieces(pieces, finished=True))

    def retry(self) -> Events:
        """Asks the last message again, in place of its reply.

        Raises:
            Nothing: nothing was asked yet.
            OpenExaoneError: see `ask`.
        """
        return self.ask(self.unanswered if self.unanswered is not None else self.undo())

    def undo(self) -> str:
        """Takes the last turn back, and gives its message.

        Raises:
            Nothing: there is none.
        """
        if not self.messages:
            raise Nothing("nothing was asked yet")
        text = self.messages[-2]["content"]
        del self.messages[-2:]
        return text

    def clear(self) -> None:
        """Forgets the conversation; the settings stay."""
        self.messages.clear()
        self.unanswered = None

    def save(self, path: Path) -> None:
        """Writes settings and messages as JSON.

        Raises:
            ConfigError: something stands there that is no saved conversation.
            RunFolderError: it cannot be written.
        """
        if path.exists():
            try:
                _read(path)
            except DataError as error:
                raise ConfigError(f"{path}: exists and is not a saved conversation: choose another name") from error
        settings = self.settings
        values = {"model": self.model.name, "system": settings.system, "thinking": settings.thinking}
        write_json(path, {**values, "budget": settings.budget, "messages": self.messages})

    def load(self, path: Path) -> None:
        """Goes on with a saved conversation and its settings, in place of this one.

        Raises:
            DataError: it cannot be read: names the field.
        """
        saved = _read(path)
        self.settings = Settings(saved.thinking, saved.budget, saved.system)
        self.messages = [message.model_dump(exclude_defaults=True) for message in saved.messages]
        self.unanswered = None

    def _remember(self, asked: list[Message], reply: Reply) -> None:
        calls = [f"<tool_call>{call.text}</tool_call>" for call in reply.tool_calls]
        message = {"role": "assistant", "content": "\n".join(filter(None, [reply.answer, *calls]))}
        if reply.thought:
            message["reasoning_content"] = reply.thought
        self.messages, self.unanswered = [*asked, message], None


def _to_send(messages: Sequence[Message]) -> list[Message]:
    """What the model is sent: the thoughts of earlier replies stay behind, as in EXAONE's formats."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _read(path: Path) -> _Saved:
    values = read_json(path, max_bytes=MAX_FILE_BYTES)
    try:
        if not isinstance(values, dict) or "messages" not in values:
            raise ConfigError('must be an object with "messages", as /save writes it')
        values.pop("model", None)
        saved = validate(_Saved, values, str(path))
    except ConfigError as error:
        raise DataError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    for place, message in enumerate(saved.messages):
        if message.role != ("user", "assistant")[place % 2]:
            raise DataError(f"{path}: messages[{place}].role = {message.role!r}: user and assistant must take turns")
    if len(saved.messages) % 2:
        raise DataError(f"{path}: messages: ends with a message that has no reply; take it out")
    return saved
