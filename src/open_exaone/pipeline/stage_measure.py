"""Measures the model that a stage leaves, on problems of the recipe or on a suite."""

import time
from collections.abc import Sequence

from open_exaone.base.errors import DataError
from open_exaone.base.files import write_json
from open_exaone.base.machine import peak_rss_bytes
from open_exaone.evaluation.faithfulness import Measured, with_greedy
from open_exaone.evaluation.missing import counted_notes, refuse_missing
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.engine import load_fixed
from open_exaone.pipeline.faithfulness import FOLDER, measure_thoughts
from open_exaone.pipeline.measure import stage_report
from open_exaone.pipeline.prepare import evaluation_tasks
from open_exaone.pipeline.start import Run
from open_exaone.rollout.provider import Provider
from open_exaone.train.config import TrainedStage


def measure_stage(run: Run, stage: TrainedStage) -> None:
    """Measures a stage's `model/` and leaves `eval/`; what was measured before a cut is not measured again.

    Raises:
        DataError: a sample has no reply, none could be judged, or a file is broken.
    """
    started, path = time.perf_counter(), run.path(stage)
    provider = load_fixed(run, stage.name, path / "model")
    store = Store(path / "eval")
    done = run_tasks(
        _tasks(run, stage),
        provider,
        store,
        run.judge,
        suite=run.recipe.name,
        label=f"{stage.name}: measure",
        on_event=run.on_event,
    )
    refuse_missing([sample for _, rows in done for row in rows for sample in row], provider.failure)
    _measure_thoughts(run, stage, done, provider)
    notes = counted_notes(store.notes, done)
    for note in notes:
        run.message(f"note: {note}")
    seconds = time.perf_counter() - started
    outcome = {"seconds": seconds, "peak_rss_bytes": peak_rss_bytes(), "notes": notes}
    write_json(path / "eval" / "outcome.json", outcome)
    entries = [score_task(*pair) for pair in done]
    has_suite = stage.suite is not None or run.recipe.evaluation is None or run.recipe.evaluation.suite is not None
    write_json(path / "eval" / "report.json", stage_report(entries, has_suite=has_suite))


def _asks_for_thoughts(run: Run, stage: TrainedStage) -> bool:
    """Whether answers after altered thoughts are measured: of the last stage, where it reasons."""
    config = run.recipe.evaluation
    return config is not None and config.faithfulness is not None and stage.name == run.recipe.trained[-1].name


def _tasks(run: Run, stage: TrainedStage) -> list[Task]:
    """What the stage is measured on; the thoughts that are altered are those of greedy replies."""
    tasks = evaluation_tasks(run, stage)
    return with_greedy(tasks) if _asks_for_thoughts(run, stage) else tasks


def _measure_thoughts(run: Run, stage: TrainedStage, done: Sequence[Measured], provider: Provider) -> None:
    """Of the last stage, where the evaluation asks for it, leaves `eval/faithfulness/`."""
    config, folder = run.recipe.evaluation, run.path(stage) / "eval"
    if config is None or not _asks_for_thoughts(run, stage):
        return
    wanted = [pair for pair in done if config.suite is not None or pair[0].benchmark == config.names[0]]
    uses = measure_thoughts(
        wanted,
        provider,
        folder,
        run.judge,
        suite=run.recipe.name,
        label=f"{stage.name}: altered thoughts",
        limit=config.faithfulness,
        on_event=run.on_event,
    )
    if any(use.missing for use in uses):
        raise DataError(f"replies after altered thoughts could not be generated: {provider.failure}")
    write_json(folder / FOLDER / "report.json", {"tasks": [use.model_dump(mode="json") for use in uses]})
