"""Needle tests: facts in a long text that code writes, at many lengths and depths, in English and Korean.

Four kinds known from RULER (arXiv 2404.06654): one fact among filler, one of many facts, all values of one name, and
variables that are set to one another. Text, wording and sizes are ours, so scores are near RULER's and not RULER's.

A length is in tokens of the whole user turn. No tokenizer is asked: characters count, `CHARS_PER_TOKEN` to the token,
measured with EXAONE 4.0's on these very texts. Another tokenizer's number is given with `chars_per_token`. The text
never exceeds the length so counted, and falls short of it by less than one sentence; by EXAONE's tokenizer it has
93 to 102 % of the tokens asked for.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

from open_exaone.base.config import short
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Access, Benchmark, PromptKind, Row
from open_exaone.tasks.benchmarks.fields import share, text, whole
from open_exaone.tasks.benchmarks.needle_words import WORDS, Words
from open_exaone.tasks.benchmarks.pins import pins_of
from open_exaone.tasks.benchmarks.spec import PROMPTS, Spec, read_spec
from open_exaone.tasks.benchmarks.spec import whole as read_whole

CHARS_PER_TOKEN = {"en": 4.35, "ko": 2.05}  # measured: 4.36 to 4.65, 2.06 to 2.12
LENGTHS = "4096,8192,16384,32768"  # tokens
MAX_LENGTH, MAX_TOTAL = 1 << 20, 1 << 26  # tokens of one problem, and of all of them
NUM_KEYS, NUM_VALUES, NUM_HOPS = 4, 4, 4  # as RULER's smallest settings

OPTIONS = {
    "kinds": "single+keys+values+tracking",
    "depths": "5",
    "repeats": "1",  # problems of each kind, length and depth
    "chars_per_token": "",
    "prompt": "short answer",  # or "plain": without a word on what to do and where to put the answer
    "seed": "0",
}


@dataclass(frozen=True, slots=True)
class Needles:
    """What one problem hides and asks."""

    facts: tuple[str, ...]  # sentences to hide, in the order in which they must stand
    at: int | None  # which of them stands at the problem's depth; the others anywhere. None: all anywhere, in order
    question: str
    answer: str


def single(rng: random.Random, words: Words) -> Needles:
    """One name and its number."""
    return _one_of(rng, words, 1)


def many_keys(rng: random.Random, words: Words) -> Needles:
    """Several names, each with its number; one is asked for."""
    return _one_of(rng, words, NUM_KEYS)


def _one_of(rng: random.Random, words: Words, number: int) -> Needles:
    names, values = rng.sample(words.names, number), _numbers(rng, number)
    facts = tuple(words.fact(name, value) for name, value in zip(names, values, strict=True))
    return Needles(facts, 0, words.ask_one(names[0]), values[0])


def many_values(rng: random.Random, words: Words) -> Needles:
    """One name with several numbers, all asked for in the order of the text."""
    name, values = rng.choice(words.names), _numbers(rng, NUM_VALUES)
    return Needles(tuple(words.fact(name, value) for value in values), None, words.ask_all(name), ", ".join(values))


def tracking(rng: random.Random, words: Words) -> Needles:
    """Variables that are set to one another from a number on, beside another such chain."""
    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    names = rng.sample([a + b + c for a in letters for b in letters for c in letters], 2 * (NUM_HOPS + 1))
    wanted, other = names[: NUM_HOPS + 1], names[NUM_HOPS + 1 :]
    value, another = _numbers(rng, 2)
    first, second = _chain(wanted, value), _chain(other, another)
    facts = list[str]()
    while first or second:  # the two chains mixed, each in its own order
        facts.append((first if rng.random() < len(first) / (len(first) + len(second)) else second).pop(0))
    return Needles(tuple(facts), None, words.ask_variables(value), ", ".join(wanted))


def _chain(names: list[str], value: str) -> list[str]:
    return [f"VAR {name} = {content}." for name, content in zip(names, [value, *names[:-1]], strict=True)]


def _numbers(rng: random.Random, number: int) -> list[str]:
    return [str(value) for value in rng.sample(range(10_000, 100_000), number)]


KINDS = {"single": single, "keys": many_keys, "values": many_values, "tracking": tracking}


def make_needles(task: str, language: str, asked: str) -> Iterator[Row]:
    """The rows of "1024,4096:kinds=single+keys,depths=5,repeats=2,seed=0"; the same on each call.

    Each repeat is a whole pass over lengths, kinds and depths, and the first one is what there is without repeats.

    Raises:
        ConfigError: a length or an option is wrong, or a kind does not fit a length.
    """
    spec = read_spec(task, asked, LENGTHS, OPTIONS | {"chars_per_token": str(CHARS_PER_TOKEN[language])})
    lengths = [read_whole(task, "length", item, 16, MAX_LENGTH) for item in spec.items]
    num_depths, repeats = spec.whole("depths", 1, 100), spec.whole("repeats", 1, 1000)
    ratio = spec.number("chars_per_token", 0.1, 20)
    kinds, seed, words = _kinds(spec), spec.whole("seed", 0, 10**9), WORDS[language]
    if spec.one_of("prompt", PROMPTS) == "plain":
        words = replace(words, opening="", box="")
    if sum(lengths) * num_depths * len(kinds) * repeats > MAX_TOTAL:
        raise ConfigError(f"{task}: {short(asked)}: is more than {MAX_TOTAL:,} tokens in all: ask for less")
    seen = set[tuple[object, ...]]()
    for repeat, length, kind, place in product(range(repeats), lengths, kinds, range(num_depths)):
        key = f"{kind}-{length}-{seed}-{place + 1}" + (f"-{repeat + 1}" if repeat else "")
        rng = random.Random(f"{task}/{language}/{key}")
        depth, num_chars = place / max(num_depths - 1, 1), int(length * ratio)
        while True:  # short texts may come out as an earlier repeat did: 900,000 are possible without filler
            needles = KINDS[kind](rng, words)
            prompt = _write(rng, words, needles, depth, num_chars, f"{task}: {kind}: {length}")
            if (cell := (kind, length, place, prompt)) not in seen:
                break
        seen.add(cell)
        has_depth = {"depth": round(depth, 4)} if needles.at is not None else {}
        about = {"id": key, "kind": kind, "length": length, **has_depth}
        yield {**about, "prompt": prompt, "answer": needles.answer}


def _kinds(spec: Spec) -> list[str]:
    kinds = list(dict.fromkeys(kind.strip() for kind in spec.options["kinds"].split("+")))
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"{spec.benchmark}: kinds = {short(kind)}: must be some of {'+'.join(KINDS)}")
    return kinds


def _write(rng: random.Random, words: Words, needles: Needles, depth: float, num_chars: int, where: str) -> str:
    """The user turn: what to do, the text with its facts, the question."""
    ending = f"\n\n{needles.question} {words.box}".rstrip()
    used = len(words.opening) + len(ending) + sum(len(fact) + 1 for fact in needles.facts) - 1
    room = num_chars - used
    if room < 0:
        raise ConfigError(
            f"{where} tokens, {num_chars} characters, are too few: it needs {used} characters: ask for longer ones or "
            "for other kinds"
        )
    filler = list[str]()
    while len(sentence := words.sentence(rng)) + 1 <= room:
        filler.append(sentence)
        room -= len(sentence) + 1
    places = sorted(rng.randrange(len(filler) + 1) for _ in needles.facts)
    if needles.at is not None:
        places[needles.at] = round(depth * len(filler))
    order = sorted(range(len(places)), key=places.__getitem__)
    for fact in order[::-1]:  # from the end, so that places stay
        filler.insert(places[fact], needles.facts[fact])
    return f"{words.opening}{' '.join(filler)}{ending}"


def parse_needle(task: str, language: str, row: Row, number: int) -> Problem:
    """One made row."""
    length = whole(row, "length", 1, MAX_LENGTH)
    metadata = {
        "kind": text(row, "kind"),
        "length": length,
        **({"depth": share(row, "depth")} if "depth" in row else {}),
    }
    return Problem(
        id=f"{task}/{text(row, 'id')}",
        task=f"{task}-{length}",  # so that a report has the accuracy of each length
        language=language,
        question=text(row, "prompt"),
        answer=text(row, "answer"),
        verifier="exact",
        metadata=metadata,
    )


def _benchmark(name: str, language: str, what: str) -> Benchmark:
    return Benchmark(
        name=name,
        what=what,
        language=language,
        verifiers=("exact",),
        prompt=PromptKind.PLAIN,
        hub=None,
        access=Access.MADE,
        licence="ours, as the code",
        parse=partial(parse_needle, name, language),
        pins=pins_of(name),
        make=partial(make_needles, name, language),
        spec=LENGTHS,
    )


NEEDLE = _benchmark(
    "needle", "en", "Facts hidden in a long English text that code writes: lengths, depths, four kinds."
)
NEEDLE_KO = _benchmark("needle_ko", "ko", "The same in Korean.")
