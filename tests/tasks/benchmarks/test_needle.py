"""Needle tests: made by code, the same anywhere, answerable by whoever reads the whole text."""

import re
from collections import Counter

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.tasks.benchmarks.needle import CHARS_PER_TOKEN, KINDS
from open_exaone.tasks.benchmarks.registry import get_benchmark, load_benchmark, load_problems
from open_exaone.verify.judge import judge_answer

NAMES = ("needle", "needle_ko")
SPEC = "512,2048:depths=3"


def reread(problem) -> str:
    """The answer, from the text alone, by other means than those that wrote it."""
    text, question = problem.question.rsplit("\n\n", 1)
    if problem.metadata["kind"] == "tracking":
        value = re.search(r"\d{5}", question)[0]
        values, found = {}, []
        for name, said in re.findall(r"VAR (\w+) = (\w+)\.", text):
            values[name] = values.get(said, said)
            found += [name] * (values[name] == value)
        return ", ".join(found)
    facts = re.findall(r"A code of the (\w+) is (\d+)\.", text) + re.findall(r"(\w+)의 암호는 (\d+)입니다\.", text)
    (name,) = {name for name, _ in facts if re.search(rf"(the {name}\b|^{name}의)", question)}
    return ", ".join(value for of, value in facts if of == name)


@pytest.mark.parametrize("name", NAMES)
def test_the_text_answers_the_question(name: str) -> None:
    problems = load_problems(name, SPEC)
    assert len(problems) == 2 * 3 * len(KINDS)
    for problem in problems:
        assert reread(problem) == problem.answer, problem.id
        assert judge_answer(problem.verifier, f"\\boxed{{{problem.answer}}}", problem.answer, {}).correct
        assert not judge_answer(problem.verifier, "\\boxed{12345}", problem.answer, {}).correct
        assert problem.language == ("ko" if name.endswith("ko") else "en")


@pytest.mark.parametrize("name", NAMES)
def test_lengths_are_met_and_never_exceeded(name: str) -> None:
    """Short by less than one sentence of filler."""
    ratio = CHARS_PER_TOKEN["ko" if name.endswith("ko") else "en"]
    for problem in load_problems(name, SPEC):
        room = int(problem.metadata["length"] * ratio)
        assert room - 80 < len(problem.question) <= room
        assert problem.task == f"{name}-{problem.metadata['length']}"


def test_lengths_hold_for_exaone_s_own_tokenizer(exaone) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(exaone / "tokenizer.json"))
    for name in NAMES:
        for problem in load_problems(name, "1024,8192:depths=2"):
            share = len(tokenizer.encode(problem.question).ids) / problem.metadata["length"]
            assert 0.92 < share < 1.03, (problem.id, share)


@pytest.mark.parametrize("name", NAMES)
def test_depth_is_where_the_fact_stands(name: str) -> None:
    for problem in load_problems(name, "4096:kinds=single+keys,depths=5"):
        at = problem.question.index(problem.answer) / len(problem.question)
        assert at == pytest.approx(problem.metadata["depth"], abs=0.03), problem.id


def test_what_is_asked_in_order_stands_in_order_wherever_it_falls() -> None:
    """In a text too short for filler every fact falls on the same place."""
    for problem in load_problems("needle", "128:kinds=values+tracking,depths=20,prompt=plain"):
        assert reread(problem) == problem.answer


def test_the_same_again_and_other_seeds_differ() -> None:
    first, again, other = (load_benchmark("needle", f"512:seed={seed}") for seed in (7, 7, 8))
    assert first == again and first.sha256 != other.sha256
    assert not {problem.id for problem in first.problems} & {problem.id for problem in other.problems}
    assert load_problems("needle", "512,1024:seed=7")[: len(first.problems)] == list(first.problems)


@pytest.mark.parametrize("name", NAMES)
def test_repeats_are_further_problems_of_each_kind_length_and_depth(name: str) -> None:
    """The first of them is what there is without repeats, and other repeats change none of the earlier."""
    spec = "256,512:kinds=single+values,depths=3,seed=7"
    once, twice, thrice = (load_problems(name, f"{spec},repeats={number}") for number in (1, 2, 3))
    assert once == load_problems(name, spec) == twice[:12] and twice == thrice[:24]
    assert once[0].id == f"{name}/single-256-7-1" and thrice[-1].id == f"{name}/values-512-7-3-3"
    assert len({problem.id for problem in thrice}) == len({problem.question for problem in thrice}) == 36
    cells = Counter(tuple(problem.metadata.items()) for problem in thrice)
    assert set(cells.values()) == {3, 9} and len(cells) == 2 * 3 + 2  # values have no depth
    assert all(reread(problem) == problem.answer for problem in thrice)


def test_no_two_repeats_are_the_same_however_short_the_text() -> None:
    """Drawn without a look at the earlier ones, four of these would be."""
    problems = load_problems("needle", "18:kinds=single,depths=1,repeats=1000,seed=8,prompt=plain")
    assert len({problem.question for problem in problems}) == 1000


@pytest.mark.parametrize("name", [*NAMES, "reasoning_gym"])
def test_the_default_is_what_it_was(name: str) -> None:
    """Another text would be another benchmark under the same name."""
    loaded = load_benchmark(name)
    assert loaded.is_pinned and loaded.source == f"{name} {get_benchmark(name).spec}"


def test_plain_says_nothing_but_text_and_question() -> None:
    (problem,) = load_problems("needle", "64:kinds=single,depths=1,prompt=plain")
    assert problem.question.startswith("A code of") or problem.question.startswith("The ")
    assert problem.question.endswith("?")


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ("12", "needle: length = '12': must be a whole number from 16 to 1048576"),
        ("4k", "needle: length = '4k': must be a whole number"),
        ("16", "needle: single: 16 tokens, 69 characters, are too few: it needs "),
        ("512:kinds=single+double", "needle: kinds = 'double': must be some of single+keys+values+tracking"),
        ("512:depth=3", "needle: 'depth=3': must be one of the options, such as \"4096,8192"),
        ("512:depths", "needle: 'depths': must be one of the options"),
        ("512:depths=0", "needle: depths = '0': must be a whole number from 1 to 100"),
        ("512:repeats=0", "needle: repeats = '0': must be a whole number from 1 to 1000"),
        ("1048576:depths=10,kinds=keys,repeats=7", "needle: '1048576:depths=10,kinds=keys,repeats=7': is more than"),
        ("512:chars_per_token=nan", "needle: chars_per_token = 'nan': must be a number from 0.1 to 20"),
        ("512:prompt=long", "needle: prompt = 'long': must be one of short answer, plain"),
        ("1048576:depths=100", "needle: '1048576:depths=100': is more than 67,108,864 tokens in all"),
    ],
)
def test_what_is_asked_wrongly_is_named(spec: str, fault: str) -> None:
    with pytest.raises(ConfigError, match="^" + re.escape(fault)):
        load_problems("needle", spec)


def test_a_file_of_made_rows_is_read_too(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "x", "kind": "single", "length": 9, "prompt": "?"}\n')
    with pytest.raises(DataError, match=r"a.jsonl: line 1: field 'answer': is missing"):
        load_problems("needle", str(tmp_path / "a.jsonl"))
    for depth in ("1.01", '"0.5"', "true", "NaN", "null"):
        (tmp_path / "a.jsonl").write_text(
            f'{{"id": "x", "kind": "single", "length": 9, "depth": {depth}, "prompt": "?", "answer": "1"}}\n'
        )
        with pytest.raises(DataError, match=r"a.jsonl: line 1: field 'depth': must be a number from 0 to 1, not"):
            load_problems("needle", str(tmp_path / "a.jsonl"))
