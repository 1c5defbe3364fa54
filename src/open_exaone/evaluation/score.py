"""From judged samples to the numbers of a report.

Shapes: P problems, k samples each. Every result is a fraction; rounding is left to the display.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, TypeVar

from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem, Sample, Verdict
from open_exaone.evaluation.consensus import consensus_curve, same_by_judge
from open_exaone.evaluation.missing import answered, names_of_missing, notes_on_replies
from open_exaone.evaluation.report import Cell, Cost, Csat, Entry, Estimated, Part, Rates, TokenMeans
from open_exaone.evaluation.statistics import (
    Correct,
    Estimate,
    bootstrap_interval,
    language_mismatch,
    normal_interval,
    problem_means,
    question_correlation,
    question_interval,
    verdict_rates,
)
from open_exaone.evaluation.task import Task
from open_exaone.rollout.commonest import commonest_answer
from open_exaone.tasks.benchmarks.csat import COMMON, ELECTIVES, NUM_COMMON, NUM_ELECTIVE, csat_score
from open_exaone.verify.language import LANGUAGES

Item = TypeVar("Item")
Key = TypeVar("Key", str, tuple[str, int, float])

CSAT = "csat_2025_math"


def pass_at_1(correct: Correct) -> float:
    """The mean over problems of the mean over their samples; with one greedy sample, greedy accuracy."""
    return fmean(problem_means(correct))


def pass_at_k(correct: Correct, k: int) -> float:
    """The chance that one of k samples is correct: the mean over problems of 1 - C(n - c, k) / C(n, k).

    Unbiased for n >= k samples, c of them correct. Source: Chen et al. 2021 (arXiv 2107.03374), equation 1.

    Raises:
        ValueError: a problem has fewer than k samples.
    """
    if k < 1 or any(len(samples) < k for samples in correct):
        raise ValueError(f"pass@{k} needs at least {max(k, 1)} samples of every problem")
    return fmean(1 - _all_wrong(len(samples), sum(samples), k) for samples in _some(correct))


def _all_wrong(num_samples: int, num_correct: int, k: int) -> float:
    return math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def powers_up_to(k: int) -> list[int]:
    """1, 2, 4, … and k itself."""
    return sorted({*(1 << power for power in range(k.bit_length())), k})


def score_task(
    task: Task,
    samples: Sequence[Sequence[Sample]],
    *,
    flops: float | None = None,
    not_published: Sequence[str] = (),
    of_endpoint: bool = False,
) -> Entry:
    """A task's entry in report.json.

    Args:
        samples: [P, k], in the order of `task.problems`.
        flops: floating-point operations of generating them all; None where that is not known.
        not_published: the settings that the suite's reports do not publish.
        of_endpoint: whether a server has split the replies into thought and answer.

    Raises:
        DataError: there are no problems, their numbers of samples differ, or the samples are of other problems.
    """
    k = _num_samples(samples)
    _check_places(task, samples)
    verdicts = [[sample.verdict for sample in row] for row in samples]
    correct = [[verdict.correct for verdict in row] for row in verdicts]
    means, ks = problem_means(correct), powers_up_to(k)
    cons = list(zip(*_consensus(task.problems, verdicts, ks), strict=True))  # [len(ks), P]
    flat = [sample for row in samples for sample in row]
    is_counted = any(sample.generation.num_tokens for sample in flat)
    passes = {str(size): pass_at_k(correct, size) for size in ks}
    votes = {str(size): fmean(values) for size, values in zip(ks, cons, strict=True)}
    return Entry(
        **_settings(task),
        **_score(means),
        k=k,
        not_published=tuple(not_published),
        ci95_bootstrap=_clipped(bootstrap_interval(means)),
        ci95_normal=_clipped(normal_interval(means)),
        correlation=question_correlation(correct),
        pass_at=passes,
        cons_at=votes,
        pass_at_k=passes[str(k)],
        cons_at_k=votes[str(k)],
        cons_ci95=question_interval(cons[-1]),
        rates=_rates(task.problems, samples, verdicts),
        tokens=_token_means(answered(flat)) if is_counted else None,
        cost=_cost(flat, flops) if is_counted else None,
        missing=names_of_missing(flat),
        notes=tuple(notes_on_replies(flat, of_endpoint=of_endpoint)),
        stops=dict(sorted(Counter(sample.generation.stop.value for sample in flat).items())),
        per_task=_parts([problem.task for problem in task.problems], task.problems, verdicts, means),
        per_language=_parts([problem.language for problem in task.problems], task.problems, verdicts, means),
        per_cell=_cells(task.problems, verdicts, means),
        csat=_csat(task, means),
    )


def _settings(task: Task) -> dict[str, Any]:
    about = ("name", "benchmark", "mode", "source", "sha256", "is_pinned", "is_whole")
    sampling = {name: value for name, value in asdict(task.sampling).items() if name != "num_samples"}  # which is k
    return sampling | {name: getattr(task, name) for name in about}


def _consensus(
    problems: Iterable[Problem], verdicts: Iterable[Sequence[Verdict]], ks: Sequence[int]
) -> list[list[float]]:
    """[P, len(ks)]: cons@k of each problem, where the problem's own verifier says which answers are the same."""
    return [
        consensus_curve(row, same_by_judge(problem.verifier, problem.metadata), ks)
        for problem, row in zip(problems, verdicts, strict=True)
    ]


def _rates(
    problems: Sequence[Problem], samples: Sequence[Sequence[Sample]], verdicts: Sequence[Sequence[Verdict]]
) -> Rates:
    languages = [problem.language for problem in problems]
    mismatch = None
    if set(languages) <= set(LANGUAGES):
        mismatch = language_mismatch([[sample.generation.reply for sample in row] for row in samples], languages)
    rates: Mapping[str, Estimate | None] = {**verdict_rates(verdicts), "language_mismatch": mismatch}
    return Rates(**{name: _estimated(rate) if rate else None for name, rate in rates.items()})  # type: ignore[arg-type]


def _estimated(rate: Estimate) -> Estimated:
    return Estimated(value=rate.value, low=rate.low, high=rate.high)


def _token_means(samples: Sequence[Sample]) -> TokenMeans:
    generations = [sample.generation for sample in samples]
    right = [sample.generation.num_thought_tokens for sample in samples if sample.verdict.correct]
    wrong = [sample.generation.num_thought_tokens for sample in samples if not sample.verdict.correct]
    thought, reply = fmean(g.num_thought_tokens for g in generations), fmean(g.num_tokens for g in generations)
    return TokenMeans(
        prompt=fmean(g.num_prompt_tokens for g in generations),
        thought=thought,
        answer=max(0.0, reply - thought),
        reply=reply,
        thought_correct=fmean(right) if right else None,
        thought_wrong=fmean(wrong) if wrong else None,
    )


def _cost(samples: Sequence[Sample], flops: float | None) -> Cost:
    return Cost(
        prompt_tokens=sum(sample.generation.num_prompt_tokens for sample in samples),
        reply_tokens=sum(sample.generation.num_tokens for sample in samples),
        flops=flops,
    )


def _csat(task: Task, means: Sequence[float]) -> Csat | None:
    """The examination's score; None for another benchmark, or a part of this one."""
    if task.benchmark != CSAT or len(means) != NUM_COMMON + NUM_ELECTIVE * len(ELECTIVES):
        return None
    by_problem = {problem.id: mean for problem, mean in zip(task.problems, means, strict=True)}
    found = csat_score(by_problem, task.problems)
    times = [len(ELECTIVES) if problem.metadata["section"] == COMMON else 1 for problem in task.problems]
    weights = [num * float(str(p.metadata["points"])) for num, p in zip(times, task.problems, strict=True)]
    return Csat.model_validate({**found, "points_ci95": question_interval(means, weights=weights)})


def _clipped(interval: tuple[float, float]) -> tuple[float, float]:
    return max(0.0, interval[0]), min(1.0, interval[1])


def _check_places(task: Task, samples: Sequence[Sequence[Sample]]) -> None:
    if len(samples) != len(task.problems):
        raise DataError(f"task {task.name!r}: {len(samples)} rows of samples for {len(task.problems)} problems")
    for problem, row in zip(task.problems, samples, strict=True):
        for sample in row:
            if (sample.task, sample.problem) != (task.name, problem.id):
                where = f"{sample.task!r}, problem {sample.problem!r}"
                raise DataError(f"task {task.name!r}, problem {problem.id!r}: has a sample of task {where}")


def _score(means: Sequence[float]) -> dict[str, Any]:
    return {"num_problems": len(means), "pass_at_1": fmean(means), "ci95": question_interval(means)}


def _parts(
    keys: Sequence[Key | None],
    problems: Sequence[Problem],
    verdicts: Sequence[Sequence[Verdict]],
    means: Sequence[float],
) -> dict[Key, Part]:
    """Key -> the score of its problems, what a constant answer would score, and how often one answer is given.

    Args:
        keys: of each problem, such as its family; None leaves a problem out.
    """
    groups: dict[Key, list[int]] = {}
    for place, key in enumerate(keys):
        if key is not None:
            groups.setdefault(key, []).append(place)
    return {
        key: Part(
            **_score([means[place] for place in places]),
            constant_baseline=_constant_baseline([problems[place].answer for place in places]),
            commonest_answer_share=commonest_answer(
                verdict.extracted for place in places for verdict in verdicts[place]
            )[1],
        )
        for key, places in sorted(groups.items())
    }


def _cells(
    problems: Sequence[Problem], verdicts: Sequence[Sequence[Verdict]], means: Sequence[float]
) -> tuple[Cell, ...]:
    """The scores of the problems whose metadata holds a kind, a length and a depth; no others count."""
    parts = _parts([_cell_of(problem.metadata) for problem in problems], problems, verdicts, means)
    return tuple(
        Cell(kind=kind, length=length, depth=depth, **dict(part)) for (kind, length, depth), part in parts.items()
    )


def _cell_of(metadata: Mapping[str, object]) -> tuple[str, int, float] | None:
    """A problem's kind, length and depth; None where it lacks one, or has something else under its name."""
    kind, length, depth = (metadata.get(name) for name in ("kind", "length", "depth"))
    if not isinstance(kind, str) or not isinstance(length, int) or not isinstance(depth, int | float):
        return None
    is_odd = isinstance(length, bool) or isinstance(depth, bool) or length < 1 or not 0 <= depth <= 1
    return None if is_odd else (kind, length, float(depth))


def _constant_baseline(answers: Sequence[str]) -> float | None:
    """What always giving the commonest of these gold answers would score; None where a problem has none."""
    return commonest_answer(answers)[1] if all(answers) else None


def _num_samples(samples: Sequence[Sequence[object]]) -> int:
    sizes = {len(row) for row in _some(samples)}
    if len(sizes) > 1 or 0 in sizes:
        raise DataError(
            f"problems have between {min(sizes)} and {max(sizes)} samples; each needs as many, at least one"
        )
    return sizes.pop()


def _some(items: Sequence[Item]) -> Sequence[Item]:
    if not len(items):
        raise DataError("there are no problems to score")
    return items
