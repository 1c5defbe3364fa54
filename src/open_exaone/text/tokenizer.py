"""The tokenizer: byte-level BPE with EXAONE's markers, its training, its files; and chat through it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from open_exaone.base.errors import CheckpointError, ConfigError, DataError
from open_exaone.base.files import write_json, write_text
from open_exaone.base.records import Reply
from open_exaone.text import chat
from open_exaone.text.split import split_reply

PAD, BOS, EOS, UNK = "[PAD]", "[BOS]", "[EOS]", "[UNK]"

# The tags inside a reply aren't "special": they survive `skip_special`, since whoever reads a reply needs them.
_TAGS = (
    *(chat.CALL_CLOSE, chat.CALL_OPEN),
    *(chat.RESULT_CLOSE, chat.RESULT_OPEN),
    *(chat.THINK_CLOSE, chat.THINK_OPEN),
)
# In the order of their ids, EXAONE 4.0's order.
_MARKERS = (PAD, BOS, EOS, UNK, *_TAGS, "[|system|]", "[|tool|]", "[|assistant|]", "[|user|]", chat.END)
_MIN_VOCAB_SIZE = len(_MARKERS) + 256  # and every byte

# A digit is always a token of its own, as in EXAONE's vocabulary. So is a newline: then text may be cut behind
# the format's newlines and tokenised in pieces, and the ids are those of the whole.
_ALONE = r"\p{N}|\n"

_NUM_TEXTS_AT_ONCE = 1000  # an encoding takes some hundred bytes a token until its ids are read off


class Tokenizer:
    """Text to ids and back, over a Hugging Face tokenizer with EXAONE 4.0's markers."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self._backend = backend
        self._plain = _without_markers(backend)
        self._format_ids: dict[str, list[int]] = {}  # the format's own texts are few: each is tokenised once

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Trains byte-level BPE on `texts`; the same texts in the same order give the same tokenizer.

        Args:
            vocab_size: markers included; met exactly. Where the texts have too few merges for it, ids that nothing
                uses (`[unused0]`, …) make up the rest.

        Raises:
            ConfigError: the markers and the 256 bytes alone are more than `vocab_size`.
        """
        if vocab_size < _MIN_VOCAB_SIZE:
            raise ConfigError(f"vocab_size = {vocab_size}: must be at least {_MIN_VOCAB_SIZE}, the markers and bytes")
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_ALONE), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(_MARKERS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        backend.train_from_iterator(texts, trainer)
        num_missing = vocab_size - backend.get_vocab_size()
        backend.add_special_tokens([f"[unused{number}]" for number in range(num_missing)])
        return cls(_with_ordinary_tags(backend))

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Opens a model's folder; of the files, `tokenizer.json` alone is read.

        Raises:
            CheckpointError: the file is missing or is not a tokenizer.
        """
        path = folder / "tokenizer.json"
        try:
            return cls(tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise CheckpointError(f"{path}: no such file; a model's folder holds its tokenizer there") from error
        except Exception as error:  # tokenizers raises nothing narrower
            raise CheckpointError(f"{path}: cannot be read as a tokenizer: {error}") from error

    def save(self, folder: Path) -> None:
        """Writes what transformers, vLLM and llama.cpp look for; each file appears whole."""
        names = {"bos_token": BOS, "eos_token": chat.END, "pad_token": PAD, "unk_token": UNK}
        settings = {
            **names,
            "add_bos_token": False,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "tokenizer_class": "PreTrainedTokenizerFast",  # others bring a pre-tokenizer of their own
        }
        write_text(folder / "tokenizer.json", self._backend.to_str(pretty=True))
        write_json(folder / "tokenizer_config.json", settings)
        write_json(folder / "special_tokens_map.json", names)
        write_text(folder / "chat_template.jinja", chat.jinja_template())

    @property
    def vocab_size(self) -> int:
        return self._backend.get_vocab_size()

    @property
    def pad_id(self) -> int:
        return self._marker_id(PAD)

    @property
    def bos_id(self) -> int:
        return self._marker_id(BOS)

    @property
    def end_id(self) -> int:
        """The end of a turn: where a generation stops."""
        return self._marker_id(chat.END)

    @property
    def think_open_id(self) -> int:
        return self._marker_id(chat.THINK_OPEN)

    @property
    def think_close_id(self) -> int:
        return self._marker_id(chat.THINK_CLOSE)

    def encode(self, text: str) -> list[int]:
        """Tokenises plain text: a marker's name in it is text like any other."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenises many plain texts, on all cores."""
        try:
            return [
                encoding.ids
                for start in range(0, len(texts), _NUM_TEXTS_AT_ONCE)
                for encoding in self._plain.encode_batch_fast(
                    list(texts[start : start + _NUM_TEXTS_AT_ONCE]), add_special_tokens=False
                )
            ]
        except TypeError as error:
            raise DataError("cannot tokenise: not a Unicode text (half of a surrogate pair, perhaps)") from error

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of ids; bytes that are no UTF-8 show as U+FFFD.

        Args:
            skip_special: leave out turn markers and padding. `<think>` and the tool tags stay.
        """
        return self._backend.decode(list(ids), skip_special_tokens=skip_special)

    @overload
    def render(
        self,
        messages: Sequence[chat.Message],
        *,
        thinking: bool = ...,
        tools: Sequence[chat.Tool] | None = ...,
        generation_prompt: bool = ...,
        with_mask: Literal[False] = ...,
    ) -> list[int]: ...

    @overload
    def render(
        self,
        messages: Sequence[chat.Message],
        *,
        thinking: bool = ...,
        tools: Sequence[chat.Tool] | None = ...,
        generation_prompt: bool = ...,
        with_mask: Literal[True],
    ) -> tuple[list[int], list[bool]]: ...

    def render(
        self,
        messages: Sequence[chat.Message],
        *,
        thinking: bool = False,
        tools: Sequence[chat.Tool] | None = None,
        generation_prompt: bool = False,
        with_mask: bool = False,
    ) -> list[int] | tuple[list[int], list[bool]]:
        """Renders a conversation to ids, as `chat.render_segments` says.

        The ids of a prompt (`generation_prompt=True`) begin the ids of the same conversation with its reply.

        Returns:
            ids [T]; with `with_mask`, also the loss mask [T], True on what the model is to produce.
        """
        [(ids, mask)] = self.render_many(
            [messages], thinking=thinking, tools=tools, generation_prompt=generation_prompt
        )
        return (ids, mask) if with_mask else ids

    def render_many(
        self,
        conversations: Iterable[Sequence[chat.Message]],
        *,
        thinking: bool = False,
        tools: Sequence[chat.Tool] | None = None,
        generation_prompt: bool = False,
    ) -> list[tuple[list[int], list[bool]]]:
        """Renders conversations, faster than one by one.

        Returns:
            for each, its ids [T] and its loss mask [T].
        """
        rendered = [
            chat.render_segments(messages, thinking=thinking, tools=tools, generation_prompt=generation_prompt)
            for messages in conversations
        ]
        contents = [segment.text for segments in rendered for segment in segments if not segment.is_format]
        content_ids = iter(self.encode_batch(contents))
        return [self._join(segments, content_ids) for segments in rendered]

    def split(self, reply: str | Sequence[int], *, thinking: bool) -> Reply:
        """Splits a reply, text or ids, into thought, answer and tool calls.

        Args:
            thinking: the prompt has opened the thought.
        """
        text = reply if isinstance(reply, str) else self.decode(reply, skip_special=True)
        return split_reply(text, thinking=thinking)

    def _join(self, segments: Iterable[chat.Segment], content_ids: Iterator[list[int]]) -> tuple[list[int], list[bool]]:
        """Puts a conversation's ids together; takes the next of `content_ids` for each content."""
        ids: list[int] = []
        mask: list[bool] = []
        for segment in segments:
            piece = self._encode_format(segment.text) if segment.is_format else next(content_ids)
            ids += piece
            mask += [segment.is_learned] * len(piece)
        return ids, mask

    def _encode_format(self, text: str) -> list[int]:
        """Tokenises the format's own text, in which markers' names are markers."""
        if text not in self._format_ids:
            for marker in _MARKERS:
                if marker in text:
                    self._marker_id(marker)  # a tokenizer without it would take it for text
            self._format_ids[text] = self._backend.encode(text, add_special_tokens=False).ids
        return self._format_ids[text]

    def _marker_id(self, name: str) -> int:
        marker_id = self._backend.token_to_id(name)
        if marker_id is None:
            raise CheckpointError(f"tokenizer.json: has no token {name!r}; EXAONE 4.0's chat format needs it")
        return marker_id


def _without_markers(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same tokenizer, for plain text: of the added tokens only runs of white space are left.

    The backend's own `encode_special_tokens` would spare `<think>` and the tool tags, which aren't "special".
    """
    state: dict[str, Any] = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"].isspace()]
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def _with_ordinary_tags(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Takes the "special" mark, which training puts on every marker, off the tags."""
    state: dict[str, Any] = json.loads(backend.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] not in _TAGS
    return tokenizers.Tokenizer.from_str(json.dumps(state))
