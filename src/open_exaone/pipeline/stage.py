"""One stage of a run: its starting weights, its objective, the shared loop, the model's folder, its measurement."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_jsonl, replace_folder, write_json, write_jsonl
from open_exaone.base.machine import peak_rss_bytes
from open_exaone.base.records import Sampling
from open_exaone.checkpoint.folder import load_model, load_weights, resolve_device, resolve_dtype, save_model
from open_exaone.data.document import Document, prompt_ids, worked_documents
from open_exaone.engine.sharded import ShardedEngine
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine, OnEvent, own_tasks, stage_entry
from open_exaone.pipeline.recipe import Recipe
from open_exaone.pipeline.report import write_outcome
from open_exaone.pipeline.rewards import tell_changed_rewards
from open_exaone.pipeline.training import write_trained
from open_exaone.rollout.providers.local import LocalProvider, weights_hash
from open_exaone.rollout.select import preference_pairs
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.buffer import buffer_key
from open_exaone.train.config import AnyStage, PreferenceStage, RlStage, SupervisedStage
from open_exaone.train.loop import Objective, train
from open_exaone.train.preference import Preference
from open_exaone.train.rl import OnlineRl
from open_exaone.train.supervised import Supervised
from open_exaone.verify.settings import JudgeSettings

SAMPLES = "samples"  # of a preference stage, until its pairs are chosen


@dataclass(frozen=True)
class StageRun:
    """One stage of one run: what it is made of, where it stands, and its two acts."""

    recipe: Recipe
    folder: RunFolder
    index: int
    stage: AnyStage
    tokenizer: Tokenizer
    on_event: OnEvent
    machine: Machine

    @property
    def path(self) -> Path:
        return self.folder.stage(self.index, self.stage.name)

    @property
    def seed(self) -> int:
        """Of this stage's data order and samples: stages and recipe seeds far apart."""
        return self.recipe.seed * 1_000_000_000 + (self.index + 1) * 10_000_000

    @property
    def settings(self) -> JudgeSettings:
        return self.machine.judge(self.recipe.judge)

    def train(self) -> None:
        """Trains from the stage before (or random weights) and leaves `model/`, whole or not at all."""
        _train(self)

    def measure(self) -> None:
        """Measures `model/` and leaves `eval/`; what was measured before a cut is not measured again."""
        started = time.perf_counter()
        model = load_model(self.path / "model", dtype=self.machine.dtype, device=resolve_device(self.machine.device))
        provider = self.provider(model, weights_hash(self.path / "model"))
        config = self.recipe.evaluation
        samples, greedy = run_tasks(
            own_tasks(self.folder.problems(config.split), config, thinking=self.stage.thinking),
            provider,
            Store(self.path / "eval"),
            self.settings,
            suite=self.recipe.name,
            label=f"{self.stage.name}: measure",
            on_event=self.on_event,
        )
        seconds = time.perf_counter() - started
        write_outcome(self.path / "eval" / "outcome.json", seconds=seconds, peak_rss_bytes=peak_rss_bytes())
        write_json(self.path / "eval" / "report.json", stage_entry(score_task(*samples), score_task(*greedy)))

    def provider(self, model: LanguageModel, weights: str | None = None) -> LocalProvider:
        engine = ShardedEngine(model, self.tokenizer, num_slots=self.recipe.num_slots)
        return LocalProvider(engine, model=self.stage.name, weights=weights)


def _train(stage_run: StageRun) -> None:
    path, stage, recipe = stage_run.path, stage_run.stage, stage_run.recipe
    path.mkdir(parents=True, exist_ok=True)
    device = resolve_device(stage_run.machine.device)
    dtype = resolve_dtype(stage_run.machine.dtype, device)
    model = LanguageModel(recipe.model).to(device, dtype)
    model.model.recomputes = stage.recompute_activations
    if device.type == "cuda":
        model.compile_layers()
    optimizer = MasterOptimizer(model, _starting_weights(stage_run), stage.optimizer)
    objective = _objective(stage_run, model)
    progress = train(
        model,
        optimizer,
        objective,
        path,
        lambda row: stage_run.on_event({"stage": stage.name, **row}),
        flops_per_token=3 * recipe.model.flops_per_token(0),
        seed=stage_run.seed,
    )
    write_trained(path / "outcome.json", progress, model)
    masters: dict[str, Tensor] = {name: master.detach() for name, master in optimizer.masters.items()}
    sampling = {"temperature": recipe.evaluation.temperature, "top_p": recipe.evaluation.top_p}
    partial = path / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    save_model(partial, recipe.model, masters, stage_run.tokenizer, sampling)
    replace_folder(partial, path / "model")


def _starting_weights(stage_run: StageRun) -> dict[str, Tensor]:
    if stage_run.index == 0:
        fresh = LanguageModel(stage_run.recipe.model)
        fresh.reset_parameters(stage_run.recipe.seed)
        return dict(fresh.named_parameters())
    before = stage_run.recipe.stages[stage_run.index - 1]
    return dict(load_weights(stage_run.folder.stage(stage_run.index - 1, before.name) / "model"))


def _objective(stage_run: StageRun, model: LanguageModel) -> Objective:
    stage, seed, tokenizer = stage_run.stage, stage_run.seed, stage_run.tokenizer
    problems = stage_run.folder.problems(stage.split)
    match stage:
        case SupervisedStage():
            documents = worked_documents(
                problems,
                tokenizer,
                thinking=stage.thinking,
                learn_prompts=stage.kind == "base",
                max_tokens=stage_run.recipe.model.max_positions,
            )
            return Supervised(stage, documents, seed)
        case PreferenceStage():
            return Preference(stage, _pairs(stage_run, stage, model), seed)
        case RlStage():
            tell_changed_rewards(stage, stage_run.path, stage_run.on_event)
            provider = stage_run.provider(model)
            return OnlineRl(stage, problems, provider, stage_run.path, seed, model, stage_run.settings)


def _pairs(stage_run: StageRun, stage: PreferenceStage, model: LanguageModel) -> list[tuple[Document, Document]]:
    """The pairs of a preference stage: sampled once from the stage's starting model, then read from its folder."""
    file = stage_run.path / "pairs.jsonl"
    if not file.is_file():
        started = time.perf_counter()
        sampling = Sampling(
            max_new_tokens=stage.max_new_tokens,
            temperature=stage.temperature,
            top_p=1.0,
            num_samples=stage.num_samples,
            seed=stage_run.seed,
        )
        problems = tuple(stage_run.folder.problems(stage.split))
        [(_, samples)] = run_tasks(
            [Task(stage.split, stage.split, problems, sampling, thinking=True)],
            stage_run.provider(model, buffer_key(model, None)),
            Store(stage_run.path / SAMPLES, keeps_ids=True),
            stage_run.settings,
            suite=stage_run.recipe.name,
            label=f"{stage.name}: sample",
            on_event=stage_run.on_event,
        )
        pairs = preference_pairs(problems, samples, pairs_per_problem=stage.pairs_per_problem, seed=stage_run.seed)
        prompts = prompt_ids([problem for problem, _, _ in pairs], stage_run.tokenizer, thinking=True)
        rows = [
            {
                "problem": problem.id,
                "prompt_ids": prompt,
                "chosen_ids": chosen.generation.ids,
                "rejected_ids": rejected.generation.ids,
                "rejected_because": rejected.verdict.status.value,
            }
            for prompt, (problem, chosen, rejected) in zip(prompts, pairs, strict=True)
        ]
        seconds = time.perf_counter() - started
        write_outcome(stage_run.path / "sampling.json", sample_seconds=seconds, num_pairs=len(rows))
        write_jsonl(file, rows)
        shutil.rmtree(stage_run.path / SAMPLES)
    rows = read_jsonl(file)
    if not rows:
        raise DataError(
            f"{file}: no problem had both a correct and an incorrect sample, so there is nothing to prefer: "
            f"raise {stage.name}.num_samples or give split {stage.split!r} more problems"
        )
    return [(_pair_document(row, "chosen_ids", +1.0), _pair_document(row, "rejected_ids", -1.0)) for row in rows]


def _pair_document(row: dict[str, Any], key: str, advantage: float) -> Document:
    prompt, reply = row["prompt_ids"], row[key]
    return Document((*prompt, *reply), (False,) * len(prompt) + (True,) * len(reply), advantage)
