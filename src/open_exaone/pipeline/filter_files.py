"""The accuracy filter for any model and any files of problems: what `exaone data filter` does."""

from pathlib import Path
from typing import Any

from open_exaone.data.config import DataConfig
from open_exaone.pipeline.evaluate import Choices
from open_exaone.pipeline.filter import KEPT, PASS_RATES, filter_problems
from open_exaone.pipeline.folder import FILTER_FILE
from open_exaone.pipeline.measure import Machine, OnEvent
from open_exaone.pipeline.sampled import REPORT, SAMPLES, judging_of, open_asked
from open_exaone.present.filter_page import write_filter_page
from open_exaone.train.config import FilterConfig
from open_exaone.verify.settings import JudgeSettings

NAME = "filter"  # what events and errors call it
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
    modes = [(NAME, config.thinking, config.to_sampling(top_p=1.0, seed=seed))]
    tasks, provider = open_asked(
        source, data, out, modes, engine=engine, machine=machine, name=NAME, files=FILES, on_event=on_event
    )
    judge = machine.judge(settings or judging_of(source))
    found = filter_problems(tasks, config, out, provider, judge, name=NAME, on_event=on_event)
    write_filter_page(out, f"Kept for {provider.identity['model']}", found)
    return found
