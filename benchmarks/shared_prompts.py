"""A step's gradients of groups of samples: their prompt computed once, against once a sample. In turn.

    python benchmarks/shared_prompts.py [--shape nano|S] [--groups N] [--group-size N] [--rounds N]

Tokens are those of the documents, each with its prompt, so that both ways are given the same number.
"""

import argparse
from collections.abc import Callable, Sequence

from open_exaone.base.machine import prepare_process

prepare_process()

import numpy as np
from torch import Tensor

from open_exaone.data.batch import Batch, singles
from open_exaone.data.document import Document
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.accumulate import Metrics, accumulate
from open_exaone.train.forward import learned_logprobs
from shapes import SHAPES, num_tokens
from side_by_side import compare

MAX_TOKENS = 4096
CASES = {  # tokens of a prompt, and the shortest and longest reply
    "the quick recipe's": (29, 16, 40),
    "long prompts": (512, 20, 160),
    "long prompts and replies": (512, 512, 512),
}


def groups(
    args: argparse.Namespace, prompt_tokens: int, shortest: int, longest: int, *, shared: bool
) -> list[Document]:
    """Without `shared`, the samples' prompts differ in their first token, and nothing is shared."""
    rng, vocab_size = np.random.default_rng(0), SHAPES[args.shape].vocab_size
    documents = []
    for _ in range(args.groups):
        prompt = rng.integers(vocab_size, size=prompt_tokens)
        for place in range(args.group_size):
            first = [prompt[0] if shared else place]
            reply = rng.integers(vocab_size, size=rng.integers(shortest, longest + 1))
            ids = np.concatenate((first, prompt[1:], reply)).astype(np.int32)
            documents.append(Document(ids, np.arange(len(ids)) >= prompt_tokens))
    return documents


def gradients(model: LanguageModel, optimizer: MasterOptimizer, documents: Sequence[Document]) -> Callable[[], float]:
    def loss_of(batch: Batch) -> tuple[Tensor, Metrics]:
        return -learned_logprobs(model, batch)[0].mean(), {}

    def work() -> float:
        with computing(model, "train") as workers:
            for _ in accumulate(loss_of, optimizer, singles(documents), MAX_TOKENS, workers):
                pass
        optimizer.clear()
        return num_tokens(documents)

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="nano")
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--group-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    model = LanguageModel(SHAPES[args.shape])
    model.reset_parameters(0)
    optimizer = MasterOptimizer(model, dict(model.named_parameters()), OptimizerConfig(learning_rate=1e-3))
    for name, case in CASES.items():
        ways = {
            way: gradients(model, optimizer, groups(args, *case, shared=way == "shared"))
            for way in ("a prompt for each sample", "shared")
        }
        title = f"{name}: prompts of {case[0]}, replies of {case[1]} to {case[2]}, {args.groups} x {args.group_size}"
        compare(f"{title}, tokens", ways, args.rounds)


if __name__ == "__main__":
    main()
