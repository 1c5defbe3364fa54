"""Sampled completions a second: our engine against transformers' generate, same weights, prompts and sampling.

    python benchmarks/rollout.py RUN [--data test]

RUN is the folder of a finished run: its last model answers the problems of its data, in bfloat16 where that is fast.
Both count the tokens up to the end of each completion; transformers decodes a batch until its longest completion ends,
ours gives a finished one's slot to the next.
"""

import argparse
from pathlib import Path

from open_exaone.base.machine import prepare_process

prepare_process()

import torch
from transformers import AutoModelForCausalLM

from open_exaone.base.records import Sampling
from open_exaone.checkpoint.folder import load_model, resolve_dtype
from open_exaone.data.document import prompt_ids
from open_exaone.engine.engine import Engine
from open_exaone.pipeline.folder import RunFolder, resolve_model
from open_exaone.text.tokenizer import Tokenizer
from side_by_side import compare

NUM_PROMPTS, NUM_SAMPLES, MAX_NEW_TOKENS = 256, 4, 160


def main(run: Path, data: str) -> None:
    folder = resolve_model(run)
    tokenizer = Tokenizer.load(folder)
    reference = AutoModelForCausalLM.from_pretrained(folder, dtype=resolve_dtype())
    engine = Engine(load_model(folder), tokenizer, num_slots=128)
    prompts = prompt_ids(RunFolder(run).problems(data)[:NUM_PROMPTS], tokenizer, thinking=True)

    def ours() -> float:
        sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS, num_samples=NUM_SAMPLES)
        return sum(len(completion.ids) for group in engine.generate(prompts, sampling) for completion in group)

    def theirs() -> float:
        total = 0
        for start in range(0, len(prompts), 128 // NUM_SAMPLES):
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
                eos_token_id=tokenizer.end_id,
                pad_token_id=tokenizer.pad_id,
                num_return_sequences=NUM_SAMPLES,
                max_new_tokens=MAX_NEW_TOKENS,
            )
            new = out[:, longest:]
            total += int((new != tokenizer.pad_id).sum())
        return total

    compare("completions, 128 together, tokens", {"transformers generate": theirs, "open-exaone engine": ours}, 5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="test", help="which of the run's data: problems")
    args = parser.parse_args()
    main(args.run, args.data)
