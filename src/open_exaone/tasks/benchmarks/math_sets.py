"""Questions with a short answer: competitions, MATH-500, GSM8K, and the part of HLE that a program can judge."""

from collections.abc import Callable
from functools import partial

from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Access, Benchmark, Hub, PromptKind, Row
from open_exaone.tasks.benchmarks.fields import about, text
from open_exaone.tasks.benchmarks.pins import pins_of
from open_exaone.tasks.benchmarks.prompts import short_answer

_CONTEST = "the contest's copyright; the hub's copies state their own terms; ours to read, not to ship"


def make_short(task: str, key: object, question: str, answer: str, **metadata: object) -> Problem:
    """A problem with a short answer, asked in LG's words."""
    return Problem(f"{task}/{key}", task, "en", short_answer(question), answer, "math", metadata=metadata)


def parse_math(task: str, row: Row, number: int) -> Problem:
    """A row of problem (or question) and answer, as most sets of competitions have it."""
    known = about(row, "subject", "level", "unique_id", "problem_type", "competition", "url")
    return make_short(task, number, text(row, "problem", "question"), text(row, "answer"), **known)


def parse_aime(task: str, row: Row, number: int) -> Problem:
    """As `parse_math`; an answer is a whole number from 0 to 999, whose leading zeros do not count."""
    answer = text(row, "answer").strip()
    if not (answer.isascii() and answer.isdigit() and len(answer) <= 3):
        raise ValueError(f"field 'answer': AIME's answers are whole numbers from 0 to 999, not {answer[:40]!r}")
    return make_short(task, number, text(row, "problem", "question"), str(int(answer)), **about(row, "url"))


def parse_gsm8k(row: Row, number: int) -> Problem:
    """The answer is what stands behind "####" in the worked solution."""
    _, mark, answer = text(row, "answer").rpartition("####")
    answer = answer.strip().replace(",", "")
    if not mark or not answer:
        raise ValueError("field 'answer': must end in '#### ' and the final answer")
    return make_short("gsm8k", number, text(row, "question"), answer)


def parse_hle(row: Row, number: int) -> Problem:
    """One row of Humanity's Last Exam."""
    known = about(row, "category", "raw_subject")
    return make_short("hle", row.get("id") or number, text(row, "question"), text(row, "answer"), **known)


def keep_hle(row: Row) -> bool:
    """Text alone, and an answer that is compared rather than chosen."""
    return not row.get("image") and text(row, "answer_type") == "exactMatch"


def _set(name: str, what: str, hub: Hub, licence: str, parse: Callable[[Row, int], Problem]) -> Benchmark:
    return Benchmark(
        name=name,
        what=what,
        language="en",
        verifiers=("math",),
        prompt=PromptKind.SHORT_ANSWER,
        hub=hub,
        access=Access.OPEN,
        licence=licence,
        parse=parse,
        pins=pins_of(name),
    )


MATH_500 = _set(
    "math_500",
    "500 problems of high-school competitions, the part of MATH that PRM800K kept for tests.",
    Hub("HuggingFaceH4/MATH-500", ("test.jsonl",)),
    "MIT",
    partial(parse_math, "math_500"),
)
AIME_2024 = _set(
    "aime_2024",
    "The 30 problems of the American Invitational Mathematics Examination 2024, I and II.",
    Hub("HuggingFaceH4/aime_2024", ("data/train-*.parquet",), split="train"),
    _CONTEST,
    partial(parse_aime, "aime_2024"),
)
AIME_2025 = _set(
    "aime_2025",
    "The 30 problems of the American Invitational Mathematics Examination 2025, I and II.",
    Hub("opencompass/AIME2025", ("aime2025-I.jsonl", "aime2025-II.jsonl"), config="AIME2025-I, AIME2025-II"),
    _CONTEST,
    partial(parse_aime, "aime_2025"),
)
HMMT_FEB_2025 = _set(
    "hmmt_feb_2025",
    "30 problems of the Harvard-MIT Mathematics Tournament of February 2025.",
    Hub("MathArena/hmmt_feb_2025", ("data/train-*.parquet",), split="train"),
    _CONTEST,
    partial(parse_math, "hmmt_feb_2025"),
)
GSM8K = _set(
    "gsm8k",
    "1,319 word problems of grade school.",
    Hub("openai/gsm8k", ("main/test-*.parquet",), config="main"),
    "MIT",
    parse_gsm8k,
)
HLE = Benchmark(
    name="hle",
    what="Humanity's Last Exam: its questions in text alone with an answer to compare.",
    language="en",
    verifiers=("math",),
    prompt=PromptKind.SHORT_ANSWER,
    hub=Hub("cais/hle", ("data/test-*.parquet",)),
    access=Access.GATED,
    licence="MIT; its authors ask that the questions not be re-posted",
    parse=parse_hle,
    keep=keep_hle,
)
