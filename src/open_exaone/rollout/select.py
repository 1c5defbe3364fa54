"""Preference pairs from a model's own judged samples."""

import random
from collections.abc import Sequence

from open_exaone.base.records import NO_FINDING, Problem, Sample


def preference_pairs(
    problems: Sequence[Problem], samples: Sequence[Sequence[Sample]], *, pairs_per_problem: int, seed: int
) -> tuple[list[tuple[Problem, Sample, Sample]], int]:
    """Pairs a correct sample (chosen) with an incorrect one (rejected) of the same problem.

    Problems whose samples are all correct or all incorrect give none. Of a sample whose verifier failed nothing is
    known: it is in no pair; nor is a reply without a token. Two samples of the same tokens, which a judge model may
    find correct once and not again, teach nothing: such a pair is dropped.
    How LG built the pairs of EXAONE Deep was not published; on-policy verified pairs are EXAONE 4.0's way.

    Args:
        samples: [P, k], as `evaluation.run.run_tasks` gives them.

    Returns:
        (problem, chosen, rejected), at most `pairs_per_problem` a problem, no sample twice; and how many pairs were
        dropped since their replies are the same.
    """
    pairs, num_same = list[tuple[Problem, Sample, Sample]](), 0
    for problem, row in zip(problems, samples, strict=True):
        draw = random.Random(f"{seed}:{problem.id}")
        judged = [s for s in row if s.generation.ids and s.verdict.status not in NO_FINDING]
        chosen = [sample for sample in judged if sample.verdict.correct]
        rejected = [sample for sample in judged if not sample.verdict.correct]
        draw.shuffle(chosen)
        draw.shuffle(rejected)
        found = list(zip(chosen, rejected, strict=False))
        kept = [(problem, *pair) for pair in found if pair[0].generation.ids != pair[1].generation.ids]
        num_same += len(found) - len(kept)
        pairs += kept[:pairs_per_problem]
    return pairs, num_same
