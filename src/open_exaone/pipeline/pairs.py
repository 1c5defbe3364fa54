"""Preference pairs from a model's own judged samples: sampled once from the stage's starting model, then kept."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from open_exaone.base.config import differences
from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.files import write_json, write_jsonl
from open_exaone.base.records import MODES
from open_exaone.data.document import prompt_ids
from open_exaone.data.prepare import prepare_pairs
from open_exaone.data.store import MANIFEST, Prepared
from open_exaone.evaluation.missing import refuse_missing
from open_exaone.evaluation.run import Samples, run_tasks
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task, tasks_by_mode
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.engine import open_fixed
from open_exaone.pipeline.start import Run
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.rollout.select import preference_pairs
from open_exaone.text.tokenizer import Ids
from open_exaone.train.buffer import buffer_key
from open_exaone.train.config import PreferenceStage

SAMPLES = "samples"  # every sample, until the pairs are chosen: a cut stage resumes at the sample
PAIRS = "pairs.jsonl"


def sampled_pairs(run: Run, stage: PreferenceStage, prompts: Prepared, model: LanguageModel) -> Prepared:
    """Samples replies to the stage's problems, judges them, and pairs a correct with an incorrect one.

    Args:
        prompts: the stage's problems.
        model: the stage's starting model.

    Raises:
        DataError: no problem had both a correct and an incorrect sample, a sample has no reply, or none could be
            judged.
        RunFolderError: the pairs that are there were sampled from another model, or judged by another judge.
    """
    path, key = run.path(stage), buffer_key(model, None)
    judge = run.recipe.judge.model_dump(mode="json", exclude=WITHOUT_ADDRESS)
    settings = {"prompts": prompts.fingerprint, "seed": run.seed(stage), "model": key, "judge": judge}
    if (path / "data" / MANIFEST).is_file():
        shutil.rmtree(path / SAMPLES, ignore_errors=True)  # a process was killed before it had
        return _reopened(path / "data", settings)
    store = Store(path / SAMPLES, keeps_ids=True)
    done = _samples(run, stage, prompts, model, key, store)
    rows = [row for task, samples in done for row in _rows(run, stage, task, samples)]
    if not rows:
        raise DataError(
            f"{path}: no problem had both a correct and an incorrect sample, so there is nothing to prefer: raise "
            f"{stage.name}.num_samples, or give data.{stage.data} more problems, or easier or harder ones"
        )
    write_jsonl(path / PAIRS, rows)
    outcome = {"sample_seconds": store.seconds, "num_pairs": len(rows), "notes": store.notes}
    if len(done) > 1:
        modes = {MODES[task.thinking]: _summary(task, samples, rows) for task, samples in done}
        for mode, found in modes.items():
            run.message(f"{stage.name}: {mode}: {found['num_problems']:,} problems gave {found['num_pairs']:,} pairs")
        outcome["modes"] = modes
    write_json(path / "sampling.json", outcome)
    for note in store.notes:
        run.message(f"note: {note}")
    prepared = prepare_pairs(_documents(rows), path / "data", name=f"samples of {stage.data}", settings=settings)
    shutil.rmtree(path / SAMPLES)
    return prepared


def _rows(run: Run, stage: PreferenceStage, task: Task, samples: Samples) -> list[dict[str, Any]]:
    """The pairs of one mode's samples."""
    pairs = preference_pairs(task.problems, samples, pairs_per_problem=stage.pairs_per_problem, seed=run.seed(stage))
    ids = prompt_ids([problem for problem, _, _ in pairs], run.tokenizer, thinking=task.thinking)
    return [
        {
            "problem": problem.id,
            "question": problem.question,
            "mode": MODES[task.thinking],
            "prompt_ids": prompt,
            "chosen_ids": chosen.generation.ids,
            "rejected_ids": rejected.generation.ids,
            "rejected_because": rejected.verdict.status.value,
        }
        for prompt, (problem, chosen, rejected) in zip(ids, pairs, strict=True)
    ]


def _summary(task: Task, samples: Samples, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What one mode's samples are, and how many pairs they gave."""
    every = [sample for row in samples for sample in row]
    return {
        "num_problems": len(task.problems),
        "num_pairs": sum(row["mode"] == MODES[task.thinking] for row in rows),
        "correct_share": fmean(sample.verdict.correct for sample in every),
        "mean_reply_tokens": fmean(sample.generation.num_tokens for sample in every),
    }


def _reopened(folder: Path, settings: dict[str, Any]) -> Prepared:
    """The pairs that are there."""
    prepared = Prepared(folder)
    found = {name: prepared.manifest["settings"].get(name) for name in settings}
    if changed := ", ".join(sorted(differences(found, settings))):
        raise RunFolderError(
            f"{folder}: its pairs were sampled and judged with other settings ({changed}): put them back, or choose "
            "another folder with --out"
        )
    return prepared


def _samples(
    run: Run, stage: PreferenceStage, prompts: Prepared, model: LanguageModel, key: str, store: Store
) -> list[tuple[Task, Samples]]:
    """The stage's problems, a task for each mode that some are asked in, and the judged samples of each, [P, k]."""
    sampling = stage.to_sampling(top_p=1.0, seed=run.seed(stage))
    tasks = tasks_by_mode(stage.data, prompts.problems, prompts.thinks_N.tolist(), sampling)
    provider = open_fixed(run, stage.name, model, run.start_folder(stage), key)
    done = run_tasks(
        tasks,
        provider,
        store,
        run.judge,
        suite=run.recipe.name,
        label=f"{stage.name}: sample",
        on_event=run.on_event,
    )
    refuse_missing([sample for _, samples in done for row in samples for sample in row], provider.failure)
    return done


def _documents(rows: list[dict[str, Any]]) -> Iterator[tuple[str, str, Ids, Ids]]:
    for row in rows:
        chosen, rejected = (_document(row["prompt_ids"], row[key]) for key in ("chosen_ids", "rejected_ids"))
        yield row["mode"], row["question"], chosen, rejected


def _document(prompt: Sequence[int], reply: Sequence[int]) -> Ids:
    return [*prompt, *reply], [False] * len(prompt) + [True] * len(reply)
