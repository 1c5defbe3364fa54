"""Pairs of an earlier preference stage that a later one learns again."""

import random
from typing import Any

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_jsonl
from open_exaone.base.records import MODES
from open_exaone.pipeline.start import Run, samples_own
from open_exaone.train.config import PreferenceStage

PAIRS_FILE = "pairs.jsonl"  # in the folder of a stage that samples its pairs
REUSED = "reused_from"  # of such a pair, in the later stage's file


def check_reuse(run: Run, stage: PreferenceStage) -> None:
    """Finds a stage whose pairs are named though it samples none, before anything is trained.

    Raises:
        ConfigError: names it.
    """
    if stage.reuse is None:
        return
    earlier = _earlier(run, stage.reuse.stage)
    if not samples_own(run, earlier):
        raise ConfigError(
            f"{stage.name}.reuse.stage = {earlier.name!r}: that stage samples no pairs, since data.{earlier.data} "
            "holds pairs already: name a preference stage whose data are problems, or leave reuse out"
        )


def reused_pairs(run: Run, stage: PreferenceStage) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The pairs of an earlier stage that a stage learns besides its own: drawn by its seed, in their order.

    Those that the earlier stage had itself from another one are not among them.

    Returns:
        the rows; and how many of which stage, for sampling.json.

    Raises:
        DataError: that stage's pairs are not there, or are no pairs of this run's model.
    """
    if stage.reuse is None:
        return [], {}
    file = run.path(_earlier(run, stage.reuse.stage)) / PAIRS_FILE
    what = f"{stage.name}.reuse.stage = {stage.reuse.stage!r}"
    if not file.is_file():
        raise DataError(f"{what}: {file}: no such file: put the pairs of that stage back, or run it again")
    rows = read_jsonl(file)
    for number, row in enumerate(rows, 1):
        if not _is_pair(row, run.shape.vocab_size):
            raise DataError(f"{what}: {file}: line {number}: is no pair of this run: put the file back")
    own = [row for row in rows if REUSED not in row]
    number = min(len(own), max(1, round(stage.reuse.share * len(own))))
    places = sorted(random.Random(f"{run.seed(stage)}:reuse").sample(range(len(own)), number))
    counts = {"stage": stage.reuse.stage, "num_pairs": number, "of": len(own)}
    run.message(f"{stage.name}: learns {number:,} of the {len(own):,} pairs of {stage.reuse.stage} again")
    return [{**own[place], REUSED: stage.reuse.stage} for place in places], counts


def _earlier(run: Run, name: str) -> PreferenceStage:
    found = next(stage for stage in run.recipe.stages if stage.name == name)
    assert isinstance(found, PreferenceStage)  # the recipe was checked
    return found


def _is_pair(row: Any, vocab_size: int) -> bool:
    if not isinstance(row, dict) or row.get("mode") not in MODES or not isinstance(row.get("question"), str):
        return False
    parts = [row.get(name) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    return all(
        isinstance(ids, list) and ids and all(type(one) is int and 0 <= one < vocab_size for one in ids)
        for ids in parts
    )
