"""Part 3 of `verify-real`: some steps of online RL from the checkpoint, gauged, and resumed where they were cut."""

import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.audit.part import Check, Found, Trial, clean_folder
from open_exaone.audit.plan import SEED, Plan, find_problems, needed_bytes, refuse_what_cannot_fit, stage_of
from open_exaone.base.files import read_json, read_jsonl, write_json, write_jsonl
from open_exaone.base.records import NO_FINDING, Problem, RolloutGroup, Sampling, StopReason
from open_exaone.evaluation.paired import paired_difference
from open_exaone.evaluation.statistics import estimate
from open_exaone.pipeline.measure import sampling_progress
from open_exaone.rewards.rubric import weights_of
from open_exaone.rollout.records import sample_rows
from open_exaone.rollout.run import Judging, judge_groups, sample
from open_exaone.train.config import RlStage
from open_exaone.verify.settings import JudgeSettings

if TYPE_CHECKING:
    from open_exaone.model.transformer import LanguageModel
    from open_exaone.rollout.provider import Provider
    from open_exaone.text.tokenizer import Tokenizer

LOGGED = (
    *("step", "seconds", "loss", "reward_mean", "mean_logprob_gap", "max_logprob_gap", "entropy", "gradient_norm"),
    *("tokens_per_second", "mean_reply_tokens", "truncated_share", "error_share", "all_correct_groups"),
    *("all_wrong_groups", "skipped"),
)
# The gauge in nats, largest and mean: the engine decodes token by token from a cache and in other batches than the
# trainer, so a rounding apart is all that may lie between them. Ours by judgement.
GAP = {"float32": (1e-2, 1e-3), "bfloat16": (2.0, 0.05), "float16": (1.0, 0.02)}
MAX_ERRORS = 0.01


PLAN = Plan()


@dataclass(frozen=True, slots=True)
class _Workplace:
    """What the acts of this part share."""

    trial: Trial
    folder: Path
    stage: RlStage
    plan: Plan
    model: "LanguageModel"
    tokenizer: "Tokenizer"
    settings: JudgeSettings

    def provider(self) -> "Provider":
        from open_exaone.engine.engine import Engine
        from open_exaone.rollout.providers.local import LocalProvider

        return LocalProvider(Engine(self.model, self.tokenizer, num_slots=self.plan.num_samples_at_once))


def asked_of(rows: Mapping[str, str], num_steps: int) -> dict[str, Any]:
    """What decides this part's outcome besides the model."""
    return {"num_steps": num_steps, "rows": rows.get("gsm8k"), "plan": asdict(PLAN)}


def train_steps(trial: Trial, rows: Mapping[str, str], num_steps: int, asked: Mapping[str, Any]) -> Found:
    """Measures held-out problems, trains, and measures them again; each is done once, however often it is cut.

    Args:
        rows: GSM8K's training rows under "gsm8k"; problems of reasoning-gym, which need no download, without.

    Raises:
        ConfigError: the device's memory cannot hold the training.
        DataError: the rows are wrong or too few, or the disk cannot hold the saved states.
    """
    from open_exaone.checkpoint.folder import load_model, load_tokenizer, load_weights, resolve_dtype
    from open_exaone.learn.optimizer import MasterOptimizer

    plan = replace(PLAN, max_new_tokens=min(PLAN.max_new_tokens, trial.config.max_positions // 2))
    dtype = resolve_dtype(trial.machine.dtype, trial.device)
    refuse_what_cannot_fit(trial, dtype.itemsize, plan)
    folder = clean_folder(trial.out / "rl", asked)
    folder.mkdir(parents=True, exist_ok=True)
    stage = stage_of(num_steps, plan)
    held_out, problems = find_problems(rows, num_steps, plan)
    tokenizer = load_tokenizer(trial.folder)
    model = load_model(trial.folder, dtype=dtype, device=trial.device)
    settings = trial.machine.judge(JudgeSettings())
    place = _Workplace(trial, folder, stage, plan, model, tokenizer, settings)
    before = _measured(place, held_out, "before")
    optimizer = MasterOptimizer(model, dict(load_weights(trial.folder)), stage.optimizer)
    progress = _train(place, optimizer, problems)
    after = _measured(place, held_out, "after")
    steps = [{key: row.get(key) for key in LOGGED if key in row} for row in read_jsonl(folder / "metrics.jsonl")]
    name = str(dtype).removeprefix("torch.")
    figures = {
        "num_steps": progress.step,
        "problems": "gsm8k" if "gsm8k" in rows else "reasoning-gym",
        "dtype": name,
        "optimizer": "AdamW with float32 masters",
        **{key: getattr(plan, key) for key in ("batch_prompts", "group_size", "max_new_tokens", "learning_rate")},
        "needed_bytes": sum(needed_bytes(trial.config, dtype.itemsize, plan).values()),
        "train_seconds": round(progress.seconds, 1),
        "train_tokens": progress.tokens,
        **_changes(before, after),
        "steps": steps,
    }
    return Found(_checks(steps, num_steps, (before, after), name), figures)


def clear_states(out: Path) -> None:
    """Removes the saved states of a part that is finished: they are many gigabytes, and nothing reads them again."""
    shutil.rmtree(out / "rl" / "checkpoints", ignore_errors=True)


# Acts


def _train(place: _Workplace, optimizer: Any, problems: list[Problem]) -> Any:
    from open_exaone.train.loop import train
    from open_exaone.train.rl import OnlineRl

    objective = OnlineRl(
        place.stage,
        problems,
        place.provider(),
        place.folder,
        SEED,
        place.model,
        place.settings,
    )
    return train(
        place.model, optimizer, objective, place.folder, lambda row: place.trial.on_event({"stage": "rl", **row})
    )


def _measured(place: _Workplace, problems: list[Problem], name: str) -> dict[str, Any]:
    """What the held-out problems earn, and the gauge over their replies; read where it was measured before."""
    file = place.folder / f"{name}.json"
    if not file.is_file():
        plan, started = place.plan, time.perf_counter()
        sampling = Sampling(plan.max_new_tokens, 1.0, 1.0, plan.num_samples, SEED)
        judging = Judging(place.settings, weights_of(plan.reward))
        with _reading(place.model):
            progress = sampling_progress(place.trial.on_event, f"rl: {name}")
            groups = sample(problems, place.provider(), sampling, thinking=True, on_progress=progress)
            groups = judge_groups(groups, judging, max_tokens=plan.max_new_tokens, thinking=True)
            seconds = time.perf_counter() - started
            gauge = _gauge(place.model, groups, plan.micro_batch_tokens)
        write_jsonl(place.folder / f"{name}.jsonl", sample_rows(groups))
        write_json(file, {**_summary(groups, seconds), **gauge})
    found: dict[str, Any] = read_json(file)
    return found


@contextlib.contextmanager
def _reading(model: "LanguageModel") -> Iterator[None]:
    """Nothing is learned within it, and dropout, had the model any, is off."""
    import torch

    model.eval()
    with torch.no_grad():
        yield


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
    for batch in pack(singles(documents), max_tokens):
        engine_M = torch.from_numpy(batch.old_logprobs_M)
        gaps.append((learned_logprobs(model, batch)[0].cpu() - engine_M).abs())
    gap_M = torch.cat(gaps)
    told = {"max_gap": float(gap_M.max()), "mean_gap": float(gap_M.mean())}
    return {name: value if math.isfinite(value) else None for name, value in told.items()}


# Telling


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Correct replies before and after, as estimates, and their difference question by question."""
    told: dict[str, Any] = {}
    for name, measured in (("before", before), ("after", after)):
        share = estimate(list(measured["correct"].values()))
        rest = {key: value for key, value in measured.items() if key != "correct"}
        told[name] = {"value": share.value, "low": share.low, "high": share.high, **rest}
    change = paired_difference(after["correct"], before["correct"])
    told["change"] = {"value": change.value, "low": change.low, "high": change.high, "p_value": change.p_value}
    return {"num_held_out": len(before["correct"]), **told}


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
