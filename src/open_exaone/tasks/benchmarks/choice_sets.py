"""Multiple choice: GPQA, MMLU, MMLU-Redux, MMLU-Pro."""

import random
from functools import partial

from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Access, Benchmark, Hub, PromptKind, Row
from open_exaone.tasks.benchmarks.fields import about, letter, make_choice, text, texts, whole
from open_exaone.tasks.benchmarks.pins import pins_of
from open_exaone.tasks.benchmarks.prompts import LETTERS

GPQA_SEED = 0
_MAX_PRO_OPTIONS = 10


def parse_gpqa(row: Row, number: int) -> Problem:
    """The four options in an order that the seed and the record's id alone decide."""
    right = text(row, "Correct Answer").strip()
    wrong = [text(row, f"Incorrect Answer {place}").strip() for place in (1, 2, 3)]
    key = text(row, "Record ID") if row.get("Record ID") is not None else str(number)
    order = list(range(4))
    random.Random(f"gpqa/{GPQA_SEED}/{key}").shuffle(order)
    options = [[right, *wrong][place] for place in order]
    known = about(row, "High-level domain", "Subdomain")
    return make_choice("gpqa_diamond", key, text(row, "Question").strip(), options, order.index(0), known)


def parse_mmlu(task: str, row: Row, number: int) -> Problem:
    """Four choices, the answer as a number from 0."""
    options = texts(row, "choices", 4, 4)
    right = whole(row, "answer", 0, 3)
    return make_choice(task, number, text(row, "question"), options, right, about(row, "subject"))


def parse_corrected(row: Row, number: int) -> Problem:
    """MMLU-Redux with the wrong keys put right."""
    if _error_type(row) == "ok":
        return parse_mmlu("mmlu_redux_corrected", row, number)
    return parse_mmlu("mmlu_redux_corrected", {**row, "answer": _correction(row)}, number)


def parse_mmlu_pro(row: Row, number: int) -> Problem:
    """Up to ten options; the letter in `answer` counts, as for its authors (in one row `answer_index` differs)."""
    options = texts(row, "options", 2, _MAX_PRO_OPTIONS)
    right = letter(row, "answer", len(options))
    key = row.get("question_id", number)
    return make_choice("mmlu_pro", key, text(row, "question"), options, right, about(row, "category", "src"))


def keep_ok(row: Row) -> bool:
    """The rows in which the annotators found no error."""
    return _error_type(row) == "ok"


def keep_corrected(row: Row) -> bool:
    """Those, and the ones whose key alone was wrong, where the annotators name the right choice."""
    return keep_ok(row) or (_error_type(row) == "wrong_groundtruth" and _correction(row) is not None)


def _error_type(row: Row) -> str:
    """The annotators wrote "OK", "Wrong Groundtruth" and the like by hand; the hub's copy has them in one form."""
    return "_".join(text(row, "error_type").lower().split())


def _correction(row: Row) -> int | None:
    """The right choice by the annotators: a number from 0, a letter, or a choice's text."""
    correct = "" if row.get("correct_answer") is None else str(row["correct_answer"]).strip()
    options = [option.strip() for option in texts(row, "choices", 4, 4)]
    for names in (list("0123"), list(LETTERS[:4]), options):
        if names.count(correct) == 1:
            return names.index(correct)
    return None


_REDUX = Hub("edinburgh-dawg/mmlu-redux-2.0", ("*/data-*.arrow",), config="57 subjects")
_REDUX_LICENCE = "CC BY 4.0"

GPQA_DIAMOND = Benchmark(
    name="gpqa_diamond",
    what="198 questions of biology, physics and chemistry that experts answer and skilled searchers do not.",
    language="en",
    verifiers=("choice",),
    prompt=PromptKind.CHOICE,
    hub=Hub("Idavidrein/gpqa", ("gpqa_diamond.csv",), config="gpqa_diamond", split="train"),
    access=Access.GATED,
    licence="CC BY 4.0; its authors ask that the questions not be re-posted",
    parse=parse_gpqa,
)
MMLU = Benchmark(
    name="mmlu",
    what="14,042 questions of 57 subjects, four choices each.",
    language="en",
    verifiers=("choice",),
    prompt=PromptKind.CHOICE,
    hub=Hub("cais/mmlu", ("all/test-*.parquet",), config="all"),
    access=Access.OPEN,
    licence="MIT",
    parse=partial(parse_mmlu, "mmlu"),
)
MMLU_REDUX = Benchmark(
    name="mmlu_redux",
    pins=pins_of("mmlu_redux"),
    what="MMLU re-annotated by hand, 100 questions of each subject: those without an error.",
    language="en",
    verifiers=("choice",),
    prompt=PromptKind.CHOICE,
    hub=_REDUX,
    access=Access.OPEN,
    licence=_REDUX_LICENCE,
    parse=partial(parse_mmlu, "mmlu_redux"),
    keep=keep_ok,
)
MMLU_REDUX_CORRECTED = Benchmark(
    name="mmlu_redux_corrected",
    pins=pins_of("mmlu_redux_corrected"),
    what="MMLU-Redux: those without an error, and those whose wrong key the annotators put right.",
    language="en",
    verifiers=("choice",),
    prompt=PromptKind.CHOICE,
    hub=_REDUX,
    access=Access.OPEN,
    licence=_REDUX_LICENCE,
    parse=parse_corrected,
    keep=keep_corrected,
)
MMLU_PRO = Benchmark(
    name="mmlu_pro",
    pins=pins_of("mmlu_pro"),
    what="12,032 harder questions of 14 fields, up to ten options each.",
    language="en",
    verifiers=("choice",),
    prompt=PromptKind.CHOICE,
    hub=Hub("TIGER-Lab/MMLU-Pro", ("data/test-*.parquet",)),
    access=Access.OPEN,
    licence="MIT",
    parse=parse_mmlu_pro,
)
