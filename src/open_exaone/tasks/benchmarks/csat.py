"""The Korean college entrance examination (CSAT, Suneung) of 2025 in mathematics, and its score.

Everybody takes 22 common questions and the 8 of one elective: 100 points. LG's score is the mean over the electives.
"""

from collections.abc import Iterable, Mapping
from statistics import fmean

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Access, Benchmark, PromptKind, Row
from open_exaone.tasks.benchmarks.fields import about, make_choice, text, texts, whole
from open_exaone.tasks.benchmarks.pins import pins_of
from open_exaone.tasks.benchmarks.prompts import short_answer

COMMON = "common"
ELECTIVES = ("calculus", "statistics", "geometry")
_SECTIONS = {
    "공통": COMMON,
    "미적분": "calculus",
    "확률과 통계": "statistics",
    "기하": "geometry",
    **{name: name for name in (COMMON, *ELECTIVES)},
}
_NUM_OPTIONS = 5
NUM_COMMON, NUM_ELECTIVE, FULL_POINTS = 22, 8, 100


def parse_csat(row: Row, number: int) -> Problem:
    """A row of section, number, points, type ("mcq" or "short"), problem, choices (five, for mcq) and answer.

    The answer of an mcq is the number of the right choice, 1 to 5, as the key prints it; LG's prompt asks for a letter.
    """
    section = text(row, "section").strip()
    if section not in _SECTIONS:
        raise ValueError(f"field 'section': must be one of {', '.join(_SECTIONS)}, not {section[:40]!r}")
    name, kind, question = _SECTIONS[section], text(row, "type"), text(row, "problem")
    key = f"{name}-{whole(row, 'number', 1, 30):02d}"
    metadata = {"section": name, "points": whole(row, "points", 2, 4), "type": kind, **about(row, "figure")}
    if kind == "mcq":
        right = whole(row, "answer", 1, _NUM_OPTIONS) - 1
        options = texts(row, "choices", _NUM_OPTIONS, _NUM_OPTIONS)
        return make_choice("csat_2025_math", key, question, options, right, metadata, "ko")
    if kind != "short":
        raise ValueError(f"field 'type': must be 'mcq' or 'short', not {kind[:40]!r}")
    answer = str(whole(row, "answer", 0, 999))
    return Problem(
        f"csat_2025_math/{key}", "csat_2025_math", "ko", short_answer(question), answer, "math", metadata=metadata
    )


def csat_score(correct_by_problem: Mapping[str, float], problems: Iterable[Problem]) -> dict[str, object]:
    """The examination's score: each elective by itself, and the mean over the three.

    Args:
        correct_by_problem: a problem's id -> how often it was solved: True, False, or the mean over k samples.
        problems: all 46, as loaded.

    Returns:
        "electives": elective -> {"points": of 100, "accuracy": of its 30 questions}; "mean_points", "mean_accuracy".

    Raises:
        DataError: a problem has no result, or an elective has not all of its questions and points.
    """
    by_section: dict[str, list[tuple[int, float]]] = {section: [] for section in (COMMON, *ELECTIVES)}
    for problem in problems:
        if problem.id not in correct_by_problem:
            raise DataError(f"{problem.id}: has no result; CSAT's score needs every question")
        points = problem.metadata.get("points")
        section = by_section.get(str(problem.metadata.get("section")))
        if section is None or not isinstance(points, int):
            raise DataError(f"{problem.id}: has no section and points in its metadata; it is no problem of CSAT")
        section.append((points, float(correct_by_problem[problem.id])))
    electives = {name: _elective(name, by_section[COMMON], by_section[name]) for name in ELECTIVES}
    means = {f"mean_{kind}": fmean(score[kind] for score in electives.values()) for kind in ("points", "accuracy")}
    return {"electives": electives, **means}


def _elective(name: str, common: list[tuple[int, float]], own: list[tuple[int, float]]) -> dict[str, float]:
    taken = common + own
    total = sum(points for points, _ in taken)
    if (len(common), len(own), total) != (NUM_COMMON, NUM_ELECTIVE, FULL_POINTS):
        raise DataError(
            f"csat_2025_math: {name} has {len(common)} common and {len(own)} elective questions for {total} points; "
            f"its score needs {NUM_COMMON} and {NUM_ELECTIVE} for {FULL_POINTS}: load all 46 rows"
        )
    return {
        "points": sum(points * correct for points, correct in taken),
        "accuracy": fmean(correct for _, correct in taken),
    }


CSAT_2025_MATH = Benchmark(
    name="csat_2025_math",
    pins=pins_of("csat_2025_math"),
    what="The mathematics paper of Korea's college entrance examination for 2025, with its three electives.",
    language="ko",
    verifiers=("math", "choice"),
    prompt=PromptKind.BOTH,
    hub=None,
    access=Access.OWN,
    licence="copyright of KICE, the examination's authority; transcribe the published paper for yourself",
    parse=parse_csat,
)
