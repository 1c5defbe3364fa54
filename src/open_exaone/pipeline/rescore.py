"""Judges what was stored anew: an evaluation's own samples, or replies of another harness. Nothing is generated."""

import shlex
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import write_jsonl
from open_exaone.base.records import Sample
from open_exaone.base.version import code_version
from open_exaone.evaluation.foreign import difference_rows, read_outputs, score_foreign
from open_exaone.evaluation.missing import answered
from open_exaone.evaluation.report import Entry, Report, build_report, read_report
from open_exaone.evaluation.rescore import Change, changes, rescore
from open_exaone.evaluation.rows import place_of, task_row
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.store import Store, Stored
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.evaluate import publish
from open_exaone.pipeline.faithfulness import rescore_thoughts
from open_exaone.pipeline.measure import Machine, OnEvent
from open_exaone.pipeline.report import versions
from open_exaone.pipeline.source import is_address
from open_exaone.rollout.run import check_verdicts
from open_exaone.verify.own import check_kind_of_row
from open_exaone.verify.settings import JudgeSettings

STORED = "stored"  # the engine of replies that came in a file


def rescore_folder(
    folder: Path,
    settings: JudgeSettings | None = None,
    *,
    kind: str | None = None,
    machine: Machine | None = None,
    compare: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Report:
    """Judges an evaluation's stored samples anew, without generating; its verdicts and its report are replaced.

    Args:
        settings: what judging may cost; as before if left out.
        kind: the function of your own that judged the samples, which the folder's files alone may not choose.
        compare: set the published numbers beside; they stay where they were.

    Raises:
        ConfigError: the folder is a stage's of a run.
        DataError: the folder holds no finished evaluation; a file of it is broken, names the line; or no reply of a
            task could be judged.
    """
    if (folder / "outcome.json").is_file():
        raise ConfigError(
            f"{folder}: is a run's own evaluation, from which the run's report is built: evaluate the run with "
            f"`exaone eval {shlex.quote(str(folder.parent.parent))}`, and rescore the folder that this writes"
        )
    store = Store(folder)
    with store.opened():
        stored = store.read()
        if stored.plan["model"].get("engine") == STORED:
            origin = stored.tasks[0].source
            raise DataError(f"{folder}: its replies came in {origin}: judge that file anew, into another --out")
        _check_own(stored, kind)
        settings = settings or validate(JudgeSettings, stored.plan.get("judge", {}), f"{store.plan_file}: judge")
        settings = machine.judge(settings) if machine else settings
        samples = rescore(stored.tasks, stored.samples, settings)
        for rows in samples:
            check_verdicts([sample.verdict for row in rows for sample in answered(row)])
        _report_changes(changes(stored.samples, samples), on_event)
        old = _old_report(folder)
        old_entries = {entry.name: entry for entry in old.tasks} if old else {}
        of_endpoint = is_address(str(stored.plan["model"].get("engine")))
        done = list(zip(stored.tasks, samples, strict=True))
        thoughts = rescore_thoughts(done, folder, settings, check=lambda found: _check_own(found, kind))
        entries = [_scored_anew(old_entries.get(task.name), task, rows, of_endpoint) for task, rows in done]
        report = build_report(
            entries,
            suite=str(stored.plan.get("suite")),
            model=old.model if old else {**stored.plan["model"], "notes": store.notes},
            code_version=str(stored.plan.get("code_version")),
            versions=versions(),
            started=old.started if old else datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=old.seconds if old else store.seconds,
            faithfulness=thoughts,
        )
        store.finish(stored.tasks, [sample for rows in samples for row in rows for sample in row], stored.others)
    return publish(folder, report, compare=compare or any(entry.published for entry in old_entries.values()))


def _report_changes(changed: Counter[Change], on_event: OnEvent) -> None:
    for (before, now), number in changed.most_common():
        on_event({"message": f"{number:,} verdicts changed from {before} to {now}"})
    if not changed:
        on_event({"message": "no verdict changed"})


def _check_own(stored: Stored, kind: str | None) -> None:
    """Refuses verifiers that are functions of a user's, but for the one that was named."""
    for own in {problem.verifier for task in stored.tasks for problem in task.problems} - {kind}:
        check_kind_of_row(own, f"on the command line, if it may run: --kind {own}")


def _old_report(folder: Path) -> Report | None:
    """The folder's report, where there is one that can be read."""
    try:
        return read_report(folder)
    except DataError:
        return None


def _scored_anew(old: Entry | None, task: Task, samples: Sequence[Sequence[Sample]], of_endpoint: bool) -> Entry:
    flops, not_published = old.cost.flops if old and old.cost else None, old.not_published if old else ()
    return score_task(task, samples, flops=flops, not_published=not_published, of_endpoint=of_endpoint)


def rescore_file(
    file: Path, out: Path, settings: JudgeSettings | None = None, *, kind: str = "math", compare: bool = False
) -> Report:
    """Judges replies that another harness stored, and sets its verdicts beside ours (`evaluation.foreign`).

    Args:
        out: gets what an evaluation's folder holds, and `differences.jsonl`.

    Raises:
        DataError: no format fits, or a field is wrong; names the line.
        RunFolderError: `out` is something else's.
    """
    stored = read_outputs(file, kind)
    samples = rescore([item.task for item in stored], [item.samples for item in stored], settings)
    store = Store(out)
    model = {"engine": STORED, "model": file.name}
    tasks = [task_row(item.task) for item in stored]
    asked = {"suite": file.stem, "model": model, "code_version": code_version(), "tasks": tasks}
    flat = [sample for rows in samples for row in rows for sample in row]
    with store.opened():
        store.claim(asked, {place_of(sample): sample.key for sample in flat})
        store.finish([item.task for item in stored], flat)
        pairs = list(zip(stored, samples, strict=True))
        differences = (row for item, rows in pairs for row in difference_rows(item.task, rows, item.theirs))
        write_jsonl(out / "differences.jsonl", differences)
        report = build_report(
            [score_foreign(item, rows) for item, rows in pairs],
            suite=file.stem,
            model=model,
            code_version=code_version(),
            versions=versions(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    return publish(out, report, compare=compare)
