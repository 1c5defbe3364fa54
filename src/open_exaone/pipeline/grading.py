"""Rewards of a preference stage's samples: each term is kept once found, so that a judge model is asked for it once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_jsonl, write_jsonl
from open_exaone.base.log import logger
from open_exaone.base.records import Missing, Outage, RolloutGroup, Sample, Term
from open_exaone.rewards.rubric import weighted_sum
from open_exaone.rollout.run import Judging, judge_groups

_OPEN = Missing("Not scored yet.", Outage.DOWN)


def rewarded(
    groups: Sequence[RolloutGroup],
    samples: Sequence[Sequence[Sample]],
    judging: Judging,
    *,
    max_tokens: int,
    file: Path,
    seal: str,
) -> list[RolloutGroup]:
    """Groups of judged samples with the terms of their reward.

    Args:
        samples: those of the groups, [P, G].
        file: gets the terms that were found, when all are there, before each wait for the judge model, and where
            grading is interrupted.
        seal: of all that the terms follow from besides the samples; a file with another one is not read.

    Raises:
        DataError, EndpointError, Interrupted: see `judge_groups`.
    """
    known, keys = _read(file, seal), [[sample.key for sample in row] for row in samples]

    def save(done: Sequence[RolloutGroup]) -> None:
        rollouts = [rollout for group in done for rollout in group.rollouts]
        terms = [{n: t for n, t in rollout.terms.items() if not isinstance(t, Missing)} for rollout in rollouts]
        flat = [key for row in keys for key in row]
        write_jsonl(file, [{"seal": seal, "key": k, "terms": t} for k, t in zip(flat, terms, strict=True)])

    begun = []
    for group, row in zip(groups, keys, strict=True):
        rollouts = []
        for rollout, key in zip(group.rollouts, row, strict=True):
            terms: dict[str, Term] = {name: known.get(key, {}).get(name, _OPEN) for name in judging.weights}
            rollouts.append(replace(rollout, terms=terms, reward=weighted_sum(terms, judging.weights)))
        begun.append(replace(group, rollouts=tuple(rollouts)))
    done = judge_groups(begun, judging, max_tokens=max_tokens, save=save)
    save(done)
    return done


def _read(file: Path, seal: str) -> Mapping[str, dict[str, float]]:
    """By sample, the terms that are known; none where the file is broken or follows from something else."""
    if not file.is_file() or file.is_symlink():
        return {}
    try:
        rows = [row for row in read_jsonl(file) if row["seal"] == seal]
        found = {row["key"]: {name: float(term) for name, term in row["terms"].items()} for row in rows}
        if all(math.isfinite(term) for terms in found.values() for term in terms.values()):
            return found
    except (DataError, AttributeError, KeyError, TypeError, ValueError) as error:
        logger.warning("%s: cannot be read (%s); its samples are graded again", file, error)
    return {}
