"""A recipe from its first stage to its last: trained, measured, reported; what is done already is not done again."""

import hashlib
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from open_exaone.base import interrupt
from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json, write_json
from open_exaone.base.machine import trim_heap
from open_exaone.evaluation.spread import serving
from open_exaone.pipeline.card import write_cards
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine, OnEvent
from open_exaone.pipeline.plan import REPLY_SHARE, Rows, plan_stage
from open_exaone.pipeline.prepare import (
    StageData,
    epoch_size,
    evaluation_tasks,
    prepare_stage,
    shared_prompts,
    teaches_thinking,
)
from open_exaone.pipeline.recipe import part_of
from open_exaone.pipeline.report import build_report, stage_showcase
from open_exaone.pipeline.run_log import RunLog
from open_exaone.pipeline.start import Run, open_run, samples_own
from open_exaone.pipeline.together import check_shared, joined
from open_exaone.present.report import write_report
from open_exaone.rollout.team import Serve
from open_exaone.train.config import AnyStage, FilterStage, RlStage, TrainedStage
from open_exaone.train.parallel.world import World


def run_recipe(
    recipe: Recipe, out: Path, on_event: OnEvent, machine: Machine | None = None, *, until: str | None = None
) -> dict[str, Any]:
    """Runs a recipe from where its folder stands to the end.

    Args:
        out: the run's folder; a run that was killed there continues.
        until: the last stage to run, if not the recipe's; the others may be run later.
        on_event: called with progress, on the first rank: {"plan": [{"stage", "num_steps", "cost"}, …]}, {"stage",
            "step", "num_steps", …}, {"stage", "resumed_at", "num_steps"}, {"message": …} and {"measured": entry,
            "stage", "showcase"}.

    Returns:
        the report, as in report.json.

    Raises:
        ConfigError, DataError, CheckpointError: a model, data or a setting is wrong; found before anything is trained
            wherever that is possible.
        RunFolderError: the folder holds another recipe's run, or one begun in another dtype or on another device.
        Interrupted: after Ctrl-C or SIGTERM; the state is saved.
    """
    folder, machine, part = RunFolder(out), machine or Machine(), part_of(recipe, until)
    with joined(recipe, machine.device) as world:
        world.lead(folder.make)
        check_shared(world, out)
        with folder.locked() if world.is_first else nullcontext(), interrupt.deferred_interrupts():
            world.lead(lambda: folder.claim(recipe))
            if not world.lead(lambda: is_finished(folder, part)):
                world.lead(lambda: _claim_machine(folder, machine))
                names = frozenset(stage.name for stage in recipe.stages)
                with RunLog(out, names, on_event) if world.is_first else nullcontext(on_event) as logged:
                    _run_stages(recipe, part, folder, machine, logged, world)
            else:
                on_event({"message": f"{out}: is done already; choose another folder with --out to begin anew"})
            return world.lead(lambda: _reported(folder, part))


def _run_stages(
    recipe: Recipe, part: Recipe, folder: RunFolder, machine: Machine, on_event: OnEvent, world: World
) -> None:
    run, prepared = world.first(lambda: _prepared(recipe, folder, machine, on_event, len(part.stages), world))
    for index, stage in enumerate(part.stages):
        if world.any(interrupt.requested()):
            raise interrupt.Interrupted
        _run_stage(run, index, stage, prepared.get(stage.name))


def _reported(folder: RunFolder, part: Recipe) -> dict[str, Any]:
    report = build_report(folder, part)
    if part.trained:
        write_cards(folder.path)
    write_report(folder.path)  # last: it links to the pages that there are
    return report


def is_finished(folder: RunFolder, part: Recipe) -> bool:
    """Whether all stages of a recipe, or of its first part, are trained and measured."""
    return all(folder.is_done(part, stage) for stage in part.stages) and all(
        _is_measured(folder, part, stage) for stage in part.trained
    )


def _is_measured(folder: RunFolder, recipe: Recipe, stage: TrainedStage) -> bool:
    path = folder.stage(recipe.stages.index(stage), stage.name)
    return recipe.evaluation is None or (path / "eval" / "report.json").is_file()


def _claim_machine(folder: RunFolder, machine: Machine) -> None:
    """Refuses a machine on which the rest of the run would be computed in another way."""
    from open_exaone.checkpoint.folder import resolve_device, resolve_dtype

    device = resolve_device(machine.device)
    folder.claim_machine(device.type, str(resolve_dtype(machine.dtype, device)).removeprefix("torch."))


def note_kernels(machine: Machine, message: Callable[[str], None]) -> None:
    """Says so where a CPU trains without native kernels, and why: the home cannot be written, there is no compiler."""
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.kernels.build import library, status

    if resolve_device(machine.device).type == "cpu" and library() is None:
        message(f"note: trains without native kernels, which takes longer: {status()}")


def _prepared(
    recipe: Recipe, folder: RunFolder, machine: Machine, on_event: OnEvent, num_stages: int, world: World
) -> tuple[Run, dict[str, StageData]]:
    """The run, and the prepared data of all stages to train, also those behind the `num_stages` that run now: wrong or
    changed rows are found before one begins."""
    started, before = time.perf_counter(), folder.prepared()
    run = open_run(recipe, folder, machine, on_event, world)
    note_kernels(machine, run.message)
    rest = [stage for stage in recipe.stages if before is None or not folder.is_done(recipe, stage)]
    prepared = {stage.name: prepare_stage(run, stage) for stage in rest}
    questions = hashlib.sha256(repr(run.evaluation_problems).encode()).hexdigest()
    if before is None:
        shared = shared_prompts(run, prepared)  # a suite that cannot be loaded is found now
        before = {
            "seconds": time.perf_counter() - started,
            "num_examples": {name: len(data.examples) for name, data in prepared.items()},
            "epochs": {stage.name: epoch_size(run, stage, prepared[stage.name].examples) for stage in recipe.stages},
            "thinking": {
                stage.name: teaches_thinking(run, stage, prepared[stage.name].examples) for stage in recipe.stages
            },
            "shared_prompts": shared,
            "evaluation": questions,
        }
        write_json(folder.prepared_file, before)
    if before["evaluation"] != questions and recipe.evaluation is not None:
        raise DataError(
            f"evaluation.data = {', '.join(recipe.evaluation.names)}: the problems that every stage is measured on "
            "have changed since this run began: put them back, or choose another folder with --out"
        )
    on_event({"plan": [_planned(run, stage, *before["epochs"][stage.name]) for stage in recipe.stages[:num_stages]]})
    return run, prepared


def _planned(run: Run, stage: AnyStage, examples: int, tokens: int) -> dict[str, Any]:
    """A stage's steps, and about what each costs in tokens that are trained or sampled; its evaluation is shared out.

    Args:
        examples, tokens: of a pass over its data; behind a filter, as if it kept all.
    """
    are_problems = isinstance(stage, RlStage | FilterStage) or samples_own(run, stage)
    rows = Rows(examples, tokens / max(1, examples), are_problems)
    planned = plan_stage(run.recipe, run.shape, stage, rows)
    num_steps, trained, sampled = planned.num_steps, planned.train_tokens, planned.sampled_tokens
    assert num_steps is not None and trained is not None and sampled is not None  # as the rows are known
    evaluation = 0.0 if isinstance(stage, FilterStage) else _evaluation_tokens(run, stage)
    return {"stage": stage.name, "num_steps": num_steps, "cost": (trained + sampled + evaluation) / max(1, num_steps)}


def _evaluation_tokens(run: Run, stage: TrainedStage) -> float:
    """About how many tokens the measurement of a stage's model samples; 0 once it is measured."""
    if _is_measured(run.folder, run.recipe, stage):
        return 0.0
    tasks = [(len(task.problems), task.sampling) for task in evaluation_tasks(run, stage)]
    return sum(number * one.num_samples * REPLY_SHARE * one.max_new_tokens for number, one in tasks)


def _sampling(run: Run, stage: AnyStage, folder: Path) -> Serve:
    """What the other ranks do while the first one samples from the model of a folder: draw their share."""
    from open_exaone.pipeline.engine import load_fixed

    return serving(lambda: load_fixed(run, stage.name, folder), run.judge)


def _run_stage(run: Run, index: int, stage: AnyStage, data: StageData | None) -> None:
    """Trains and measures a stage, or filters its problems, each unless it is done."""
    from open_exaone.pipeline.filter import filter_stage
    from open_exaone.pipeline.stage import train_stage
    from open_exaone.pipeline.stage_measure import measure_stage

    world = run.world
    if not world.lead(lambda: run.folder.is_done(run.recipe, stage)):
        assert data is not None  # of every stage that is not done
        if isinstance(stage, FilterStage):
            start = run.start_folder(stage)
            assert start is not None  # the recipe was checked
            world.lead(lambda: filter_stage(run, stage, data), _sampling(run, stage, start))
            trim_heap()
        else:
            train_stage(run, stage, data)
    if run.recipe.evaluation is None or isinstance(stage, FilterStage):
        return
    trained = stage
    trim_heap()  # of what training held
    world.lead(
        lambda: None if _is_measured(run.folder, run.recipe, trained) else measure_stage(run, trained),
        _sampling(run, trained, run.path(trained) / "model"),
    )
    if not world.is_first:
        return
    trim_heap()
    entry = read_json(run.path(stage) / "eval" / "report.json")
    showcase = stage_showcase(run.folder, run.recipe, index)
    run.on_event({"measured": entry, "stage": stage.name, "showcase": showcase})
