"""A tokenizer as GGUF holds it: tokens and merges, llama.cpp's name for the pre-tokenizer, special tokens, template.

What llama.cpp would tokenise otherwise than `tokenizer.json` does is refused.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers

from open_exaone.base.errors import CheckpointError
from open_exaone.base.files import read_json
from open_exaone.base.links import own_file
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.text.tokenizer_files import Source

if TYPE_CHECKING:
    from gguf import GGUFWriter

FIX = "Keep the model as safetensors, for exaone, transformers or vLLM"


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    """Bytes as letters; with `use_regex` also GPT-2's split into words."""
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


def _split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


def _words(digits: str) -> dict[str, Any]:
    """The split into words that Llama 3 and Qwen 2 share but for how many `digits` stay together."""
    return _split(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        + digits
        + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


# llama.cpp's name for a pre-tokenizer; whether whole words are looked up before merging; tokenizer.json's steps.
_PRE_TOKENIZERS: tuple[tuple[str, bool, list[dict[str, Any]]], ...] = (
    ("exaone4", False, [_byte_level(use_regex=True)]),
    ("exaone", False, [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)]),
    ("exaone", False, [_split(r"\p{N}"), _byte_level(use_regex=True)]),
    # Ours, which also parts newlines: the ids are equal, because no token holds a newline and something else.
    ("exaone", False, [_split(r"\p{N}|\n"), _byte_level(use_regex=True)]),
    ("llama-bpe", True, [_words(r"\p{N}{1,3}"), _byte_level(use_regex=False)]),
    ("smaug-bpe", False, [_words(r"\p{N}{1,3}"), _byte_level(use_regex=False)]),
    ("qwen2", False, [_words(r"\p{N}"), _byte_level(use_regex=False)]),
)


def add_tokenizer(writer: "GGUFWriter", folder: Path, vocab_size: int) -> None:
    """Adds byte-level BPE as `tokenizer.json` has it, its special tokens and the chat template.

    Raises:
        CheckpointError: llama.cpp would tokenise otherwise.
    """
    path = folder / "tokenizer.json"
    backend = Tokenizer.load(folder).backend  # with the tokens that only the files beside it name
    state = json.loads(backend.to_str())  # in today's spelling, whatever the file's
    for objection in _objections_to_tokenizer(state):
        raise CheckpointError(f"{path}: llama.cpp cannot tokenise as it does: {objection}. {FIX}")
    writer.add_tokenizer_model("gpt2")
    name = _pre_tokenizer_name(state)
    assert name is not None
    writer.add_tokenizer_pre(name)
    _add_tokens(writer, backend, path, vocab_size)
    writer.add_token_merges([" ".join(pair) for pair in state["model"]["merges"]])
    _add_special_tokens(writer, backend, folder, vocab_size)


def _objections_to_tokenizer(state: Mapping[str, Any]) -> Iterator[str]:
    model, normalizer = state["model"], state["normalizer"]
    if model["type"] != "BPE" or model["byte_fallback"]:
        yield f"its model {model['type']} is not byte-level BPE"
    elif model["continuing_subword_prefix"] or model["end_of_word_suffix"] or model["dropout"]:
        yield "its BPE has a prefix, a suffix or dropout"
    elif not model["merges"]:
        yield "its BPE has no merges"
    elif _pre_tokenizer_name(state) is None:
        steps = json.dumps(state["pre_tokenizer"], ensure_ascii=False)
        yield f"llama.cpp has no name for its pre-tokenizer {steps} with ignore_merges = {model['ignore_merges']}"
    if normalizer and normalizer["type"] != "NFC":
        yield f"its normalizer is {normalizer['type']}, and llama.cpp normalises no text"
    for token in state["added_tokens"]:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            yield f"its token {token['content']!r} takes in the white space beside it, or stands for whole words only"


def _pre_tokenizer_name(state: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for what splits text before the merges, if it has one."""
    root = state["pre_tokenizer"] or {}
    steps = [
        {key: value for key, value in step.items() if key != "trim_offsets"}  # no matter for ids
        for step in root.get("pretokenizers", [root])
    ]
    found = (steps, state["model"]["ignore_merges"])
    return next((name for name, ignore_merges, known in _PRE_TOKENIZERS if (known, ignore_merges) == found), None)


def _add_tokens(writer: "GGUFWriter", backend: tokenizers.Tokenizer, path: Path, vocab_size: int) -> None:
    """Adds each id's text and type; ids up to `vocab_size` that the tokenizer doesn't have are unused."""
    from gguf import TokenType

    texts = {token_id: text for text, token_id in backend.get_vocab(with_added_tokens=True).items()}
    if max(texts) >= vocab_size:
        raise CheckpointError(f"{path}: has token id {max(texts)}, and the model's last is {vocab_size - 1}")
    added = backend.get_added_tokens_decoder()
    types = [TokenType.NORMAL if token_id in texts else TokenType.UNUSED for token_id in range(vocab_size)]
    for token_id, token in added.items():
        types[token_id] = TokenType.CONTROL if token.special else TokenType.USER_DEFINED
    tokens = [texts.get(token_id, f"[PAD{token_id}]") for token_id in range(vocab_size)]
    if len(set(tokens)) < vocab_size:  # would end llama.cpp's process
        raise CheckpointError(f"{path}: two ids have the same text; llama.cpp takes each text once. {FIX}")
    writer.add_token_list(tokens)
    writer.add_token_types(types)


def _add_special_tokens(writer: "GGUFWriter", backend: tokenizers.Tokenizer, folder: Path, vocab_size: int) -> None:
    """Adds the ids of bos, pad, unk and of what ends a reply, whether bos and eos are put around a text, the template.

    Raises:
        CheckpointError: nothing says what ends a reply; llama.cpp would take id 11 for it.
    """
    settings, *configs = (
        _object(folder / name) for name in ("tokenizer_config.json", "generation_config.json", "config.json")
    )

    def ids(kind: str) -> list[int]:
        name = settings.get(f"{kind}_token")
        text = name.get("content") if isinstance(name, dict) else name
        found = [backend.token_to_id(text)] if isinstance(text, str) else []
        for config in configs:
            value = config.get(f"{kind}_token_id")
            found += value if isinstance(value, list) else [value]
        return list(dict.fromkeys(i for i in found if isinstance(i, int) and 0 <= i < vocab_size))

    ends = ids("eos")
    if not ends:
        raise CheckpointError(f"{folder}: nothing says what ends a reply: write eos_token into tokenizer_config.json")
    bos = next(iter(ids("bos")), ends[0])  # without one, llama.cpp would take id 11
    for kind, token_id in zip(("eos", "eot", "eom"), ends, strict=False):  # its three names for an end
        getattr(writer, f"add_{kind}_token_id")(token_id)
    writer.add_bos_token_id(bos)
    for kind in ("pad", "unk"):
        for token_id in ids(kind)[:1]:
            getattr(writer, f"add_{kind}_token_id")(token_id)
    around = backend.encode("a").ids
    for kind, is_added in (("bos", around[:1] == [bos]), ("eos", around[-1:] == ends[:1])):
        flag = settings.get(f"add_{kind}_token")
        getattr(writer, f"add_add_{kind}_token")(flag if isinstance(flag, bool) else is_added)
    templates = Source.read(folder).chat_templates()
    if templates is not None:
        writer.add_chat_template([{"name": name, "template": text} for name, text in templates.sources.items()])


def _object(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file."""
    values = read_json(own_file(path)) if path.exists() else {}
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: must hold an object")
    return values
