"""Programs: HumanEval, MBPP, and LiveCodeBench by the dates of its contests. The prompts are ours."""

from datetime import date
from functools import partial

from open_exaone.base.config import short
from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Access, Benchmark, Hub, PromptKind, Row
from open_exaone.tasks.benchmarks.fields import about, text, texts, whole
from open_exaone.tasks.benchmarks.pins import pins_of
from open_exaone.tasks.benchmarks.prompts import CODE_FUNCTION, CODE_STARTER, CODE_STDIN, CODE_TESTS, fill
from open_exaone.verify.code.forms import read_tests

_MBPP_TEST = range(11, 511)  # task ids of the test split; the file of the authors holds the other splits too
_LICENCE_LCB = "CC; the problems are their contests'"


def parse_humaneval(row: Row, number: int) -> Problem:
    """The beginning of a function; the tests are those of the row."""
    prompt = text(row, "prompt")
    for name in ("test", "entry_point"):
        text(row, name)
    question = fill(CODE_FUNCTION, code=prompt.strip("\n"))
    solution = prompt + row["canonical_solution"] if isinstance(row.get("canonical_solution"), str) else ""
    return _program("humaneval", row.get("task_id", number), question, row, solution)


def parse_mbpp(row: Row, number: int) -> Problem:
    """A sentence and the tests, as its authors ask it."""
    lines = texts(row, "test_list", 1, 1000)
    question = fill(CODE_TESTS, question=text(row, "text", "prompt").strip(), code="\n".join(lines))
    code = row.get("code")
    return _program("mbpp", whole(row, "task_id", 0, 10**6), question, row, code if isinstance(code, str) else "")


def keep_mbpp(row: Row) -> bool:
    """The 500 of the test split."""
    return whole(row, "task_id", 0, 10**6) in _MBPP_TEST


def parse_livecodebench(task: str, row: Row, number: int) -> Problem:
    """A contest's problem: a whole program, or a method of the starter code."""
    question, starter = text(row, "question_content"), row.get("starter_code")
    if row.get("public_test_cases") is None and row.get("private_test_cases") is None:
        raise ValueError("field 'public_test_cases' or 'private_test_cases': is missing; a row needs its tests")
    prompt = (
        fill(CODE_STARTER, question=question, code=starter.strip("\n"))
        if isinstance(starter, str) and starter.strip()
        else fill(CODE_STDIN, question=question)
    )
    known = about(row, "contest_date", "difficulty", "platform")
    return _program(task, row.get("question_id", number), prompt, row, "", **known)


def _program(task: str, key: object, question: str, row: Row, solution: str, **known: object) -> Problem:
    """A problem judged by the tests of its row; `solution` is an example, and not compared with."""
    if "private_test_cases" not in row:  # unpacking those takes long; a broken one is an error of its verdict
        read_tests("", {"tests": dict(row)})
    metadata = {"tests": dict(row), **known}
    return Problem(f"{task}/{key}", task, "en", question, solution, "code", metadata=metadata)


def livecodebench(name: str, first: date, last: date, files: tuple[str, ...]) -> Benchmark:
    """LiveCodeBench with the problems of contests from `first` to `last`, both included.

    Args:
        files: those of the hub's copy that hold them: test.jsonl is release v1, test2.jsonl what v2 added, ...
    """
    return Benchmark(
        name=name,
        what=f"LiveCodeBench: problems of contests from {first} to {last}.",
        language="en",
        verifiers=("code",),
        prompt=PromptKind.CODE,
        hub=Hub("livecodebench/code_generation_lite", files, config=f"{first} to {last}"),
        access=Access.OPEN,
        licence=_LICENCE_LCB,
        parse=partial(parse_livecodebench, name),
        keep=partial(_is_within, first, last),
    )


def _is_within(first: date, last: date, row: Row) -> bool:
    written = text(row, "contest_date")
    try:
        return first <= date.fromisoformat(written[:10]) <= last
    except ValueError:
        raise ValueError(f"field 'contest_date': must be a date such as 2025-01-31, not {short(written)}") from None


# None of the windows is LG's own word: docs/benchmarks.md says why these.
LIVECODEBENCH = livecodebench("livecodebench", date(2024, 8, 1), date(2025, 2, 1), ("test4.jsonl", "test5.jsonl"))
LIVECODEBENCH_V5 = livecodebench("livecodebench_v5", date(2024, 10, 1), date(2025, 2, 1), ("test5.jsonl",))
LIVECODEBENCH_V6 = livecodebench("livecodebench_v6", date(2025, 2, 1), date(2025, 5, 31), ("test6.jsonl",))

HUMANEVAL = Benchmark(
    name="humaneval",
    pins=pins_of("humaneval"),
    what="164 Python functions to complete from their documentation.",
    language="en",
    verifiers=("code",),
    prompt=PromptKind.CODE,
    hub=Hub("openai/openai_humaneval", ("openai_humaneval/test-*.parquet",), config="openai_humaneval"),
    access=Access.OPEN,
    licence="MIT",
    parse=parse_humaneval,
)
MBPP = Benchmark(
    name="mbpp",
    pins=pins_of("mbpp"),
    what="500 small Python programs from one sentence and three tests each: the test split.",
    language="en",
    verifiers=("code",),
    prompt=PromptKind.CODE,
    hub=Hub("google-research-datasets/mbpp", ("full/test-*.parquet",), config="full"),
    access=Access.OPEN,
    licence="CC BY 4.0",
    parse=parse_mbpp,
    keep=keep_mbpp,
)
