"""llama.cpp on what we export, against our own model: logits, greedy tokens and token ids.

    pip install llama-cpp-python
    python benchmarks/gguf_parity.py [MODEL]

MODEL is a model's folder; without one, small random models of every family are made. Our side computes in float32 from
the weights as the file holds them, so what differs in float16 and bfloat16 is llama.cpp's rounding of the activations.
Both read llama.cpp's greedy text, in one pass on our side: where every choice is our first too, the texts are equal.
"""

import argparse
import tempfile
from pathlib import Path

from open_exaone.base.machine import prepare_process

prepare_process()

import tokenizers
import torch

from open_exaone.checkpoint.folder import load_model
from open_exaone.checkpoint.gguf import export_gguf
from open_exaone.model.config import ModelConfig, RopeScaling
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer

NUM_NEW_TOKENS = 300
TEXTS = [
    f"How much is {a} + {b}?\n\n{a} + {b} = {a + b}, 그래서 답은 {a + b}입니다. 😀" for a in range(40) for b in range(9)
]
SCALED = RopeScaling(factor=8.0, original_max_positions=64)
BASE = ModelConfig(
    vocab_size=600,
    width=256,
    num_layers=4,
    num_heads=4,
    num_kv_heads=2,
    head_width=64,
    ffn_width=512,
    max_positions=1024,
    rope_theta=10_000.0,
    initializer_range=0.2,
)
FAMILIES = {
    "exaone": {"family": "exaone", "width": 320, "head_width": 80, "rope_scaling": SCALED, "tied_embeddings": False},
    "exaone4, all global": {"rope_scaling": SCALED},
    "exaone4, hybrid": {"num_layers": 64, "pattern": "LLLG", "window": 32, "rope_scaling": SCALED},
    "llama": {"family": "llama", "rope_scaling": SCALED},
    "qwen2": {"family": "qwen2", "tied_embeddings": False},
    "qwen3": {"family": "qwen3", "head_width": 128},
}


def compare(name: str, model: LanguageModel, folder: Path, dtype: torch.dtype, scratch: Path) -> None:
    """Exports the model and prints how far llama.cpp's logits, choices and token ids are from ours."""
    from llama_cpp import Llama

    weights = {
        name: weight.detach().to(dtype if weight.ndim > 1 else torch.float32)
        for name, weight in model.named_parameters()
    }
    path = scratch / "model.gguf"
    export_gguf(model.config, weights, folder, path, dtype=dtype)
    theirs = Llama(str(path), n_ctx=1024, logits_all=True, type_k=0, type_v=0, verbose=False)  # a float32 cache
    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    num_equal = sum(
        theirs.tokenize(text.encode(), add_bos=False, special=True)
        == backend.encode(text, add_special_tokens=False).ids
        for text in TEXTS
    )
    ids = backend.encode("\n".join(TEXTS[::40])).ids
    theirs.eval(ids)
    for _ in range(NUM_NEW_TOKENS):
        ids.append(int(theirs.scores[len(ids) - 1].argmax()))
        theirs.eval(ids[-1:])
    with torch.no_grad():
        for key, weight in model.named_parameters():
            weight.copy_(weights[key])
    with torch.inference_mode():
        ours_TV = model(torch.tensor([ids]))[0]
    theirs_TV = torch.from_numpy(theirs.scores[: len(ids)])
    error = (theirs_TV - ours_TV).abs().max() / ours_TV.abs().max()
    chosen = slice(-NUM_NEW_TOKENS - 1, -1)
    differs = (ours_TV.argmax(-1) != theirs_TV.argmax(-1))[chosen]
    top = ours_TV.topk(2).values[chosen][differs]
    ties = f" (the others at top-two gaps under {(top[:, 0] - top[:, 1]).max():.0e})" if len(top) else ""
    print(
        f"{name:<20} {str(dtype).removeprefix('torch.'):<9} {len(ids):>5} tokens: logits within {error:.1e}, "
        f"greedy {NUM_NEW_TOKENS - len(top)}/{NUM_NEW_TOKENS}{ties}, texts tokenised alike {num_equal}/{len(TEXTS)}"
    )


def random_model(config: ModelConfig) -> LanguageModel:
    """Random weights, norms and biases too, so that a misplaced one shows."""
    model = LanguageModel(config)
    model.reset_parameters(0)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.rand_like(weight) / 2)
    return model.eval()


def main(folder: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if folder is None:
            Tokenizer.train(TEXTS, BASE.vocab_size).save(scratch)
        for family, update in FAMILIES.items() if folder is None else {str(folder): {}}.items():
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                model = (
                    load_model(folder, dtype=torch.float32) if folder else random_model(BASE.model_copy(update=update))
                )
                compare(family, model, folder or scratch, dtype, scratch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="a model's folder")
    main(parser.parse_args().model)
