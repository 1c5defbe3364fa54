"""A real fine-tune of EXAONE 4.0 1.2B's shape on this machine, whole or with LoRA: peak memory, seconds a step.

    python benchmarks/finetune.py --data GSM8K.jsonl --lora     # within 8 GB
    python benchmarks/finetune.py --data GSM8K.jsonl            # Muon with bfloat16 gradients, within 20 GB

Weights are random, as what is measured does not depend on them. Each step learns the answers of as many rows as have
--batch-tokens tokens, in passes of --micro-batch-tokens. The peak is the whole process's, interpreter and libraries
included; GB are 10^9 bytes. --shape M does the same in a few seconds a step.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from open_exaone.base.machine import peak_rss_bytes, prepare_process

prepare_process()

import torch

from open_exaone.base.files import read_jsonl
from open_exaone.checkpoint.folder import load_tokenizer
from open_exaone.data.batch import pack, singles
from open_exaone.data.document import Document
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.learn.schedule import rate_at
from open_exaone.model.config import ModelConfig
from open_exaone.model.lora import add_lora
from open_exaone.model.lora_config import LoraConfig
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import SupervisedStage
from open_exaone.train.supervised import Supervised
from shapes import SHAPES

LIMIT_GB = {"lora": 8, "full": 20}


def main() -> None:
    args = parse()
    documents = read(args.data, args.steps * args.batch_tokens, args.tokenizer)
    at_start = peak_rss_bytes()
    config = SHAPES[args.shape]
    if args.layers:
        config = config.model_copy(update={"num_layers": args.layers})
    model = random_model(config, recomputes=args.recompute)
    if args.lora:
        add_lora(model, LoraConfig(rank=args.rank, alpha=2.0 * args.rank), seed=0)
        how = OptimizerConfig(kind="adamw", learning_rate=2e-4, warmup=0.1)
    else:
        how = OptimizerConfig(
            kind=args.kind, learning_rate=1e-5, matrix_learning_rate=1e-3, warmup=0.1, gradient_dtype=args.gradients
        )
    optimizer = MasterOptimizer(model, None, how)
    num_trained = sum(master.numel() for master in optimizer.masters.values())
    print(
        f"{args.shape}, {'LoRA' if args.lora else f'full, {args.kind}, {args.gradients} gradients'}: "
        f"{config.num_parameters / 1e6:,.1f}M weights, {num_trained / 1e6:,.1f}M of them trained; "
        f"{torch.get_num_threads()} threads; libraries and data {at_start / 1e9:.2f} GB, "
        f"with weights and masters {peak_rss_bytes() / 1e9:.2f} GB",
        flush=True,
    )
    seconds = list(train(model, optimizer, documents, args))
    peak, limit = peak_rss_bytes() / 1e9, LIMIT_GB["lora" if args.lora else "full"]
    per_weight = (peak_rss_bytes() - at_start) / config.num_parameters
    print(
        f"peak {peak:.2f} GB, {per_weight:.1f} bytes a weight without libraries; "
        f"median {statistics.median(seconds):.1f} s a step [{min(seconds):.1f} … {max(seconds):.1f}]"
    )
    if args.shape == "L":
        print(f"{'within' if peak <= limit else 'ABOVE'} the {limit} GB that it may take")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="jsonl with question and answer, as GSM8K's")
    parser.add_argument("--tokenizer", type=Path, help="a model's folder; one is trained on the data if left out")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--shape", default="L", choices=SHAPES)
    parser.add_argument("--layers", type=int, help="so many layers instead of the shape's")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--micro-batch-tokens", type=int, default=1024)
    parser.add_argument("--kind", choices=("muon", "adamw"), default="muon", help="of a full fine-tune")
    parser.add_argument("--gradients", choices=("bfloat16", "float32"), default="bfloat16", help="the same")
    parser.add_argument("--recompute", action="store_true", help="activations in the backward pass")
    return parser.parse_args()


def read(path: Path, num_tokens: int, folder: Path | None) -> Iterator[Document]:
    """Conversations of the file, over and over."""
    rows = read_jsonl(path)[: num_tokens // 50]  # a row of GSM8K has 150 to 300 tokens
    if folder:
        tokenizer = load_tokenizer(folder)
    else:
        tokenizer = Tokenizer.train((f"{row['question']}\n{row['answer']}" for row in rows), 4096)
    turns = [
        [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}] for row in rows
    ]
    documents = [Document(ids, mask) for ids, mask in tokenizer.render_many(turns)]
    return itertools.cycle(documents)


def random_model(config: ModelConfig, *, recomputes: bool) -> LanguageModel:
    """In bfloat16, without ever being there in float32."""
    with torch.device("meta"):
        model = LanguageModel(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    model.tie_weights()
    model.reset_parameters(0)
    model.model.recomputes = recomputes
    return model.train()


def train(
    model: LanguageModel, optimizer: MasterOptimizer, documents: Iterator[Document], args: argparse.Namespace
) -> Iterator[float]:
    """The seconds of each step."""
    stage = SupervisedStage(
        kind="sft",
        name="sft",
        data="chat",
        num_epochs=1,
        optimizer=optimizer.config,
        micro_batch_tokens=args.micro_batch_tokens,
    )
    objective = Supervised(stage, [], [])
    for step in range(args.steps):
        chosen: list[Document] = []
        while not chosen or sum(len(document.ids) for document in chosen) < args.batch_tokens - 100:
            chosen.append(next(documents))
        num_tokens = sum(len(document.ids) for document in chosen)
        denominator = sum(sum(document.loss_mask[1:]) for document in chosen)
        started, total = time.perf_counter(), 0.0
        for batch in pack(singles(chosen), args.micro_batch_tokens):
            loss, _ = objective.loss(model, batch, denominator)
            loss.backward()
            optimizer.accumulate()
            total += float(loss.detach())
            del loss
        computed = time.perf_counter() - started
        norm = optimizer.step(rate_at(optimizer.config, step, args.steps))
        seconds = time.perf_counter() - started
        print(
            f"step {step + 1:>3}: {num_tokens:>5} tokens, loss {total:.3f}, gradient {norm:.2f}, {seconds:.1f} s "
            f"({seconds - computed:.1f} of them the optimizer's), peak {peak_rss_bytes() / 1e9:.2f} GB",
            flush=True,
        )
        yield seconds


if __name__ == "__main__":
    main()
