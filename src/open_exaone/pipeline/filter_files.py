"""The accuracy filter for any model and any files of problems: what `exaone data filter` does."""

from typing import Any

from open_exaone.pipeline.filter import KEPT, PASS_RATES, filter_problems
from open_exaone.pipeline.folder import FILTER_FILE
from open_exaone.pipeline.sampled import REPORT, SAMPLES, Asking, open_asked
from open_exaone.present.filter_page import write_filter_page
from open_exaone.train.config import FilterConfig

NAME = "filter"  # what events and errors call it
FILES = frozenset({KEPT, PASS_RATES, FILTER_FILE, REPORT, SAMPLES})  # all that is opened in the folder


def filter_files(asking: Asking, config: FilterConfig) -> dict[str, Any]:
    """Samples replies to problems, judges them and writes what is kept; the same call resumes one that was cut.

    Other ends, or another number of samples, in the same folder take the samples that are there. The folder gets
    kept.jsonl, pass_rates.jsonl, filter.json, report.html and samples/.

    Returns:
        what filter.json holds.

    Raises:
        ConfigError: there is no such model, stage, engine or verifier.
        DataError: a row is no problem, nothing is kept, or no sample could be generated or judged.
        RunFolderError: the folder holds something else, or samples of another model.
        Interrupted: after Ctrl-C or SIGTERM; what was generated is kept.
    """
    modes = [(NAME, config.thinking, config.to_sampling(seed=asking.seed))]
    tasks, provider = open_asked(asking, modes, name=NAME, files=FILES)
    found = filter_problems(
        tasks, config, asking.out, provider, asking.judge, name=NAME, on_event=asking.on_event, has_flags=True
    )
    write_filter_page(asking.out, f"Kept for {provider.identity['model']}", found)
    return found
