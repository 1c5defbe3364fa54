"""A tokenizer's files as transformers, vLLM and llama.cpp look for them."""

import contextlib
import json
from collections.abc import Callable

import tokenizers

from open_exaone.base.errors import CheckpointError
from open_exaone.text import exaone4
from open_exaone.text.chat import END
from open_exaone.text.response_template import KEY, add_response_template, response_template
from open_exaone.text.tokenizer_files import (
    BACKEND_FILE,
    BOS,
    MAP_FILE,
    PAD,
    SETTINGS_FILE,
    TEMPLATE_FILE,
    UNK,
    Source,
)

_NAMES = {"bos_token": BOS, "eos_token": END, "pad_token": PAD, "unk_token": UNK}
_SETTINGS = {
    **_NAMES,
    "add_bos_token": False,
    "add_prefix_space": False,
    "clean_up_tokenization_spaces": False,
    "tokenizer_class": "PreTrainedTokenizerFast",  # others bring a pre-tokenizer of their own
}


def saved_files(
    backend: tokenizers.Tokenizer, source: Source | None, format_name: Callable[[], str]
) -> dict[str, bytes]:
    """Every file by its name, as bytes.

    Args:
        source: the folder that the tokenizer was loaded from: its files as they stand there, byte for byte, but that
            a tokenizer_config.json without a `response_template` gets the chat format's, if that has one. None: it is
            one of our own, with EXAONE 4.0's markers.
        format_name: finds out the chat format's name, or raises CheckpointError where the folder's own is broken.
    """
    if source is None:
        settings = {**_SETTINGS, KEY: response_template(exaone4.EXAONE_4.name)}
        return {
            BACKEND_FILE: backend.to_str(pretty=True).encode(),
            SETTINGS_FILE: _json(settings),
            MAP_FILE: _json(_NAMES),
            TEMPLATE_FILE: exaone4.jinja_template().encode(),
        }
    files = dict(source.files)
    if SETTINGS_FILE in files and source.value(SETTINGS_FILE, KEY) is None:
        with contextlib.suppress(CheckpointError):
            files[SETTINGS_FILE] = add_response_template(files[SETTINGS_FILE], format_name())
    return files


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode()
