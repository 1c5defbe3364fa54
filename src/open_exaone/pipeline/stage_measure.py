"""Measures the model that a stage leaves, on problems of the recipe or on a suite."""

import time

from open_exaone.base.files import write_json
from open_exaone.base.machine import peak_rss_bytes
from open_exaone.checkpoint.folder import load_model, resolve_device
from open_exaone.evaluation.plan import plan
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.suite import load_suite
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.engine import open_fixed
from open_exaone.pipeline.measure import own_tasks, stage_entry, thinks_after
from open_exaone.pipeline.start import Run
from open_exaone.rollout.providers.local import weights_hash
from open_exaone.train.config import AnyStage


def measure_stage(run: Run, stage: AnyStage) -> None:
    """Measures a stage's `model/` and leaves `eval/`; what was measured before a cut is not measured again."""
    started, path = time.perf_counter(), run.path(stage)
    model = load_model(path / "model", dtype=run.machine.dtype, device=resolve_device(run.machine.device))
    provider = open_fixed(run, stage.name, model, path / "model", weights_hash(path / "model"))
    done = run_tasks(
        _tasks(run, stage),
        provider,
        Store(path / "eval"),
        run.judge,
        suite=run.recipe.name,
        label=f"{stage.name}: measure",
        on_event=run.on_event,
    )
    outcome = {"seconds": time.perf_counter() - started, "peak_rss_bytes": peak_rss_bytes()}
    write_json(path / "eval" / "outcome.json", outcome)
    entries = [score_task(*pair) for pair in done]
    if run.recipe.evaluation is not None and run.recipe.evaluation.data is not None:
        samples, greedy = entries
        write_json(path / "eval" / "report.json", stage_entry(samples, greedy))
    else:
        rows = [stage_entry(entry) for entry in entries]
        write_json(path / "eval" / "report.json", {**rows[0], "tasks": rows})


def _tasks(run: Run, stage: AnyStage) -> list[Task]:
    config, thinking, context = run.recipe.evaluation, thinks_after(run.recipe, stage), run.shape.max_positions
    assert config is not None  # the caller has looked
    if config.data is not None:
        return own_tasks(run.evaluation_problems(), config, config.data, context=context, thinking=thinking)
    given = {name: getattr(config, name) for name in config.model_fields_set}
    return plan(
        load_suite(str(config.suite)),
        rows=config.rows,
        limit=config.limit,
        num_samples=config.num_samples,
        modes=None if config.mode is None else ("reasoning" if thinking else "non-reasoning",),
        seed=given.get("seed"),
        max_new_tokens=config.max_new_tokens,
        temperature=given.get("temperature"),
        top_p=given.get("top_p"),
        settings=run.judge,
    )
