"""Pairs, groups or replies of a model's own judged samples: drawn once from the stage's starting model, then kept."""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from open_exaone.base.config import differences
from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.files import write_json, write_jsonl
from open_exaone.base.records import MODES, Rollout, RolloutGroup
from open_exaone.data.document import Document, Unit, prompt_ids
from open_exaone.data.prepare import prepare_units
from open_exaone.data.store import MANIFEST, Prepared, hash_of
from open_exaone.evaluation.missing import refuse_missing
from open_exaone.evaluation.run import Samples, run_tasks
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task, tasks_by_mode
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.engine import open_fixed
from open_exaone.pipeline.grading import rewarded
from open_exaone.pipeline.plan import SamplingStage
from open_exaone.pipeline.rejection import NOTHING, REPLIES_FILE, kept_replies, reply_unit
from open_exaone.pipeline.reuse import PAIRS_FILE, reused_pairs
from open_exaone.pipeline.start import Run
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.rewards.rubric import sum_size, weights_of
from open_exaone.rollout.provider import Provider
from open_exaone.rollout.run import Judging
from open_exaone.rollout.select import Pair, RewardPairs, preference_pairs
from open_exaone.train.buffer import buffer_key
from open_exaone.train.config import PreferenceStage, RejectionStage
from open_exaone.verify.own import file_of, is_own

SAMPLES = "samples"  # every sample, until the pairs or groups are made: a cut stage resumes at the sample
Row = dict[str, Any]


def sampled_units(run: Run, stage: SamplingStage, prompts: Prepared, model: LanguageModel) -> Prepared:
    """Samples replies to the stage's problems and judges them; pairs them by the stage's rule, with GrouPER keeps whole
    groups with rewards, in a stage `rejection` single replies that are correct; pairs of an earlier stage join them
    where the stage re-uses some.

    Args:
        prompts: the stage's problems.
        model: the stage's starting model.

    Raises:
        DataError: the rule found no pair, no problem had samples of different rewards, or no reply is correct; a sample
            has no reply, or none could be judged; an earlier stage's pairs are not there.
        RunFolderError: the samples that are there are of another model, or were judged by another judge.
    """
    path, key, name = run.path(stage), buffer_key(model, None), _learned(stage)
    settings = {"prompts": prompts.fingerprint, "seed": run.seed(stage), "model": key, **_reward_settings(run, stage)}
    if (path / "data" / MANIFEST).is_file():
        shutil.rmtree(path / SAMPLES, ignore_errors=True)  # a process was killed before it had
        return _reopened(path / "data", settings)
    reused, reuse_counts = reused_pairs(run, stage) if isinstance(stage, PreferenceStage) else ([], {})
    store = Store(path / SAMPLES, keeps_ids=True)
    done = _samples(run, stage, prompts, model, store)
    made = [_made(run, stage, task, samples) for task, samples in done]
    rows, left_out = [row for rows, _ in made for row in rows], sum((counts for _, counts in made), Counter[str]())
    for why, number in left_out.items():
        run.message(f"{stage.name}: left out: {number:,} {why}")
    if not rows:
        raise DataError(
            f"{path}: {_why_nothing(stage)}: raise {stage.name}.num_samples, or give data.{stage.data} more problems, "
            "or easier or harder ones"
        )
    write_jsonl(path / _FILES[name], [*rows, *reused])
    outcome: dict[str, Any] = {"sample_seconds": store.seconds, f"num_{name}": len(rows), "notes": store.notes}
    outcome |= {"left_out": dict(left_out), **_sampled(done)}
    if name == "pairs":
        outcome |= _pair_counts(run, stage, rows)
    if reuse_counts:
        outcome["reused"] = reuse_counts
    if len(done) > 1:
        modes = {MODES[task.thinking]: _summary(task, samples, rows, name) for task, samples in done}
        for mode, found in modes.items():
            num_made = found[f"num_{name}"]
            run.message(f"{stage.name}: {mode}: {found['num_problems']:,} problems gave {num_made:,} {name}")
        outcome["modes"] = modes
    write_json(path / "sampling.json", outcome)
    for note in store.notes:
        run.message(f"note: {note}")
    units = ((row["mode"], row["question"], _UNITS[name](row)) for row in [*rows, *reused])
    prepared = prepare_units(units, path / "data", name=f"samples of {stage.data}", settings=settings)
    shutil.rmtree(path / SAMPLES)
    return prepared


def open_start(run: Run, stage: SamplingStage, model: LanguageModel) -> Provider:
    """Samples from a stage's starting model."""
    return open_fixed(run, stage.name, model, run.start_folder(stage), buffer_key(model, None))


def _learned(stage: SamplingStage) -> str:
    """What a stage makes of its samples."""
    if isinstance(stage, RejectionStage):
        return "replies"
    return "groups" if stage.loss.learns == "groups" else "pairs"


def _made(run: Run, stage: SamplingStage, task: Task, samples: Samples) -> tuple[list[Row], Counter[str]]:
    """What a stage learns of one mode's samples, and what was left out."""
    if isinstance(stage, RejectionStage):
        return kept_replies(run, stage, task, samples)
    return (_groups if stage.loss.learns == "groups" else _pairs)(run, stage, task, samples)


def _why_nothing(stage: SamplingStage) -> str:
    if isinstance(stage, RejectionStage):
        return f"{NOTHING}, so there is nothing to learn"
    nothing = RewardPairs.nothing if stage.loss.learns == "groups" else stage.pairs.nothing
    return f"{nothing}, so there is nothing to prefer"


def _sampled(done: Sequence[tuple[Task, Samples]]) -> dict[str, int]:
    """How many replies were drawn, and their tokens."""
    every = [sample for _, samples in done for row in samples for sample in row]
    return {"num_sampled": len(every), "sampled_tokens": sum(sample.generation.num_tokens for sample in every)}


def _pairs(run: Run, stage: PreferenceStage, task: Task, samples: Samples) -> tuple[list[Row], Counter[str]]:
    """The pairs of one mode's samples, and what was left out."""
    groups = _sampled_groups(run, stage, task, samples)
    pairs, left_out = preference_pairs(
        groups,
        stage.pairs,
        weights=weights_of(stage.reward),
        pairs_per_problem=stage.pairs_per_problem,
        seed=run.seed(stage),
    )
    return [_pair_row(pair, task) for pair in pairs], left_out


def _pair_row(pair: Pair, task: Task) -> Row:
    row = {
        **_asked(pair.group, task),
        "chosen_ids": pair.chosen.generation.ids,
        "rejected_ids": pair.rejected.generation.ids,
        "rejected_because": pair.rejected_because,
    }
    if pair.chosen.reward is None:
        return row
    sides = {"chosen": pair.chosen, "rejected": pair.rejected}
    return row | {f"{side}_{name}": getattr(one, name) for side, one in sides.items() for name in ("reward", "terms")}


def _pair_counts(run: Run, stage: SamplingStage, rows: Sequence[Row]) -> dict[str, Any]:
    """Why replies are rejected, and how long both sides' replies are on average."""
    why = dict(Counter(row["rejected_because"] for row in rows))
    chosen, rejected = (fmean(len(row[f"{side}_ids"]) for row in rows) for side in ("chosen", "rejected"))
    counted = ", ".join(f"{number:,} {reason}" for reason, number in why.items())
    run.message(
        f"{stage.name}: {len(rows):,} pairs; chosen replies have {chosen:,.1f} tokens on average, rejected ones "
        f"{rejected:,.1f} ({counted})"
    )
    return {"rejected_because": why, "mean_chosen_tokens": chosen, "mean_rejected_tokens": rejected}


def _sampled_groups(run: Run, stage: PreferenceStage, task: Task, samples: Samples) -> list[RolloutGroup]:
    """One mode's samples by problem, with rewards where the stage has use for them."""
    ids = prompt_ids(task.problems, run.tokenizer, thinking=task.thinking)
    groups = [
        RolloutGroup(
            problem,
            tuple(prompt),
            task.thinking,
            tuple(Rollout(sample.generation, sample.verdict, None) for sample in row),
        )
        for problem, prompt, row in zip(task.problems, ids, samples, strict=True)
    ]
    if stage.loss.learns != "groups" and not stage.pairs.needs_reward:
        return groups
    return rewarded(
        groups,
        samples,
        Judging(run.judge, weights_of(stage.reward), stage.rubric),
        max_tokens=stage.max_new_tokens,
        file=run.path(stage) / SAMPLES / f"terms-{MODES[task.thinking]}.jsonl",
        seal=hash_of(_reward_settings(run, stage)),
    )


def _reward_settings(run: Run, stage: SamplingStage) -> dict[str, Any]:
    """What a sample's verdict and reward follow from besides the sample."""
    judge = run.recipe.judge.model_dump(mode="json", exclude=WITHOUT_ADDRESS)
    if isinstance(stage, RejectionStage):
        kept = stage.model_dump(mode="json", include={"num_samples", "replies_per_problem", "min_distance"})
        return {"judge": judge, "kept": kept}
    own = [Path(file_of(name)).read_bytes().hex() for name in filter(is_own, weights_of(stage.reward))]
    return {"judge": judge, "own_rewards": own}


def _groups(run: Run, stage: PreferenceStage, task: Task, samples: Samples) -> tuple[list[Row], Counter[str]]:
    """The groups of one mode's samples whose rewards differ, and what was left out."""
    from open_exaone.learn.preference import grouper_advantages

    weights = weights_of(stage.reward)
    rows, left_out = list[Row](), Counter[str]()
    for group in _sampled_groups(run, stage, task, samples):
        kept = [rollout for rollout in group.rollouts if rollout.reward is not None and rollout.generation.ids]
        left_out["samples that are empty or whose reward is not known"] += len(group.rollouts) - len(kept)
        rewards_PG = torch.tensor([[rollout.reward for rollout in kept]], dtype=torch.float64)
        sizes_PG = torch.tensor([[sum_size(rollout.terms, weights) for rollout in kept]], dtype=torch.float64)
        advantages = grouper_advantages(rewards_PG, sizes_PG=sizes_PG)[0].tolist() if kept else []
        if not any(advantages):
            left_out["groups whose rewards are all equal"] += 1
            continue
        replies = [
            {
                "ids": rollout.generation.ids,
                "verdict": rollout.verdict.status.value,
                "terms": rollout.terms,
                "reward": rollout.reward,
                "advantage": advantage,
            }
            for rollout, advantage in zip(kept, advantages, strict=True)
        ]
        rows.append({**_asked(group, task), "replies": replies})
    return rows, +left_out


def _asked(group: RolloutGroup, task: Task) -> Row:
    mode, problem = MODES[task.thinking], group.problem
    return {"problem": problem.id, "question": problem.question, "mode": mode, "prompt_ids": list(group.prompt_ids)}


def _pair_unit(row: Row) -> Unit:
    return [_document(row["prompt_ids"], row[f"{side}_ids"], sign) for side, sign in (("chosen", 1), ("rejected", -1))]


def _group_unit(row: Row) -> Unit:
    return [_document(row["prompt_ids"], reply["ids"], reply["advantage"]) for reply in row["replies"]]


def _document(prompt: Sequence[int], reply: Sequence[int], advantage: float) -> Document:
    return Document([*prompt, *reply], [False] * len(prompt) + [True] * len(reply), advantage)


_FILES = {"pairs": PAIRS_FILE, "groups": "groups.jsonl", "replies": REPLIES_FILE}
_UNITS = {"pairs": _pair_unit, "groups": _group_unit, "replies": reply_unit}


def _summary(task: Task, samples: Samples, rows: Sequence[Row], name: str) -> dict[str, float]:
    """What one mode's samples are, and how many pairs or groups they gave."""
    every = [sample for row in samples for sample in row]
    return {
        "num_problems": len(task.problems),
        f"num_{name}": sum(row["mode"] == MODES[task.thinking] for row in rows),
        "correct_share": fmean(sample.verdict.correct for sample in every),
        "mean_reply_tokens": fmean(sample.generation.num_tokens for sample in every),
    }


def _reopened(folder: Path, settings: dict[str, Any]) -> Prepared:
    """The pairs that are there."""
    prepared = Prepared(folder)
    found = {name: prepared.manifest["settings"].get(name) for name in settings}
    if changed := ", ".join(sorted(differences(found, settings))):
        raise RunFolderError(
            f"{folder}: its samples were drawn and judged with other settings ({changed}): put them back, or choose "
            "another folder with --out"
        )
    return prepared


def _samples(
    run: Run, stage: SamplingStage, prompts: Prepared, model: LanguageModel, store: Store
) -> list[tuple[Task, Samples]]:
    """The stage's problems, a task for each mode that some are asked in, and the judged samples of each, [P, k]."""
    top_p = stage.top_p if isinstance(stage, RejectionStage) else 1.0
    sampling = stage.to_sampling(top_p=top_p, seed=run.seed(stage))
    tasks = tasks_by_mode(stage.data, prompts.problems, prompts.thinks_N.tolist(), sampling)
    provider = open_start(run, stage, model)
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
