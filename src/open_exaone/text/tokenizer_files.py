"""What a model's folder says about its tokenizer: its files, its special tokens, its chat templates.

Only `tokenizer.json` must be there. Every file may be hostile: none is read beyond its limit, none but regular
files of the folder itself is opened, and what is read is checked before it is used.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from open_exaone.base.errors import CheckpointError
from open_exaone.base.links import own_file
from open_exaone.base.streams import parse_json
from open_exaone.text.chat import END

BACKEND_FILE, SETTINGS_FILE, MAP_FILE = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
ADDED_FILE = "added_tokens.json"
TEMPLATE_FILE, TEMPLATE_FOLDER = "chat_template.jinja", "additional_chat_templates"
TOOL_TEMPLATE_FILE = f"{TEMPLATE_FOLDER}/tool_use.jinja"
SAMPLING_FILE = "generation_config.json"
MODEL_FILES = (SAMPLING_FILE, "config.json")  # the model's, not the tokenizer's: never saved again

# The tokenizer's own files, with the most bytes that are read of each.
_MAX_BYTES = {
    **{BACKEND_FILE: 100_000_000, SETTINGS_FILE: 10_000_000, MAP_FILE: 10_000_000, ADDED_FILE: 10_000_000},
    **{"vocab.json": 50_000_000, "merges.txt": 50_000_000, "vocab.txt": 50_000_000, "tokenizer.model": 50_000_000},
    **{TEMPLATE_FILE: 1_000_000, "chat_template.json": 1_000_000},
}
_MAX_TEMPLATES = 20  # in the folder of additional ones
_MAX_MODEL_BYTES = 10_000_000

PAD, BOS, EOS, UNK = "[PAD]", "[BOS]", "[EOS]", "[UNK]"
_OURS = {"bos": BOS, "pad": PAD, "eos": END}  # EXAONE's names, where a folder says nothing
_TEMPLATE_VARIABLES = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


_FLAGS = ("special", "normalized", "lstrip", "rstrip", "single_word")  # of an added token


@dataclass(frozen=True, slots=True)
class ChatTemplates:
    """The templates that came with a checkpoint, by name: "default" and perhaps "tool_use"."""

    sources: Mapping[str, str]
    paths: Mapping[str, Path]
    variables: Mapping[str, str]  # "bos_token" and the like


@dataclass(frozen=True, slots=True)
class Source:
    """A folder that a tokenizer was loaded from; nothing is read from it again."""

    folder: Path
    files: Mapping[str, bytes]  # the tokenizer's own, as they stand
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the JSON files beside tokenizer.json

    @classmethod
    def read(cls, folder: Path) -> "Source":
        """Reads what there is.

        Raises:
            CheckpointError: tokenizer.json is missing, a file is too large, unreadable or no JSON object, or
                generation_config.json, which a trained model keeps, holds NaN or infinity.
        """
        files = tokenizer_files(folder)
        if BACKEND_FILE not in files:
            raise CheckpointError(f"{folder / BACKEND_FILE}: no such file; a model's folder holds its tokenizer there")
        sides = {name: _read(folder, name, _MAX_MODEL_BYTES) for name in MODEL_FILES}
        sides |= {name: files.get(name) for name in (SETTINGS_FILE, MAP_FILE, ADDED_FILE)}
        values = {name: _object(folder / name, text) for name, text in sides.items() if text is not None}
        for name, value in values.get(SAMPLING_FILE, {}).items():
            try:
                json.dumps(value, allow_nan=False)
            except (ValueError, RecursionError) as error:
                where, why = f"{folder / SAMPLING_FILE}: {name[:100]}", "holds NaN or infinity, or is nested too deeply"
                raise CheckpointError(f"{where}: {why}; fix it or leave it out") from error
        return cls(folder, files, values)

    def text(self, name: str) -> str | None:
        """A file's text; None where there is no such file.

        Raises:
            CheckpointError: it is no UTF-8.
        """
        if name not in self.files:
            return None
        return _decoded(self.folder / name, self.files[name])

    def value(self, name: str, key: str) -> Any:
        """A field of a JSON file; None where either is missing."""
        return self.values.get(name, {}).get(key)

    def added_tokens(self) -> list[tuple[int, str, dict[str, bool]]]:
        """The tokens that the files beside tokenizer.json add: each one's id, name and flags, in order of ids.

        Raises:
            CheckpointError: a file is malformed; names the field.
        """
        tokens: dict[str, tuple[int, str, dict[str, bool]]] = {}
        named = self.value(SETTINGS_FILE, "added_tokens_decoder")
        for key, token in _mapping(named, f"{self.folder / SETTINGS_FILE}: added_tokens_decoder").items():
            name = token.get("content") if isinstance(token, dict) else None
            if not isinstance(name, str) or not (key.isascii() and key.isdigit() and len(key) < 10):
                where = f"{self.folder / SETTINGS_FILE}: added_tokens_decoder: {key[:100]!r}"
                raise CheckpointError(f'{where}: must be an id, with {{"content": a text}}; fix it')
            tokens[name] = (int(key), name, {flag: token[flag] is True for flag in _FLAGS if flag in token})
        special = {self._token_text(key) for key in _TEMPLATE_VARIABLES} if ADDED_FILE in self.values else set()
        for name, number in self.values.get(ADDED_FILE, {}).items():
            if type(number) is not int:
                raise CheckpointError(f"{self.folder / ADDED_FILE}: {name[:100]!r}: must have an id; fix it")
            flags = {"special": name in special, "normalized": name not in special}
            tokens.setdefault(name, (number, name, flags))
        return sorted((token for token in tokens.values() if token[1]), key=lambda token: token[:2])

    def chat_templates(self) -> ChatTemplates | None:
        """The templates, a file of their own before the tokenizer's settings; None where there is none.

        Raises:
            CheckpointError: a template is no text, or none is the default one.
        """
        sources = {"default": self.text(TEMPLATE_FILE), "tool_use": self.text(TOOL_TEMPLATE_FILE)}
        found = {name: text for name, text in sources.items() if text is not None}
        paths = {"default": self.folder / TEMPLATE_FILE, "tool_use": self.folder / TOOL_TEMPLATE_FILE}
        if not found:
            found = self._templates_in_settings()
            paths = dict.fromkeys(found, self.folder / SETTINGS_FILE)
        if not found:
            return None
        if "default" not in found:
            [path, *_] = [paths[name] for name in found]
            raise CheckpointError(f"{path}: chat_template: has no template named 'default'; add one")
        variables = {key: self._token_text(key) for key in _TEMPLATE_VARIABLES}
        return ChatTemplates(found, paths, {key: text for key, text in variables.items() if text is not None})

    def _templates_in_settings(self) -> dict[str, str]:
        value = self.value(SETTINGS_FILE, "chat_template")
        if value is None:
            return {}
        named = [{"name": "default", "template": value}] if isinstance(value, str) else value
        where = f"{self.folder / SETTINGS_FILE}: chat_template"
        expected = 'must be a text or a list of {"name": a text, "template": a text}'
        if not isinstance(named, list):
            raise CheckpointError(f"{where}: {expected}, not {type(named).__name__}")
        templates = {}
        for item in named:
            name, text = (item.get("name"), item.get("template")) if isinstance(item, dict) else (None, None)
            if not isinstance(name, str) or not isinstance(text, str):
                raise CheckpointError(f"{where}: {expected}")
            if len(text) > _MAX_BYTES[TEMPLATE_FILE]:
                raise CheckpointError(f"{where}: has more than {_MAX_BYTES[TEMPLATE_FILE]:,} characters; shorten it")
            templates[name] = text
        return templates

    def _token_text(self, key: str) -> str | None:
        """What a special token is written as."""
        for name in (SETTINGS_FILE, MAP_FILE):
            value = self.value(name, key)
            text = value.get("content") if isinstance(value, dict) else value
            if isinstance(text, str):
                return text
            if value is not None:
                raise CheckpointError(f'{self.folder / name}: {key}: must be a text or {{"content": a text}}; fix it')
        return None


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """The ids with a special meaning in generation.

    The first of these that is given counts: the id beside the model, the name beside the tokenizer, our names. Files
    often name ids that the tokenizer lacks, so each is looked up on use.

    All raise:
        CheckpointError: a file names an id or a token that the tokenizer doesn't have; names file and field.
    """

    source: Source
    id_of: Callable[[str], int | None]
    has_id: Callable[[int], bool]

    def bos(self) -> int | None:
        return next(iter(self._by_id("bos") or self._by_name("bos") or self._ours("bos")), None)

    def pad(self) -> int | None:
        return next(iter(self._by_id("pad") or self._by_name("pad") or self._ours("pad")), None)

    def ends(self) -> tuple[int, ...]:
        """Every id that ends a generation, the tokenizer's own first: a model's list often lacks the end of a turn."""
        return tuple(dict.fromkeys([*self._by_name("eos"), *self._by_id("eos")]) or self._ours("eos"))

    def _by_id(self, kind: str) -> list[int]:
        """As the model's files give them; of a list, those that the tokenizer has."""
        for name in MODEL_FILES:
            value = self.source.value(name, f"{kind}_token_id")
            if value is None or value == -1:  # -1 is an old way to say "none"
                continue
            where = f"{self.source.folder / name}: {kind}_token_id = {str(value)[:100]}"
            ids = value if isinstance(value, list) else [value]
            if any(type(each) is not int for each in ids):
                raise CheckpointError(f"{where}: must be an id, or a list of ids; fix it or leave it out")
            known = [each for each in ids if 0 <= each < 1 << 31 and self.has_id(each)]
            if ids and not known:
                raise CheckpointError(f"{where}: {BACKEND_FILE} has no such id; fix it or leave it out")
            if known:
                return known
        return []

    def _by_name(self, kind: str) -> list[int]:
        """As the tokenizer's files give it."""
        key = f"{kind}_token"
        text = self.source._token_text(key)
        if text is None:
            return []
        found = self.id_of(text)
        if found is None:
            name = SETTINGS_FILE if self.source.value(SETTINGS_FILE, key) is not None else MAP_FILE
            path = self.source.folder / name
            raise CheckpointError(f"{path}: {key} = {text[:100]!r}: {BACKEND_FILE} has no such token; fix either file")
        return [found]

    def _ours(self, kind: str) -> list[int]:
        found = self.id_of(_OURS[kind])
        return [] if found is None else [found]


def add_missing_tokens(backend: tokenizers.Tokenizer, source: Source) -> None:
    """Adds the tokens that stand in the files beside tokenizer.json alone.

    Raises:
        CheckpointError: one can't have the id that its file gives it.
    """
    missing = [token for token in source.added_tokens() if backend.token_to_id(token[1]) is None]
    backend.add_tokens([AddedToken(name, **flags) for _, name, flags in missing])
    for number, name, _ in missing:
        if backend.token_to_id(name) != number:
            raise CheckpointError(
                f"{source.folder / BACKEND_FILE}: lacks the token {name[:100]!r}, which a file beside it gives the id "
                f"{number}, and has no room for it there; add it with the ids before it"
            )


def tokenizer_files(folder: Path, *more: str) -> dict[str, bytes]:
    """The files of a folder that are its tokenizer's, every chat template among them, and `more`, as they stand.

    Raises:
        CheckpointError: a file is too large or unreadable, or there are too many templates.
    """
    templates = sorted(path.name for path in (folder / TEMPLATE_FOLDER).glob("*.jinja"))
    if len(templates) > _MAX_TEMPLATES:
        raise CheckpointError(f"{folder / TEMPLATE_FOLDER}: holds more than {_MAX_TEMPLATES} templates; take some out")
    limits = _MAX_BYTES | {f"{TEMPLATE_FOLDER}/{name}": _MAX_BYTES[TEMPLATE_FILE] for name in templates}
    limits |= dict.fromkeys(more, _MAX_MODEL_BYTES)
    found = {name: _read(folder, name, limit) for name, limit in limits.items()}
    return {name: content for name, content in found.items() if content is not None}


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise CheckpointError(f"{where}: must be a JSON object, not {type(value).__name__}; fix it")
    return value or {}


def _read(folder: Path, name: str, limit: int) -> bytes | None:
    """A file's bytes; None where there is none."""
    path = own_file(folder / name, folder)
    try:
        if not path.exists():
            return None
        if not path.is_file():
            raise CheckpointError(f"{path}: is no ordinary file; put the model's own file there")
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        fix = "make it readable to this user, or download it again"
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}; {fix}") from error
    if len(content) > limit:
        raise CheckpointError(f"{path}: is larger than {limit:,} bytes: no tokenizer's file is; download it again")
    return content


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is no UTF-8 text: {error}; download it again") from error


def _object(path: Path, content: bytes) -> dict[str, Any]:
    try:
        value = parse_json(_decoded(path, content))
    except ValueError as error:  # also a number of thousands of digits
        raise CheckpointError(f"{path}: not valid JSON: {error}; download it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must be a JSON object, not {type(value).__name__}; download it again")
    return value
