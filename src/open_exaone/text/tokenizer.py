"""The tokenizer: byte-level BPE with EXAONE's markers, its training, its files; and chat through it."""

import functools
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import tokenizers

from open_exaone.base.errors import CheckpointError, DataError
from open_exaone.base.files import write_atomically
from open_exaone.base.records import Reply
from open_exaone.text import exaone4
from open_exaone.text.bpe import trained_backend
from open_exaone.text.chat import THINK_CLOSE, THINK_OPEN, ChatFormat, Dialogue, Message, Segment, Tool, last_reply
from open_exaone.text.encode import PieceEncoder, check_growth, named_failure, with_mask, without_markers
from open_exaone.text.formats import NATIVE, check_name, choose_format, source_for
from open_exaone.text.saved import saved_files
from open_exaone.text.split import ReplySplitter
from open_exaone.text.stored import split_stored
from open_exaone.text.template import Template
from open_exaone.text.tokenizer_files import (
    BACKEND_FILE,
    ChatTemplates,
    Source,
    SpecialIds,
    add_missing_tokens,
)

Ids = tuple[list[int], list[bool]]  # token ids [T], and which are learned [T]

# The format's own texts are few and short, and each is tokenised once; a template's are whole conversations.
_MAX_KEPT_TEXTS, _MAX_KEPT_CHARS = 1000, 1000


class Tokenizer:
    """Text to ids and back, over a Hugging Face tokenizer; and conversations to ids, in the model's chat format.

    Args:
        source: the folder it was loaded from; None for one of our own, with EXAONE 4.0's markers.
        chat_format: the format by name; None leaves it to the folder.
    """

    def __init__(
        self, backend: tokenizers.Tokenizer, *, source: Source | None = None, chat_format: str | None = None
    ) -> None:
        self.backend = backend
        self._source = source
        self.chat_format_name = chat_format
        self._rendered_at = datetime.now()
        self._format_ids: dict[tuple[str, bool], list[int]] = {}
        self._path = (source.folder if source else Path("the tokenizer")) / BACKEND_FILE

    def __getstate__(self) -> dict[str, Any]:
        """The state without caches, some of which cannot be copied."""
        return {name: value for name, value in vars(self).items() if name not in ("chat_format", "_marked", "_plain")}

    @property
    def rendered_at(self) -> datetime:
        """The time that a template is given which prints a date; a run and an evaluation hold it to their beginning."""
        return self._rendered_at

    @rendered_at.setter
    def rendered_at(self, now: datetime) -> None:
        self._rendered_at = now
        self.__dict__.pop("chat_format", None)  # its process has the time from before
        self._format_ids.clear()

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Trains byte-level BPE on `texts`; the same texts in the same order give the same tokenizer.

        Args:
            vocab_size: markers included; met exactly. Where the texts have too few merges for it, ids that nothing
                uses (`[unused0]`, …) make up the rest.

        Raises:
            ConfigError: the markers and the 256 bytes alone are more than `vocab_size`.
        """
        return cls(trained_backend(texts, vocab_size))

    @classmethod
    def load(cls, folder: Path, *, chat_format: str | None = None) -> "Tokenizer":
        """Opens the tokenizer of a model's folder, of any family; `tokenizer.json` alone must be there.

        Args:
            chat_format: how conversations are rendered: a name of `formats.NAMES` such as "exaone-4.0", "template",
                the folder's own, or "template-with-thoughts" where that has none. None leaves it to the folder: a
                native format where its template says the same (but tools always in the template's words), else it.

        Raises:
            CheckpointError: a file is missing, too large or broken; names the file and the field.
            ConfigError: there is no such chat format.
        """
        check_name(chat_format)
        source = source_for(chat_format, Source.read(folder))
        with named_failure("cannot be read as a tokenizer", folder):
            backend = tokenizers.Tokenizer.from_str(source.text(BACKEND_FILE) or "")
            backend.no_truncation()  # a training's leftovers, which would cut what is encoded
            backend.no_padding()
            if backend.normalizer is not None:
                check_growth(backend.normalizer)
            add_missing_tokens(backend, source)
        return cls(backend, source=source, chat_format=chat_format)

    def save(self, folder: Path) -> None:
        """Writes what transformers, vLLM and llama.cpp look for; each file appears whole. See `saved.saved_files`."""
        for name, content in self.files().items():
            write_atomically(folder / name, functools.partial(Path.write_bytes, data=content))

    def files(self) -> dict[str, bytes]:
        """What `save` writes, by name."""
        return saved_files(self.backend, self._source, lambda: self.chat_format.name)

    @cached_property
    def chat_format(self) -> ChatFormat:
        """How conversations are rendered. Found out when first needed: a foreign template has to be tried.

        Raises:
            CheckpointError: the folder's template is broken.
        """
        if self._source is None:
            return NATIVE[self.chat_format_name or exaone4.EXAONE_4.name]
        return choose_format(self._source, self.chat_format_name, self._make_template)

    @cached_property
    def vocab_size(self) -> int:
        """One more than the highest id; where ids have holes, more than there are tokens."""
        return max(self.backend.get_vocab().values(), default=-1) + 1

    @property
    def bos_id(self) -> int | None:
        """What begins a text.

        Raises:
            CheckpointError: a file names an id or a token that tokenizer.json lacks; so do `pad_id` and `end_ids`.
        """
        return self._special.bos()

    @property
    def pad_id(self) -> int:
        """Padding; where a folder names none, the end of a turn.

        Raises:
            CheckpointError: the folder names neither.
        """
        pad_id = self._special.pad()
        return self.end_id if pad_id is None else pad_id

    @property
    def end_id(self) -> int:
        """The end of a turn as the tokenizer's own files say it, else the first of `end_ids`."""
        return self.end_ids[0]

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Every id that ends a generation, `end_id` first.

        Raises:
            CheckpointError: the folder names none.
        """
        end_ids = self._special.ends()
        if not end_ids:
            raise CheckpointError(
                f"{self._path.parent}: names no token that ends a generation; add eos_token to tokenizer_config.json "
                f"or eos_token_id to generation_config.json"
            )
        return end_ids

    @cached_property
    def text_begin_ids(self) -> list[int]:
        """What tokenizer.json puts before a plain text, such as BOS; chat formats write their own."""
        with named_failure("cannot tokenise this text"):
            text, whole = (self.backend.encode("a", add_special_tokens=added).ids for added in (False, True))
        begins = next((place for place in range(len(whole) + 1) if whole[place : place + len(text)] == text), 0)
        return whole[:begins]

    @property
    def think_open_id(self) -> int:
        return self._marker_id(THINK_OPEN)

    @property
    def think_close_id(self) -> int:
        return self._marker_id(THINK_CLOSE)

    def encode(self, text: str) -> list[int]:
        """Tokenises plain text: a marker's name in it is text like any other."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenises many plain texts, on all cores."""
        return self._plain.encode([(text, False) for text in texts])

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of ids; bytes that are no UTF-8 show as U+FFFD.

        Args:
            skip_special: leave out turn markers and padding. `<think>` and the tool tags stay.
        """
        with named_failure("cannot decode these ids"):
            return self.backend.decode(list(ids), skip_special_tokens=skip_special)

    @overload
    def render(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = ...,
        tools: Sequence[Tool] | None = ...,
        generation_prompt: bool = ...,
        with_mask: Literal[False] = ...,
    ) -> list[int]: ...

    @overload
    def render(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = ...,
        tools: Sequence[Tool] | None = ...,
        generation_prompt: bool = ...,
        with_mask: Literal[True],
    ) -> tuple[list[int], list[bool]]: ...

    def render(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Sequence[Tool] | None = None,
        generation_prompt: bool = False,
        with_mask: bool = False,
    ) -> list[int] | tuple[list[int], list[bool]]:
        """Renders a conversation to ids, in `chat_format`; what is learned, `ChatFormat.segments` says.

        The ids of a prompt (`generation_prompt=True`) begin the ids of the same conversation with its reply, where
        the format renders the reply with what the prompt ends in.

        Returns:
            ids [T]; with `with_mask`, also the loss mask [T], True on what the model is to produce.

        Raises:
            DataError: a message is malformed (names its index and field), the format can't say it, or (with a mask)
                what is learned can't be found.
            CheckpointError: the folder has no chat template, or a broken one, or lacks the format's markers.
        """
        learned = last_reply(messages, generation_prompt) if with_mask else ()
        [rendered] = self.render_dialogues([Dialogue(messages, thinking, tools, generation_prompt, learned)])
        ids, mask = _of_one_text(rendered)
        return (ids, mask) if with_mask else ids

    def render_many(
        self,
        conversations: Iterable[Sequence[Message]],
        *,
        thinking: bool = False,
        tools: Sequence[Tool] | None = None,
        generation_prompt: bool = False,
    ) -> list[tuple[list[int], list[bool]]]:
        """Renders conversations, faster than one by one.

        Returns:
            for each, its ids [T] and its loss mask [T].

        Raises:
            DataError, CheckpointError: as `render` with a mask.
        """
        dialogues = [
            Dialogue(messages, thinking, tools, generation_prompt, last_reply(messages, generation_prompt))
            for messages in conversations
        ]
        return [_of_one_text(rendered) for rendered in self.render_dialogues(dialogues)]

    def render_dialogues(self, dialogues: Sequence[Dialogue]) -> list[Ids | DataError | None]:
        """Renders conversations, each in its own way: a template's process and all cores take them together.

        Returns:
            for each, its ids [T] and its loss mask [T]; or why it can't be rendered; or None where its learned
            replies don't stand in one text (`chat.Rendering`).

        Raises:
            CheckpointError: as `render`.
        """
        rendered = self.chat_format.render_all(dialogues)
        encoded = iter(self._encode_masked([segments for segments in rendered if isinstance(segments, list)]))
        return [next(encoded) if isinstance(each, list) else each for each in rendered]

    def split(self, reply: str | Sequence[int], *, thinking: bool) -> Reply:
        """Splits a reply, text or ids, into thought, answer and tool calls.

        Args:
            thinking: as the prompt was rendered; whether that left a thought open, the format knows.
        """
        text = reply if isinstance(reply, str) else self.decode(reply, skip_special=True)
        tag = self.chat_format.thought_tag
        return split_stored(text, thinking=self.chat_format.opens_thought(thinking), tags={f"<{tag}>": f"</{tag}>"})

    def splitter(self, *, thinking: bool) -> ReplySplitter:
        """The same for a reply that streams in; see `split`."""
        opened = self.chat_format.opens_thought(thinking)
        return ReplySplitter(thinking=opened, thought_tags=(self.chat_format.thought_tag,))

    def encode_segments(self, rendered: Sequence[Sequence[Segment]]) -> list[list[list[int]]]:
        """Tokenises each segment of each conversation alone."""
        placed = [(segment, place > 0) for segments in rendered for place, segment in enumerate(segments)]
        plain = [(item.text, inside) for item, inside in placed if not item.is_format]
        contents = iter(self._plain.encode(plain) if plain else ())
        formats = self._encode_formats({(item.text, inside) for item, inside in placed if item.is_format})
        pieces = (formats[item.text, inside] if item.is_format else next(contents) for item, inside in placed)
        return [[next(pieces) for _ in segments] for segments in rendered]

    def _encode_masked(self, rendered: Sequence[Sequence[Segment]]) -> list[tuple[list[int], list[bool]]]:
        """For each conversation, its ids and its loss mask."""
        return [with_mask(*each) for each in zip(rendered, self.encode_segments(rendered), strict=True)]

    def _encode_formats(self, placed: set[tuple[str, bool]]) -> dict[tuple[str, bool], list[int]]:
        """Tokenises the format's own texts, in which markers' names are markers."""
        missing = [key for key in placed if key not in self._format_ids]
        for text, _ in missing:
            for marker in self.chat_format.markers:
                if marker in text:
                    self._marker_id(marker)  # a tokenizer without it would take it for text
        found = dict(zip(missing, self._marked.encode(missing), strict=True))
        short = {key: ids for key, ids in found.items() if len(key[0]) <= _MAX_KEPT_CHARS}
        if len(self._format_ids) + len(short) <= _MAX_KEPT_TEXTS:
            self._format_ids.update(short)
        return found | {key: self._format_ids[key] for key in placed if key in self._format_ids}

    def _make_template(self, templates: ChatTemplates) -> Template:
        added = [token for token in self.backend.get_added_tokens_decoder().values() if not token.content.isspace()]
        normalizer = self.backend.normalizer if any(token.normalized for token in added) else None

        def normalize(text: str) -> str:
            assert normalizer is not None
            with named_failure("cannot normalise this text"):
                return normalizer.normalize_str(text)

        try:
            end_ids = self.end_ids
        except CheckpointError:  # rendering alone needs none
            end_ids = ()
        return Template(
            templates,
            markers=[token.content for token in added if token.content],
            end_markers=list(filter(None, (self.backend.decode([number], False) for number in end_ids))),
            normalize=None if normalizer is None else normalize,
            now=self.rendered_at,
        )

    @property
    def _special(self) -> SpecialIds:
        source = self._source or Source(Path("the tokenizer"), {})
        return SpecialIds(source, self.backend.token_to_id, lambda number: self.backend.id_to_token(number) is not None)

    @cached_property
    def _marked(self) -> PieceEncoder:
        """For the format's own texts."""
        return PieceEncoder(self.backend)

    @cached_property
    def _plain(self) -> PieceEncoder:
        """For all others."""
        return PieceEncoder(without_markers(self.backend))

    def _marker_id(self, name: str) -> int:
        marker_id = self.backend.token_to_id(name)
        if marker_id is None:
            wanted = self.chat_format.name
            raise CheckpointError(f"{self._path}: has no token {name!r}; the chat format {wanted} needs it")
        return marker_id


def _of_one_text(rendered: Ids | DataError | None) -> Ids:
    if isinstance(rendered, DataError):
        raise rendered
    assert rendered is not None  # it has one reply to learn at most, at its end
    return rendered
