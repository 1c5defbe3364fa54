"""Has a model answer after altered thoughts, in a folder of its evaluation's; or judges those answers anew."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError
from open_exaone.evaluation.faithfulness import (
    Measured,
    ThoughtUse,
    altered_tasks,
    thought_givers,
    thought_use,
    with_greedy,
)
from open_exaone.evaluation.rescore import rescore
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.store import Store, Stored
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.measure import OnEvent
from open_exaone.rollout.provider import Provider
from open_exaone.verify.settings import JudgeSettings

FOLDER = "faithfulness"  # in an evaluation's


def with_greedy_replies(tasks: Sequence[Task]) -> list[Task]:
    """The tasks, with a greedy reply to each problem that is asked in reasoning mode.

    Raises:
        ConfigError: none is.
    """
    if not any(task.thinking for task in tasks):
        raise ConfigError("--faithfulness: nothing is asked in reasoning mode, so no reply has a thought: leave it out")
    return with_greedy(tasks)


def measure_thoughts(
    done: Sequence[Measured],
    provider: Provider,
    folder: Path,
    settings: JudgeSettings,
    *,
    suite: str,
    label: str = "altered thoughts",
    limit: int | None = None,
    on_event: OnEvent = lambda event: None,
) -> list[ThoughtUse]:
    """Has the model answer after the thoughts of its greedy replies, altered; what is there is not asked again.

    Args:
        done: what was measured; its tasks of greedy replies in reasoning mode count.
        folder: the evaluation's.
        limit: take so many problems of each task, the first ones.

    Raises:
        ConfigError: the provider continues no replies.
        DataError, EndpointError, RunFolderError, Interrupted: as `evaluation.run.run_tasks`.
    """
    givers = [(replace(task, problems=task.problems[:limit]), rows[:limit]) for task, rows in thought_givers(done)]
    by_words = provider.tokenizer is None
    altered = [made for pair in givers for made in altered_tasks(*pair, provider.tokenizer)]
    store = Store(folder / FOLDER, renews=True)
    asked: dict[str, Any] = {"suite": f"{suite}: {FOLDER}", "label": label, "on_event": on_event}
    answered = run_tasks(altered, provider, store, settings, **asked) if altered else []
    return [thought_use(*pair, answered, by_words=by_words) for pair in givers]


def seconds_of(folder: Path) -> float:
    """How long generating the answers after altered thoughts took."""
    return Store(folder / FOLDER).seconds


def rescore_thoughts(
    done: Sequence[Measured], folder: Path, settings: JudgeSettings, *, check: Callable[[Stored], object]
) -> list[ThoughtUse]:
    """The same of what a folder holds, judged anew; nothing where it holds none.

    Args:
        done: the evaluation's own tasks and samples, judged anew.
        check: raises where the stored samples may not be judged.

    Raises:
        DataError: a file is broken; names the line.
    """
    store = Store(folder / FOLDER)
    if not store.plan_file.is_file():
        return []
    with store.opened():
        stored = store.read()
        check(stored)
        samples = rescore(stored.tasks, stored.samples, settings)
        store.finish(stored.tasks, [sample for rows in samples for row in rows for sample in row], stored.others)
    answered = list(zip(stored.tasks, samples, strict=True))
    by_words = stored.plan["model"].get("weights") is None
    return [thought_use(*pair, answered, by_words=by_words) for pair in thought_givers(done)]
