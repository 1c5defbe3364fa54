"""`exaone data check` on made-up rows: rows a second, beside Python's JSON parser on the same file, and memory.

    python benchmarks/data_check.py [--rows 1000000] [--rounds 1]

`check` is `data.check.check` on conversations of two turns, one process; seconds are of the processor. `json` is
`json.loads` of each line, and `json-unique` the same refusing keys that stand twice. They take turns. The resident
memory is looked at after every tenth of the rows.
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from open_exaone.base.machine import prepare_process

prepare_process()

from open_exaone.base.streams import _UNIQUE
from open_exaone.data import check as checking
from open_exaone.data.examples import Parsed, open_examples

WORDS = [*["train", "runs", "miles", "half", "the", "time", "that", "each", "friend", "needs", "a", "day"], "12", "345"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write(path, args.rows)
        print(f"{args.rows:,} rows, {path.stat().st_size / args.rows:.0f} bytes a row")
        for _ in range(args.rounds):
            for name, read in READERS.items():
                started = time.process_time()
                memory = read(path, args.rows)
                taken = time.process_time() - started
                print(f"{name}: {args.rows / taken:,.0f} rows a second of one core{memory}", flush=True)


def write(path: Path, num_rows: int) -> None:
    draw = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(num_rows):
            question, answer = (" ".join(draw.choices(WORDS, k=k)) for k in (12, 20))
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": f"{answer} {number}"}]
            file.write(json.dumps({"id": f"r{number}", "messages": turns}) + "\n")


def check(path: Path, num_rows: int) -> str:
    sizes: list[int] = []

    def watched(chunks: Iterator[list[Parsed]]) -> Iterator[list[Parsed]]:
        for chunk in chunks:
            if chunk[0].place * 10 // num_rows >= len(sizes):
                sizes.append(resident_mib())
            yield chunk

    opened = open_examples
    checking.open_examples = lambda *args, **options: (  # type: ignore[assignment]
        (examples := opened(*args, **options))._replace(chunks=watched(examples.chunks))
    )
    try:
        report = checking.check(str(path))
    finally:
        checking.open_examples = opened
    assert report.good == num_rows
    return f", {', '.join(map(str, sizes))} MiB resident"


def resident_mib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 >> 20


def parsed(loads: Callable[[str], object]) -> Callable[[Path, int], str]:
    def read(path: Path, num_rows: int) -> str:
        with open(path, encoding="utf-8") as file:
            for line in file:
                loads(line)
        return ""

    return read


READERS: dict[str, Callable[[Path, int], str]] = {
    "check": check,
    "json": parsed(json.loads),
    "json-unique": parsed(_UNIQUE.decode),
}


if __name__ == "__main__":
    main()
