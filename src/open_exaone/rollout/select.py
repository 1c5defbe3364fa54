"""Preference pairs from a model's own judged samples."""

import random
from collections.abc import Sequence

from open_exaone.base.records import NO_FINDING, Problem, Sample


def preference_pairs(
    problems: Sequence[Problem], samples: Sequence[Sequence[Sample]], *, pairs_per_problem: int, seed: int
) -> list[tuple[Problem, Sample, Sample]]:
    """Pairs a correct sample (chosen) with an incorrect one (rejected) of the same problem.

    Problems whose samples are all correct or all incorrect give none. Of a sample whose verifier failed nothing is
    known: it is in no pair.
    How LG built the pairs of EXAONE Deep was not published; on-policy verified pairs are EXAONE 4.0's way.

    Args:
        samples: [P, k], as `evaluation.run.run_tasks` gives them.

    Returns:
        (problem, chosen, rejected), at most `pairs_per_problem` a problem, no sample twice.
    """
    pairs = []
    for problem, row in zip(problems, samples, strict=True):
        draw = random.Random(f"{seed}:{problem.id}")
        chosen = [sample for sample in row if sample.verdict.correct]
        rejected = [s for s in row if not s.verdict.correct and s.verdict.status not in NO_FINDING]
        draw.shuffle(chosen)
        draw.shuffle(rejected)
        pairs += [(problem, *pair) for pair in list(zip(chosen, rejected, strict=False))[:pairs_per_problem]]
    return pairs
