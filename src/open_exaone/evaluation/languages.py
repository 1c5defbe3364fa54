"""Which replies are not in their question's language; many are looked at by several processes.

A word takes about 2 µs, and Python's threads don't run side by side: the replies of a large evaluation would hold up
its report. The processes are plain interpreters that run this module, so that no thread is ever forked.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

from open_exaone.base.records import Reply
from open_exaone.verify.language import inconsistent_parts

MIN_CHARS = 4_000_000  # of all replies; fewer take a second or two, and no processes are started
_MAX_PROCESSES = 8

Item = tuple[str, str, str]  # thought, answer, language


def mismatches(replies: Iterable[tuple[Reply, str]], min_chars: int = MIN_CHARS) -> list[bool]:
    """Whether a reply's thought or answer is not in the language beside it.

    Args:
        min_chars: from how many characters on processes are started.

    Raises:
        ValueError: a language is unknown.
    """
    items = [(reply.thought, reply.answer, language) for reply, language in replies]
    number = min(os.cpu_count() or 1, _MAX_PROCESSES)
    if number == 1 or sum(len(thought) + len(answer) for thought, answer, _ in items) < min_chars:
        return _look(items)
    size = -(-len(items) // number)
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(number, "language") as threads:
        return list(chain.from_iterable(threads.map(_look_elsewhere, parts)))


def _look(items: Iterable[Item]) -> list[bool]:
    return [bool(inconsistent_parts(*item)) for item in items]


def _look_elsewhere(items: Sequence[Item]) -> list[bool]:
    """In another process; in this one where that fails, which then says why."""
    paths = [str(Path(__file__).parents[2]), *filter(None, sys.path)]
    found = subprocess.run(
        [sys.executable, "-P", "-m", "open_exaone.evaluation.languages"],
        input="".join(json.dumps(item) + "\n" for item in items).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    flags = found.stdout.decode("ascii", "replace")
    return [flag == "1" for flag in flags] if found.returncode == 0 and len(flags) == len(items) else _look(items)


def main() -> None:
    """Reads a JSON list of thought, answer and language a line; prints a 1 for each that does not fit, else a 0."""
    flags = _look(json.loads(line) for line in sys.stdin.buffer)
    sys.stdout.write("".join("01"[flag] for flag in flags))


if __name__ == "__main__":
    main()
