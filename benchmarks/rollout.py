"""Sampled completions a second: our engine against transformers' generate, same weights, prompts and sampling.

    python benchmarks/rollout.py

The model is the nano recipe's shape with random weights, in bfloat16 where that is fast. Both count the tokens that
they return; transformers decodes a batch to the longest completion, ours gives a finished one's slot to the next.
"""

import tempfile
from pathlib import Path

from open_exaone.base.machine import prepare_process

prepare_process()

import torch
from transformers import AutoModelForCausalLM

from open_exaone.base.records import Sampling
from open_exaone.checkpoint.folder import resolve_dtype, save_model
from open_exaone.engine.engine import Engine
from open_exaone.model.transformer import LanguageModel
from open_exaone.story.recipe import load_recipe
from open_exaone.text.tokenizer import Tokenizer
from side_by_side import compare

NUM_PROMPTS, NUM_SAMPLES, MAX_NEW_TOKENS = 64, 4, 64


def main() -> None:
    config = load_recipe().model
    tokenizer = Tokenizer.train(["random weights need no training text"], config.vocab_size)
    model = LanguageModel(config)
    model.reset_parameters(0)
    model.model.embed_tokens.weight.data[tokenizer.end_id] *= 3  # so that some completions end early
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), config, dict(model.named_parameters()), tokenizer, {})
        reference = AutoModelForCausalLM.from_pretrained(folder, dtype=resolve_dtype())
    engine = Engine(model.to(resolve_dtype()), tokenizer, num_slots=128)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(15, 60, (NUM_PROMPTS,), generator=generator).tolist()
    prompts = [torch.randint(300, config.vocab_size, (n,), generator=generator).tolist() for n in lengths]

    def ours() -> float:
        sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS, num_samples=NUM_SAMPLES)
        return sum(len(completion.ids) for group in engine.generate(prompts, sampling) for completion in group)

    def theirs() -> float:
        total = 0
        for start in range(0, NUM_PROMPTS, 128 // NUM_SAMPLES):
            batch = prompts[start : start + 128 // NUM_SAMPLES]
            longest = max(map(len, batch))
            ids = torch.tensor([[tokenizer.pad_id] * (longest - len(ids)) + ids for ids in batch])
            out = reference.generate(
                ids,
                attention_mask=(ids != tokenizer.pad_id).long(),
                do_sample=True,
                temperature=0.6,
                top_p=0.95,
                top_k=0,
                num_return_sequences=NUM_SAMPLES,
                max_new_tokens=MAX_NEW_TOKENS,
            )
            new = out[:, longest:]
            total += int((new != tokenizer.pad_id).sum())
        return total

    compare("completions, 128 together, tokens", {"transformers generate": theirs, "open-exaone engine": ours}, 5)


if __name__ == "__main__":
    main()
