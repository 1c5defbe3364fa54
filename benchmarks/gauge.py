"""How far the engine's log-probabilities are from the trainer's and from transformers', and what 8 bits cost.

generate.py's --gauge. The engine samples; the trainer's model then reads the same tokens in one pass each, in the same
dtype. Perplexities are those of a text that the engine is forced to give token by token, so by its own decoding steps.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from generators import PeerError, Transformers, Worker, name_of
from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.records import Request, Sampling
from open_exaone.checkpoint.folder import load_model, load_tokenizer
from open_exaone.data.document import prompt_ids
from open_exaone.engine.engine import Engine
from open_exaone.model.logprobs import token_logprobs
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.folder import RunFolder
from open_exaone.text.tokenizer import Tokenizer

PROMPT_TOKENS, NEW_TOKENS, GREEDY_TOKENS, PIECE_TOKENS = 32, 128, 64, 512
LIMITS = {"float32": "max at most 1e-4", "bfloat16": "mean at most 0.003, 99th percentile at most 0.05"}
DOCS = Path(__file__).resolve().parents[1] / "docs"


def texts_of(source: Path, tokenizer: Tokenizer, text: Path | None) -> tuple[list[list[int]], list[int]]:
    """Prompts, and a text's ids: a run's own problems and worked replies; else the file, or this repository's docs."""
    try:
        problems = RunFolder(source).problems("test")
    except OpenExaoneError:
        problems = []
    parts = [f"{each.question}\n{each.thought or ''}\n{each.reply or ''}\n" for each in problems]
    if text or not problems:
        parts = [file.read_text(encoding="utf-8") for file in ([text] if text else sorted(DOCS.glob("*.md")))]
    ids = tokenizer.encode("\n".join(parts))
    return prompt_ids(problems, tokenizer, thinking=True) or pieces_of(ids, PROMPT_TOKENS), ids


def pieces_of(ids: Sequence[int], length: int) -> list[list[int]]:
    """Whole pieces of one length; what remains is left out."""
    return [list(ids[start : start + length]) for start in range(0, len(ids) - length + 1, length)]


def gauge(source: Path, folder: Path, num_tokens: int, text: Path | None, llama: Worker | None) -> None:
    """Prints differences of log-probabilities, greedy agreement and perplexities.

    Args:
        source: as the user names it: a run or a model's folder.
        folder: the model's.
    """
    tokenizer = load_tokenizer(folder)
    prompts, ids = texts_of(source, tokenizer, text)
    print(f"\n{source.resolve().name}: log-probabilities, {num_tokens:,} sampled tokens", flush=True)
    exact = load_model(folder, dtype=torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        compare(load_model(folder, dtype=dtype), exact, tokenizer, prompts, num_tokens)
    greedy(exact, folder, tokenizer, prompts)
    pieces = pieces_of(ids, PIECE_TOKENS)[: max(1, num_tokens // PIECE_TOKENS)]
    perplexities(folder, tokenizer, pieces, llama)


def compare(
    model: LanguageModel, exact: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[list[int]], num_tokens: int
) -> None:
    """Prints how far the engine's log-probabilities are from one pass of the model over the same tokens."""
    engine = Engine(model, tokenizer)
    num = NEW_TOKENS
    rows, seed = [], 0
    while sum(len(ids) for _, ids, _ in rows) < num_tokens:
        some = prompts[: -(-num_tokens // num)]
        found = engine.generate(some, Sampling(num, temperature=1.0, top_p=1.0, seed=seed))
        rows += [(prompt, each.ids, each.logprobs) for prompt, [each] in zip(some, found, strict=True)]
        seed += 1
    engine_T = torch.tensor([logprob for *_, logprobs in rows for logprob in logprobs])[:num_tokens]
    read_T, exact_T = (one_pass(each, rows)[:num_tokens] for each in (model, exact))
    name = name_of(model.dtype)
    _print(f"engine to trainer, {name}", engine_T, read_T, LIMITS[name])
    if model.dtype != exact.dtype:
        _print(f"trainer in {name} to float32", read_T, exact_T)
        _print(f"engine in {name} to float32", engine_T, exact_T)


def one_pass(model: LanguageModel, rows: Sequence[tuple[Sequence[int], Sequence[int], Sequence[float]]]) -> Tensor:
    """The replies' log-probabilities, each row read at once."""
    found = []
    with torch.inference_mode():
        for prompt, ids, _ in rows:
            x_TD = model.model(torch.tensor([[*prompt, *ids]]))[0, len(prompt) - 1 : -1]
            found.append(token_logprobs(model.head(x_TD), torch.tensor(ids)))
    return torch.cat(found)


def _print(what: str, ours_T: Tensor, other_T: Tensor, limit: str = "") -> None:
    error_T = (ours_T.double() - other_T.double()).abs()
    most = error_T.argmax()
    print(
        f"  {what:<32} mean {error_T.mean():.2e}, 99th percentile {error_T.quantile(0.99):.2e}, "
        f"max {error_T.max():.2e} (where it is {other_T[most]:.2f})" + (f"; {limit}" if limit else ""),
        flush=True,
    )


def greedy(exact: LanguageModel, folder: Path, tokenizer: Tokenizer, prompts: Sequence[list[int]]) -> None:
    """Prints how many of the engine's best tokens are transformers' too, in float32."""
    some = prompts[:32]
    engine = Engine(exact, tokenizer)
    engine.end_ids = frozenset()
    replies = [group[0].ids for group in engine.generate(some, Sampling(GREEDY_TOKENS, temperature=0.0))]
    peer = Transformers(folder, [1])
    peer.open("float32", 1, 0)
    alike = [ids == peer.greedy(prompt, GREEDY_TOKENS) for prompt, ids in zip(some, map(list, replies), strict=True)]
    peer.close()
    print(f"  greedy, float32: {sum(alike)} of {len(alike)} replies of {GREEDY_TOKENS} tokens are transformers'")


def perplexities(folder: Path, tokenizer: Tokenizer, pieces: Sequence[list[int]], llama: Worker | None) -> None:
    """Prints what each way of computing makes of a text."""
    total = sum(map(len, pieces)) - len(pieces)
    print(f"  perplexity of {total:,} tokens of text, {PIECE_TOKENS} at a time:")
    for dtype, int8 in ((torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)):
        engine = Engine(load_model(folder, dtype=dtype), tokenizer, int8=int8)
        logprob = sum(map(sum, forced_logprobs(engine, pieces)))
        name = "int8" if int8 else name_of(dtype)
        print(f"    open-exaone, {name:<10} {float(torch.tensor(-logprob / total).exp()):.4f}", flush=True)
    for dtype_name in ("bfloat16", "Q8_0") if llama else ():
        try:
            assert llama is not None
            llama.open(dtype_name, 1, PIECE_TOKENS)
            mean = -llama.logprob(pieces) / total
            print(f"    llama.cpp, {dtype_name:<12} {float(torch.tensor(mean).exp()):.4f}", flush=True)
        except PeerError as error:
            print(f"    llama.cpp, {dtype_name:<12} left out: {error}", flush=True)


def forced_logprobs(engine: Engine, pieces: Sequence[Sequence[int]]) -> list[list[float]]:
    """The log-probabilities of each piece's tokens behind its first, when the engine has to give them."""
    engine.end_ids = frozenset()
    requests = [Request((), tuple(piece[:1]), False, Sampling(len(piece) - 1), index=0) for piece in pieces]
    session = engine.open_session([len(piece) for piece in pieces])
    samples = session.submit(requests)
    for sample, piece in zip(samples, pieces, strict=True):
        sample.closing_ids = piece[1:]
    while not session.finished:
        session.step()
    session.close()
    assert all(list(sample.ids) == list(piece[1:]) for sample, piece in zip(samples, pieces, strict=True))
    return [sample.logprobs for sample in samples]
