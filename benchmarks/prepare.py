"""Preparation of training data by a checkpoint's template: rows a second, beside transformers and a dataset map.

    python benchmarks/prepare.py --model FOLDER --data GSM8K.jsonl [--ways ours rows map map-masked] [--limit 7000]
    python benchmarks/prepare.py --model FOLDER --turns 40 --limit 1000    # made-up conversations of 8,000 tokens

`ours` is `data.prepare.prepare`: rows of a file to a folder of ids and loss masks. `rows` is transformers'
`apply_chat_template` row by row, ids alone; `map` and `map-masked` are a `datasets` map with as many processes as cores
that does what TRL's SFTTrainer does with prompt and completion: both are rendered, the prompt's ids give the mask
(`map`), or generation blocks do (`map-masked`, for templates that have them). The ways take turns; each takes its rows
from the file each time. Needs transformers; the maps also `datasets`.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from open_exaone.base.machine import prepare_process

prepare_process()

from open_exaone.checkpoint.folder import load_tokenizer
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.prepare import prepare

WORDS = [*["train", "runs", "miles", "half", "the", "time", "that", "each", "friend", "needs", "a", "day"], "12", "345"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a folder with tokenizer and chat template")
    parser.add_argument("--data", type=Path, help="jsonl with question and answer; made up if left out")
    parser.add_argument("--turns", type=int, default=1, help="of made-up conversations")
    parser.add_argument("--limit", type=int, default=7000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=["ours", "rows", "map"], choices=list(WAYS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.jsonl"
        rows = read(args.data, args.limit) if args.data else made_up(args.turns, args.limit)
        path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
        seconds: dict[str, list[float]] = {way: [] for way in args.ways}
        for number in range(args.rounds):
            for way in args.ways:
                started = time.perf_counter()
                tokens = WAYS[way](args.model, path, Path(scratch) / f"{way}-{number}")
                seconds[way].append(time.perf_counter() - started)
                print(f"{way}: {len(rows) / seconds[way][-1]:,.0f} rows a second, {tokens:,} tokens", flush=True)
    for way, taken in seconds.items():
        middle = statistics.median(taken)
        print(f"{way}: median {len(rows) / middle:,.0f} rows a second [{len(rows) / max(taken):,.0f} …]")


def read(path: Path, limit: int) -> list[Any]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:limit]]
    return [talk(row["question"], row["answer"]) for row in rows]


def made_up(turns: int, limit: int) -> list[Any]:
    draw = random.Random(0)
    return [
        [turn for _ in range(turns) for turn in talk(*(" ".join(draw.choices(WORDS, k=n)) for n in (50, 90)))]
        for _ in range(limit)
    ]


def talk(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def ours(model: Path, path: Path, folder: Path) -> int:
    data = DataConfig(sources=(SourceConfig(path=str(path)),))
    return int(prepare(data, load_tokenizer(model), folder, kind="sft", max_tokens=1 << 20).tokens_N.sum())


def rows(model: Path, path: Path, folder: Path) -> int:
    tokenizer = theirs(model)
    lines = path.read_text(encoding="utf-8").splitlines()
    return sum(len(tokenizer.apply_chat_template(json.loads(line)["messages"])["input_ids"]) for line in lines)


def mapped(model: Path, path: Path, folder: Path, *, masked: bool = False) -> int:
    from datasets import load_dataset

    tokenizer = theirs(model)

    def tokenise(row: dict[str, Any]) -> dict[str, Any]:
        messages = row["messages"]
        if masked:
            made = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
            return {"input_ids": made["input_ids"], "mask": made["assistant_masks"]}
        prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True)["input_ids"]
        ids = tokenizer.apply_chat_template(messages)["input_ids"]
        return {"input_ids": ids, "mask": [0] * len(prompt) + [1] * (len(ids) - len(prompt))}

    table = load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder))
    table = table.map(tokenise, num_proc=os.cpu_count(), remove_columns=["messages"])
    return sum(map(len, table.with_format("arrow")["input_ids"]))


def theirs(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


WAYS: dict[str, Callable[[Path, Path, Path], int]] = {
    "ours": ours,
    "rows": rows,
    "map": mapped,
    "map-masked": lambda model, path, folder: mapped(model, path, folder, masked=True),
}


if __name__ == "__main__":
    main()
