"""Tiny real things that tests share: shapes, models, a tokenizer."""

import functools
import json
from pathlib import Path

import torch

from open_exaone.base.records import Request, Sampling
from open_exaone.model.config import ModelConfig, RopeScaling
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer

TINY = ModelConfig(
    vocab_size=320,
    width=48,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_width=16,
    ffn_width=96,
    max_positions=128,
    initializer_range=0.2,
)
SHAPES = {
    "exaone4-global": TINY,
    "exaone4-hybrid": TINY.model_copy(update={"num_layers": 5, "pattern": "LLG", "window": 6}),
    "exaone4-scaled-rope": TINY.model_copy(
        update={"rope_scaling": RopeScaling(factor=4.0, original_max_positions=16), "rope_theta": 10_000.0}
    ),
    "exaone4-untied": TINY.model_copy(update={"tied_embeddings": False}),
    "llama": TINY.model_copy(
        update={"family": "llama", "rope_scaling": RopeScaling(factor=8.0, original_max_positions=32)}
    ),
}


def make_model(config: ModelConfig = TINY, seed: int = 0) -> LanguageModel:
    """A model of random weights, float32, norms all different so that a misplaced one shows."""
    model = LanguageModel(config)
    model.reset_parameters(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("norm.weight"):
                weight.add_(0.5 * torch.rand(weight.shape, generator=generator))
    return model.eval()


@functools.cache
def make_tokenizer(vocab_size: int = 320) -> Tokenizer:
    """A small real tokenizer."""
    texts = [
        f"How much is {a} + {b}? {a}+{b}={a + b}\nThe answer is \\boxed{{{a + b}}}."
        for a in range(30)
        for b in range(9)
    ]
    return Tokenizer.train(texts, vocab_size)


def write_sums(path: Path, number: int) -> Path:
    """A file of so many problems with answers, in two domains by turns."""
    asked = [
        {"question": f"How much is {n} + 1?", "answer": str(n + 1), "subject": "odd" if n % 2 else "even"}
        for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in asked))
    return path


def request(prompt_ids, sampling: Sampling, index: int = 0, occurrence: int = 0) -> Request:
    """What the engine reads of a request."""
    return Request((), tuple(prompt_ids), False, sampling, index, occurrence)


def random_ids(*shape: int, seed: int = 0, vocab_size: int = 320) -> torch.Tensor:
    return torch.randint(20, vocab_size, shape, generator=torch.Generator().manual_seed(seed))
