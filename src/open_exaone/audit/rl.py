"""Part 3 of `verify-real`: some steps of online RL from the checkpoint, as a recipe; measured before and after."""

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.audit.math import MAX_ERRORS
from open_exaone.audit.part import Check, Found, Trial, clean_folder, free_memory
from open_exaone.audit.plan import SEED, TRAIN, Plan, find_problems, needed_bytes, recipe_of, refuse_what_cannot_fit
from open_exaone.base.files import read_json, read_jsonl, write_json, write_jsonl
from open_exaone.base.records import NO_FINDING, Problem, RolloutGroup, Sampling, StopReason
from open_exaone.evaluation.paired import paired_difference
from open_exaone.evaluation.statistics import estimate
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import sampling_progress
from open_exaone.pipeline.run import run_recipe
from open_exaone.pipeline.start import Run, open_run
from open_exaone.rewards.rubric import weights_of
from open_exaone.rollout.records import sample_rows
from open_exaone.rollout.run import Judging, judge_groups, sample

if TYPE_CHECKING:
    from open_exaone.model.transformer import LanguageModel

LOGGED = (
    *("step", "seconds", "loss", "reward_mean", "mean_logprob_gap", "max_logprob_gap", "entropy", "gradient_norm"),
    *("tokens_per_second", "mean_reply_tokens", "truncated_share", "error_share", "all_correct_groups"),
    *("all_wrong_groups", "skipped"),
)
# The gauge in nats, largest and mean: the engine decodes token by token from a cache and in other batches than the
# trainer, so a rounding apart is all that may lie between them. Ours by judgement.
GAP = {"float32": (1e-2, 1e-3), "bfloat16": (2.0, 0.05)}
PLAN = Plan()


def settings_of(rows: Mapping[str, str], num_steps: int) -> dict[str, Any]:
    """What decides this part's outcome besides the model."""
    return {"num_steps": num_steps, "rows": rows.get("gsm8k"), "plan": asdict(PLAN)}


def train_steps(trial: Trial, rows: Mapping[str, str], num_steps: int, settings: Mapping[str, Any]) -> Found:
    """Measures held-out problems, runs a recipe in `rl/`, and measures them again; what is done is not done again.

    Args:
        rows: GSM8K's training rows under "gsm8k"; problems of reasoning-gym, which need no download, without.

    Raises:
        ConfigError: the device's memory cannot hold the training.
        DataError: the rows are wrong or too few, or the disk cannot hold the saved states.
    """
    from open_exaone.checkpoint.folder import resolve_dtype

    plan = replace(PLAN, max_new_tokens=min(PLAN.max_new_tokens, trial.config.max_positions // 2))
    dtype = resolve_dtype(trial.machine.dtype, trial.device)
    refuse_what_cannot_fit(trial, dtype.itemsize, plan)
    folder = RunFolder(clean_folder(trial.out / "rl", settings))
    held_out, problems = find_problems(rows, num_steps, plan)
    recipe = recipe_of(trial, num_steps, plan)
    folder.claim(recipe)
    if not (folder.path / TRAIN).is_file():
        write_jsonl(folder.path / TRAIN, map(asdict, problems))
    run = open_run(recipe, folder, trial.machine, trial.on_event)
    before = _measured(run, plan, trial.folder, held_out, "before")
    run_recipe(recipe, folder.path, trial.on_event, trial.machine)
    free_memory()
    stage = run.path(recipe.stages[0])
    after = _measured(run, plan, stage / "model", held_out, "after")
    steps = [{key: row[key] for key in LOGGED if key in row} for row in read_jsonl(stage / "metrics.jsonl")]
    outcome = read_json(stage / "outcome.json")
    figures = {
        "num_steps": outcome["train_steps"],
        "problems": "gsm8k" if "gsm8k" in rows else "reasoning-gym",
        "dtype": outcome["dtype"],
        "optimizer": "AdamW with float32 masters",
        **{key: getattr(plan, key) for key in ("batch_prompts", "group_size", "max_new_tokens", "learning_rate")},
        "needed_bytes": sum(needed_bytes(trial.config, dtype.itemsize, plan).values()),
        "train_seconds": round(outcome["train_seconds"], 1),
        "train_tokens": outcome["train_tokens"],
        **_changes(before, after),
        "steps": steps,
    }
    return Found(_checks(steps, num_steps, (before, after), outcome["dtype"]), figures)


def clear_weights(out: Path) -> None:
    """Removes the saved states and the model of a part that is finished: many gigabytes that nothing reads again."""
    for path in (out / "rl").glob("*-rl/*"):
        if path.name in ("checkpoints", "model"):
            shutil.rmtree(path, ignore_errors=True)


# Measuring


def _measured(run: Run, plan: Plan, model: Path, problems: list[Problem], name: str) -> dict[str, Any]:
    """What a model's folder earns on the held-out problems, and the gauge; read where it was measured before."""
    file = run.folder.path / f"{name}.json"
    if not file.is_file():
        write_json(file, _measure(run, plan, model, problems, name))
        free_memory()
    found: dict[str, Any] = read_json(file)
    return found


def _measure(run: Run, plan: Plan, folder: Path, problems: list[Problem], name: str) -> dict[str, Any]:
    from open_exaone.checkpoint.folder import load_model, resolve_device
    from open_exaone.pipeline.engine import open_fixed

    model = load_model(folder, dtype=run.machine.dtype, device=resolve_device(run.machine.device))
    provider, started = open_fixed(run, f"rl: {name}", model, folder, name), time.perf_counter()
    sampling = Sampling(plan.max_new_tokens, 1.0, 1.0, plan.num_samples, SEED)
    progress = sampling_progress(run.on_event, f"rl: {name}")
    groups = sample(problems, provider, sampling, thinking=True, on_progress=progress)
    judging = Judging(run.judge, weights_of(plan.reward))
    groups = judge_groups(groups, judging, max_tokens=plan.max_new_tokens)
    seconds = time.perf_counter() - started
    write_jsonl(run.folder.path / f"{name}.jsonl", sample_rows(groups))
    return {**_summary(groups, seconds), **_gauge(model, groups, plan.micro_batch_tokens)}


def _summary(groups: Sequence[RolloutGroup], seconds: float) -> dict[str, Any]:
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    num_tokens = sum(rollout.generation.num_tokens for rollout in rollouts)
    correct = {group.problem.id: [rollout.verdict.correct for rollout in group.rollouts] for group in groups}
    return {
        "correct": {name: sum(samples) / len(samples) for name, samples in correct.items()},
        "mean_reply_tokens": num_tokens / len(rollouts),
        "truncated_share": sum(r.generation.stop is StopReason.LENGTH for r in rollouts) / len(rollouts),
        "error_share": sum(r.verdict.status in NO_FINDING for r in rollouts) / len(rollouts),
        "generated_tokens_per_second": num_tokens / seconds,
    }


def _gauge(model: "LanguageModel", groups: Sequence[RolloutGroup], max_tokens: int) -> dict[str, float | None]:
    """|log-probability of the trainer - of the engine| over the sampled tokens, in nats."""
    import torch

    from open_exaone.data.batch import pack, singles
    from open_exaone.data.document import rollout_document
    from open_exaone.train.forward import learned_logprobs

    documents = [rollout_document(group, rollout, 0.0) for group in groups for rollout in group.rollouts]
    gaps = []
    with torch.no_grad():
        for batch in pack(singles(documents), max_tokens):
            assert batch.sampler_logprobs_M is not None  # each document brings them
            engine_M = torch.from_numpy(batch.sampler_logprobs_M)
            gaps.append((learned_logprobs(model, batch)[0].cpu() - engine_M).abs())
    gap_M = torch.cat(gaps)
    found = {"max_gap": float(gap_M.max()), "mean_gap": float(gap_M.mean())}
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


# Comparing


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Correct replies before and after, as estimates, and their difference question by question."""
    found: dict[str, Any] = {}
    for name, measured in (("before", before), ("after", after)):
        share = estimate(list(measured["correct"].values()))
        rest = {key: value for key, value in measured.items() if key != "correct"}
        found[name] = {"value": share.value, "low": share.low, "high": share.high, **rest}
    change = paired_difference(after["correct"], before["correct"])
    found["change"] = {"value": change.value, "low": change.low, "high": change.high, "p_value": change.p_value}
    return {"num_held_out": len(before["correct"]), **found}


def _checks(
    steps: Sequence[Mapping[str, Any]], num_steps: int, measured: Sequence[Mapping[str, Any]], dtype: str
) -> tuple[Check, ...]:
    learned = [step for step in steps if "loss" in step]  # a step whose groups are all alike has nothing to learn
    broken = [step["step"] for step in learned if step["loss"] is None or step["skipped"]]
    most, mean = GAP[dtype]
    keys = ("mean_gap", "max_gap")
    gaps = [[math.inf if one[key] is None else one[key] for one in measured] for key in keys]
    for step in learned:
        for values, key in zip(gaps, ("mean_logprob_gap", "max_logprob_gap"), strict=True):
            values.append(math.inf if step[key] is None else step[key])
    worst_mean, worst = max(gaps[0]), max(gaps[1])
    errors = max(one["error_share"] for one in measured)
    return (
        Check(
            "losses",
            (not broken and len(steps) == num_steps) if learned else None,
            f"{len(learned)} of {len(steps)} steps had something to learn, {len(broken)} of them not finite."
            if learned
            else "Every group's samples were rewarded alike, so no step learned: give problems that are neither too "
            "easy nor too hard, such as --rows gsm8k=FILE.",
        ),
        Check(
            "engine and trainer, mean difference",
            worst_mean <= mean,
            f"{worst_mean:.2g} nats in the worst step (tolerated in {dtype}: {mean:g}).",
        ),
        Check(
            "engine and trainer, largest difference",
            worst <= most,
            f"{worst:.2g} nats at one token (tolerated in {dtype}: {most:g}).",
        ),
        Check(
            "replies that could not be judged",
            errors <= MAX_ERRORS,
            f"{100 * errors:.1f} % (tolerated: {100 * MAX_ERRORS:.0f} %).",
        ),
    )
