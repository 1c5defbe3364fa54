"""The shapes and the data that the training benchmarks share. Shapes are EXAONE 4.0's, with tied embeddings.

S and M are made up: small enough for two cores, and with the proportions of the published models. L is EXAONE 4.0 1.2B,
7.8B is EXAONE Deep's, and nano is what the default recipe trains.
"""

from collections.abc import Sequence

import numpy as np

from open_exaone.data.document import Document
from open_exaone.model.config import ModelConfig
from open_exaone.model.registry import PUBLISHED
from open_exaone.pipeline.recipe import load_recipe

INITIALIZER_RANGE = load_recipe().model.initializer_range
SHAPES: dict[str, ModelConfig] = {
    "nano": load_recipe().model,
    "S": ModelConfig(
        vocab_size=4096,
        width=256,
        num_layers=8,
        num_heads=8,
        num_kv_heads=4,
        head_width=32,
        ffn_width=768,
        max_positions=4096,
        initializer_range=INITIALIZER_RANGE,
    ),
    "M": ModelConfig(
        vocab_size=32_000,
        width=768,
        num_layers=16,
        num_heads=12,
        num_kv_heads=4,
        head_width=64,
        ffn_width=2304,
        max_positions=4096,
        initializer_range=INITIALIZER_RANGE,
    ),
    "L": PUBLISHED["EXAONE-4.0-1.2B"].config,
    # EXAONE 3.5 and Deep, under the name of the same layers that transformers opens.
    "7.8B": PUBLISHED["EXAONE-Deep-7.8B"].config.model_copy(update={"family": "llama"}),
}

SHORTEST, LONGEST = 16, 2048  # tokens of a document
PROMPT_SHARE = 0.25  # of a document, not learned
BUCKETS = ((16, 64), (64, 256), (256, 1024), (1024, 2048))  # tokens of a document, for figures by length


def ragged(
    config: ModelConfig, num_documents: int, *, shortest: int = SHORTEST, longest: int = LONGEST, seed: int = 0
) -> list[Document]:
    """Documents of log-uniform lengths: one from each of `num_documents` equal parts of the range, in random order.

    So a small sample, too, holds its share of long documents. No document exceeds the model's context.
    """
    rng = np.random.default_rng(seed)
    longest = min(longest, config.max_positions)
    places = (np.arange(num_documents) + rng.random(num_documents)) / num_documents
    lengths = np.floor(shortest * ((longest + 1) / shortest) ** places).astype(int)
    return [_document(config, int(length), int(length * PROMPT_SHARE), rng) for length in rng.permutation(lengths)]


def dense(config: ModelConfig, num_documents: int, length: int, *, seed: int = 0) -> list[Document]:
    """Documents of one length, learned throughout."""
    rng = np.random.default_rng(seed)
    return [_document(config, length, 0, rng) for _ in range(num_documents)]


def _document(config: ModelConfig, length: int, num_prompt: int, rng: np.random.Generator) -> Document:
    ids = rng.integers(config.vocab_size, size=length, dtype=np.int32)
    return Document(ids, np.arange(length) >= num_prompt)


def num_tokens(documents: Sequence[Document]) -> int:
    """Prompt and completion tokens: what counts as useful."""
    return sum(len(document.ids) for document in documents)


def training_flops(config: ModelConfig, documents: Sequence[Document]) -> float:
    """Useful operations of a forward and a backward pass, the latter twice the former.

    A token attends to those before it in its document, half the document on average; logits are counted for learned
    tokens alone; nothing is counted for padding, for recomputed activations, or for pairs of tokens that are masked.
    """
    total = 0.0
    for document in documents:
        length = len(document.ids)
        without_logits = length - int(np.count_nonzero(document.loss_mask[1:]))
        total += length * config.flops_per_token((length + 1) // 2)
        total -= without_logits * 2 * config.vocab_size * config.width
    return 3 * total
