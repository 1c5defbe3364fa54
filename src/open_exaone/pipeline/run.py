"""A story: every stage trained, measured and told; whatever is done already is not done again."""

import time
from pathlib import Path
from typing import Any

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, PromptTooLongError
from open_exaone.base.files import read_json
from open_exaone.base.records import Problem
from open_exaone.data.document import prompt_ids
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine, OnEvent
from open_exaone.pipeline.recipe import Recipe
from open_exaone.pipeline.report import build_report, stage_showcase, write_outcome
from open_exaone.rewards.rubric import weights_of
from open_exaone.tasks.splits import build_splits
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.language import LANGUAGES
from open_exaone.verify.own import check_own, is_own


def run_story(recipe: Recipe, out: Path, on_event: OnEvent, machine: Machine | None = None) -> dict[str, Any]:
    """Runs a recipe from where its folder stands to the end.

    Args:
        out: the run's folder; a run that was killed there goes on.
        on_event: told of progress: {"stage", "step", "num_steps", …}, {"message": …} and {"measured": entry}.

    Returns:
        the report, as in report.json.

    Raises:
        RunFolderError: the folder holds another recipe's run, or one begun in another dtype or kind of device.
        Interrupted: after Ctrl-C or SIGTERM; the state is saved.
    """
    from open_exaone.pipeline.stage import StageRun

    folder, machine = RunFolder(out), machine or Machine()
    folder.claim(recipe)
    with folder.locked(), interrupt.deferred_interrupts():
        _claim_machine(folder, recipe, machine)
        tokenizer = _prepare(folder, recipe, on_event)
        for index, stage in enumerate(recipe.stages):
            interrupt.check()
            run = StageRun(recipe, folder, index, stage, tokenizer, on_event, machine)
            if not (run.path / "model").is_dir():
                run.train()
            if not (run.path / "eval" / "report.json").is_file():
                run.measure()
            entry = read_json(run.path / "eval" / "report.json")
            on_event({"measured": entry, "stage": stage.name, "showcase": stage_showcase(folder, recipe, index)})
        return build_report(folder, recipe)


def _claim_machine(folder: RunFolder, recipe: Recipe, machine: Machine) -> None:
    """Refuses a machine on which the rest of a run would be computed in another way; a finished run has no rest."""
    from open_exaone.checkpoint.folder import resolve_device, resolve_dtype

    reports = [folder.stage(*place) / "eval" / "report.json" for place in enumerate(s.name for s in recipe.stages)]
    if not all(report.is_file() for report in reports):
        device = resolve_device(machine.device)
        folder.claim_machine(device.type, str(resolve_dtype(machine.dtype, device)).removeprefix("torch."))


def _prepare(folder: RunFolder, recipe: Recipe, on_event: OnEvent) -> Tokenizer:
    """Draws the problems and trains the tokenizer on the text that training reads, unless both are there."""
    tokenizer_folder = folder.stage(0, recipe.stages[0].name) / "tokenizer"
    if not folder.prepared_file.is_file():
        started = time.perf_counter()
        on_event({"message": "drawing problems, training the tokenizer …"})
        splits = build_splits(recipe.problems, recipe.judge)
        _check_rewards(recipe, splits)
        folder.save_problems(splits)
        learned = {stage.split for stage in recipe.stages if stage.kind in ("base", "sft")}
        problems = [problem for name in recipe.problems.splits if name in learned for problem in splits[name]]
        texts = (text for p in problems for text in (p.question, p.thought, p.reply) if text)
        tokenizer = Tokenizer.train(texts, recipe.model.vocab_size)
        _check_prompts(recipe, splits, tokenizer)
        tokenizer.save(tokenizer_folder)
        sizes = {name: len(split) for name, split in splits.items()}
        write_outcome(folder.prepared_file, seconds=time.perf_counter() - started, num_problems=sizes)
    return Tokenizer.load(tokenizer_folder)


def _check_rewards(recipe: Recipe, splits: dict[str, tuple[Problem, ...]]) -> None:
    """Finds a reward that cannot be given before anything is trained."""
    for stage in recipe.stages:
        if stage.kind != "rl":
            continue
        weights = weights_of(stage.reward)
        for name in filter(is_own, weights):
            check_own(name, recipe.judge)
        languages = {problem.language for problem in splits[stage.split]} - set(LANGUAGES)
        if "language" in weights and languages:
            known = ", ".join(LANGUAGES)
            raise ConfigError(
                f"{stage.name}.reward: 'language' knows {known}; split {stage.split!r} has {min(languages)!r}"
            )


def _check_prompts(recipe: Recipe, splits: dict[str, tuple[Problem, ...]], tokenizer: Tokenizer) -> None:
    """Finds a prompt that leaves too little of the context for its reply before anything is trained."""
    readers = [("evaluation", recipe.evaluation.split, recipe.evaluation.max_new_tokens)]
    readers += [(s.name, s.split, s.max_new_tokens) for s in recipe.stages if s.kind in ("preference", "rl")]
    for reader, split, max_new_tokens in readers:
        longest = max(map(len, prompt_ids(splits[split], tokenizer, thinking=True)))
        if longest + max_new_tokens > recipe.model.max_positions:
            raise PromptTooLongError(
                f"split {split!r} has a prompt of {longest} tokens; with {reader}.max_new_tokens = {max_new_tokens} "
                f"that exceeds model.max_positions = {recipe.model.max_positions}: lower the one or raise the other"
            )
