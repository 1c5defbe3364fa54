"""Preference pairs from a model's own judged samples: sampled once from the stage's starting model, then kept."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import write_json, write_jsonl
from open_exaone.base.records import RolloutGroup, Sampling
from open_exaone.data.document import prompt_ids
from open_exaone.data.prepare import prepare_pairs
from open_exaone.data.render import Ids
from open_exaone.data.store import MANIFEST, Prepared
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.start import Run
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.rollout.run import Judging, judge_groups, sample
from open_exaone.rollout.select import preference_pairs
from open_exaone.train.buffer import buffer_key, read_rollouts, write_rollouts
from open_exaone.train.config import PreferenceStage

SAMPLES = "samples.jsonl"
PAIRS = "pairs.jsonl"


def sampled_pairs(run: Run, stage: PreferenceStage, prompts: Prepared, model: LanguageModel) -> Prepared:
    """Samples replies to the stage's problems, judges them, and pairs a correct with an incorrect one.

    Args:
        prompts: the stage's problems.
        model: the stage's starting model.

    Raises:
        DataError: no problem had both a correct and an incorrect sample, or the samples could not be judged.
    """
    path = run.path(stage)
    if (path / "data" / MANIFEST).is_file():
        return Prepared(path / "data")
    started = time.perf_counter()
    sampling = Sampling(
        max_new_tokens=stage.max_new_tokens,
        temperature=stage.temperature,
        top_p=1.0,
        num_samples=stage.num_samples,
        seed=run.seed(stage),
    )
    groups = _judged_samples(run, stage, prompts, model, sampling)
    rows = [
        {
            "problem": group.problem.id,
            "question": group.problem.question,
            "prompt_ids": group.prompt_ids,
            "chosen_ids": chosen.completion.ids,
            "rejected_ids": rejected.completion.ids,
            "rejected_because": rejected.verdict.status.value,
        }
        for group, chosen, rejected in preference_pairs(
            groups, pairs_per_problem=stage.pairs_per_problem, seed=run.seed(stage)
        )
    ]
    if not rows:
        raise DataError(
            f"{path}: no problem had both a correct and an incorrect sample, so there is nothing to prefer: raise "
            f"{stage.name}.num_samples, or give data.{stage.data} more problems, or easier or harder ones"
        )
    write_jsonl(path / PAIRS, rows)
    write_json(path / "sampling.json", {"sample_seconds": time.perf_counter() - started, "num_pairs": len(rows)})
    settings = {"sampling": asdict(sampling), "prompts": prompts.fingerprint}
    return prepare_pairs(_documents(rows), path / "data", name=f"samples of {stage.data}", settings=settings)


def _documents(rows: list[dict[str, Any]]) -> Iterator[tuple[str, Ids, Ids]]:
    for row in rows:
        chosen, rejected = (_document(row["prompt_ids"], row[key]) for key in ("chosen_ids", "rejected_ids"))
        yield row["question"], chosen, rejected


def _document(prompt: tuple[int, ...], reply: tuple[int, ...]) -> Ids:
    return [*prompt, *reply], [False] * len(prompt) + [True] * len(reply)


def _judged_samples(
    run: Run, stage: PreferenceStage, prompts: Prepared, model: LanguageModel, sampling: Sampling
) -> list[RolloutGroup]:
    """Samples of every problem, judged; where the judge model is down they are saved, and found again."""
    problems, tokenizer, judging = list(prompts.problems), run.tokenizer, Judging(run.judge)
    file = run.path(stage) / SAMPLES
    ids = prompt_ids(problems, tokenizer, thinking=stage.thinking)
    key = buffer_key(model, (ids, asdict(sampling), run.judge.model_dump(mode="json", exclude=WITHOUT_ADDRESS)))
    groups = read_rollouts(file, problems, ids, tokenizer, key)
    if groups is None:
        generate = run.generate(model, f"{stage.name}: sample")
        groups = sample(problems, generate, tokenizer, sampling, thinking=stage.thinking)
    return judge_groups(
        groups,
        judging,
        max_tokens=sampling.max_new_tokens,
        thinking=stage.thinking,
        save=lambda groups: write_rollouts(file, groups, key),
    )
