"""Byte-level BPE with EXAONE's markers, trained on texts."""

import json
from collections.abc import Collection, Iterable
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from open_exaone.base.errors import ConfigError
from open_exaone.text import exaone4
from open_exaone.text.tokenizer_files import BOS, EOS, PAD, UNK

# In the order of their ids, EXAONE 4.0's order.
_MARKERS = (PAD, BOS, EOS, UNK, *exaone4.TAGS, *exaone4.TURNS)
_MIN_VOCAB_SIZE = len(_MARKERS) + 256  # and every byte

# A digit is always a token of its own, as in EXAONE's vocabulary. So is a newline: then text may be cut behind
# the format's newlines and tokenised in pieces, and the ids are those of the whole.
_ALONE = r"\p{N}|\n"


def trained_backend(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """The same texts in the same order give the same tokenizer; see `Tokenizer.train`.

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
    return _with_ordinary_tags(backend, exaone4.TAGS)


def _with_ordinary_tags(backend: tokenizers.Tokenizer, tags: Collection[str]) -> tokenizers.Tokenizer:
    """Takes the "special" mark, which training puts on every marker, off some."""
    state: dict[str, Any] = json.loads(backend.to_str())
    for token in state["added_tokens"]:
        token["special"] = token["content"] not in tags
    return tokenizers.Tokenizer.from_str(json.dumps(state))
