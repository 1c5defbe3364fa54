"""The accuracy filter for any model and any files of problems: what `exaone data filter` does."""

from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.links import own_folder
from open_exaone.base.text import count
from open_exaone.data.config import DataConfig
from open_exaone.data.document import prompt_ids
from open_exaone.data.prepare import check_verifiers
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.evaluate import Choices, is_address, open_model
from open_exaone.pipeline.filter import KEPT, PASS_RATES, SAMPLES, filter_problems
from open_exaone.pipeline.folder import FILTER_FILE, rendering_time
from open_exaone.pipeline.measure import Machine, OnEvent, find_model
from open_exaone.pipeline.problems import read_problems
from open_exaone.present.filter_page import write_filter_page
from open_exaone.rollout.provider import Provider
from open_exaone.train.config import FilterConfig
from open_exaone.verify.settings import JudgeSettings

NAME = "filter"  # what events and errors call it
REPORT = "report.html"
FILES = frozenset({KEPT, PASS_RATES, FILTER_FILE, REPORT, SAMPLES})  # all that is opened in the folder


def filter_files(
    source: str,
    data: DataConfig,
    config: FilterConfig,
    out: Path,
    *,
    engine: Choices,
    seed: int = 0,
    machine: Machine | None = None,
    settings: JudgeSettings | None = None,
    on_event: OnEvent = lambda event: None,
) -> dict[str, Any]:
    """Samples replies to problems, judges them and writes what is kept; the same call resumes one that was cut.

    Other ends, or another number of samples, in the same folder take the samples that are there.

    Args:
        source: a run's folder, a model's folder, a name on the hub, or an endpoint's address.
        data: the problems; all are asked in `config.mode`, whatever their sources' modes.
        out: gets kept.jsonl, pass_rates.jsonl, filter.json, report.html and samples/.
        engine: the stage, the engine and its options; its other fields are not read.
        seed: of the samples.

    Returns:
        what filter.json holds.

    Raises:
        ConfigError: there is no such model, stage, engine or verifier.
        DataError: a row is no problem, nothing is kept, or no sample could be had or judged.
        RunFolderError: the folder holds something else, or samples of another model.
        Interrupted: after Ctrl-C or SIGTERM; what was generated is kept.
    """
    machine = machine or Machine()
    check_verifiers(data)
    problems = read_problems(data, NAME)
    if not problems:
        raise DataError("the sources have no problem")
    _check_folder(out)
    provider = open_model(source, engine, machine)
    store = Store(out / SAMPLES)
    with store.opened():
        if provider.tokenizer is not None:
            provider.tokenizer.rendered_at = rendering_time(store.folder)
    sampling = config.to_sampling(top_p=1.0, seed=seed)
    task = Task(NAME, NAME, tuple(problems), sampling, config.thinking)
    task = _fitting(task, provider, _context(source, engine), on_event)
    judge = machine.judge(settings or JudgeSettings())
    found = filter_problems([task], config, out, provider, judge, name=NAME, on_event=on_event)
    write_filter_page(out, f"Kept for {provider.identity['model']}", found)
    return found


def _check_folder(out: Path) -> None:
    """Leaves what is not a filter's alone."""
    is_ours = (out / SAMPLES).is_dir() and not (out / "recipe.toml").exists()
    if not is_ours and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunFolderError(f"{out}: is not empty and holds no filter: choose another --out")
    if out.is_dir():
        own_folder(out, RunFolderError, names=FILES)


def _context(source: str, engine: Choices) -> int | None:
    """The most tokens that the model takes; None of an endpoint, which refuses what is too long itself."""
    if is_address(source) or is_address(engine.engine):
        return None
    from open_exaone.checkpoint.folder import load_config

    return load_config(find_model(Path(source), engine.stage)[0]).max_positions


def _fitting(task: Task, provider: Provider, context: int | None, on_event: OnEvent) -> Task:
    """The task, less the problems whose prompts leave the reply too little of the context."""
    if provider.tokenizer is None or context is None:
        return task
    room = context - task.sampling.max_new_tokens
    lengths = map(len, prompt_ids(task.problems, provider.tokenizer, thinking=task.thinking))
    fitting = tuple(problem for problem, length in zip(task.problems, lengths, strict=True) if length <= room)
    if not fitting:
        raise DataError(
            f"no prompt fits: the model's context of {context:,} tokens less {task.sampling.max_new_tokens:,} for the "
            f"reply leaves {max(0, room):,}: lower --max-new-tokens"
        )
    if number := len(task.problems) - len(fitting):
        on_event({"message": f"{count(number, 'problem')} left out: the prompt has more than {room:,} tokens"})
    return Task(task.name, task.benchmark, fitting, task.sampling, task.thinking)
