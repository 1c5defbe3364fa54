"""reasoning-gym as a benchmark: any of its data sets in their own default settings, any size, any seed.

`tasks.gym` draws the few that a small model can learn, made easier; these are as their authors set them.
"""

import json
from collections.abc import Iterator
from importlib import metadata
from itertools import islice
from typing import Any

from open_exaone.base.config import did_you_mean, short
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import JUNK, Problem, VerdictStatus
from open_exaone.tasks.benchmarks.benchmark import Access, Benchmark, PromptKind, Row
from open_exaone.tasks.benchmarks.fields import text, whole
from open_exaone.tasks.benchmarks.pins import pins_of
from open_exaone.tasks.benchmarks.prompts import short_answer
from open_exaone.tasks.benchmarks.spec import PROMPTS, read_spec
from open_exaone.verify.judge import judge_answer

# Ours: arithmetic, algebra, words, time, logic; answers of one line; no scorer among them takes junk for right.
DATA_SETS = (
    "base_conversion,bitwise_arithmetic,calendar_arithmetic,chain_sum,count_primes,decimal_arithmetic,"
    "family_relationships,gcd,leg_counting,letter_counting,products,simple_equations,spell_backward,syllogism,"
    "time_intervals,zebra_puzzles"
)
OPTIONS = {"size": "20", "seed": "0", "prompt": "short answer"}
MAX_SIZE, MAX_SEED = 100_000, 1 << 31


def make_gym(asked: str) -> Iterator[Row]:
    """The rows of "chain_sum,gcd:size=20,seed=0": `size` items of each data set.

    With prompt=plain the user turn is the data set's question alone, with no word on where to put the answer.

    Raises:
        ConfigError: there is no such data set, an option is wrong, or its items cannot be written down.
    """
    spec = read_spec("reasoning_gym", asked, DATA_SETS, OPTIONS)
    size, seed, prompt = (
        spec.whole("size", 1, MAX_SIZE),
        spec.whole("seed", 0, MAX_SEED),
        spec.one_of("prompt", PROMPTS),
    )
    for name in spec.items:
        for index, entry in enumerate(islice(_data_set(name, seed), size)):
            yield {"data_set": name, "number": index + 1, "seed": seed, "prompt": prompt, "entry": _plain(name, entry)}


def _data_set(name: str, seed: int) -> Iterator[dict[str, Any]]:
    from reasoning_gym import create_dataset  # a second's import, paid on first use
    from reasoning_gym.factory import DATASETS

    if name not in DATASETS:
        version = metadata.version("reasoning-gym")
        raise ConfigError(
            f"reasoning_gym: {short(name)}: is no data set of reasoning-gym {version}{did_you_mean(name, DATASETS)}"
        )
    data_set: Any = create_dataset(name, seed=seed)
    return (data_set[index] for index in range(MAX_SIZE))


def _plain(name: str, entry: dict[str, Any]) -> Any:
    """An item as a file would hold it, so that a verdict on one from a file is the same."""
    try:
        plain = json.loads(json.dumps(entry))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"reasoning_gym: {name}: its items cannot be written down as JSON: {error}") from error
    return _undated(plain) if name == "time_intervals" else plain


def _undated(entry: Any) -> Any:
    """An item of time_intervals without the day it was drawn on, which its metadata give to times of no date."""
    metadata = entry["metadata"]
    if metadata["task_type"].startswith("time"):
        metadata |= {key: metadata[key].partition(" ")[2] for key in ("start_time", "end_time")}
    return entry


def parse_gym(row: Row, number: int) -> Problem:
    """One made row, whose scorer must distinguish the gold answer from junk; some data sets have no such scorer."""
    name, entry, prompt = text(row, "data_set"), row.get("entry"), text(row, "prompt")
    if not isinstance(entry, dict):
        raise ValueError(f"field 'entry': must be an item of {name}, not {short(entry)}")
    if prompt not in PROMPTS:
        raise ValueError(f"field 'prompt': must be one of {', '.join(PROMPTS)}, not {short(prompt)}")
    question, answer = text(entry, "question"), "" if entry.get("answer") is None else text(entry, "answer")
    known = {"source_dataset": name, "entry": entry}
    wanted = {**dict.fromkeys(JUNK, VerdictStatus.WRONG), **({answer: VerdictStatus.CORRECT} if answer else {})}
    for reply, status in wanted.items():
        verdict = judge_answer("reasoning_gym", f"\\boxed{{{reply}}}", answer, known)
        if verdict.status is not status:
            raise ValueError(f"field 'entry': {name} does not find {short(reply)} {status.value}: {verdict.why}")
    return Problem(
        id=f"reasoning_gym/{name}-{whole(row, 'seed', 0, MAX_SEED)}-{whole(row, 'number', 1, MAX_SIZE)}",
        task=name,
        language="en",
        question=short_answer(question) if prompt == "short answer" else question,
        answer=answer,
        verifier="reasoning_gym",
        metadata=known,
    )


REASONING_GYM = Benchmark(
    name="reasoning_gym",
    pins=pins_of("reasoning_gym"),
    what="Problems that reasoning-gym makes and scores: 16 of its data sets, or those that are asked for.",
    language="en",
    verifiers=("reasoning_gym",),
    prompt=PromptKind.SHORT_ANSWER,
    hub=None,
    access=Access.MADE,
    licence="Apache-2.0",
    parse=parse_gym,
    make=make_gym,
    spec=f"{DATA_SETS}:size={OPTIONS['size']},seed={OPTIONS['seed']}",
)
