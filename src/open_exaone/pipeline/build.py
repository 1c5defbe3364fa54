"""SFT data from a teacher's responses: what `exaone data build` does.

A build's folder holds `samples/` (every judged response), `sft.jsonl` (rows of the kept ones), `dropped.jsonl` (each of
the others, with its reason), `sft.toml` (a recipe that trains on the rows), `report.html` and, once all is done,
`build.json`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from open_exaone.base.errors import DataError
from open_exaone.base.files import write_json, write_jsonl, write_text
from open_exaone.base.machine import peak_rss_bytes
from open_exaone.base.printable import printable
from open_exaone.base.records import MODES, NON_REASONING, REASONING, Problem
from open_exaone.base.text import count
from open_exaone.base.version import code_version
from open_exaone.checkpoint.licence import Licence, licence_by_name, licence_of, warn_before_generating
from open_exaone.data.config import DataOptions
from open_exaone.data.lengths import ExampleLength, LengthStatistics, lengths
from open_exaone.pipeline.evaluate import Choices
from open_exaone.pipeline.folder import BUILD_FILE
from open_exaone.pipeline.measure import OnEvent, find_model
from open_exaone.pipeline.responses import SFT, BuildConfig, Choice, Reason, row_of, select
from open_exaone.pipeline.sampled import REPORT, SAMPLES, Asking, Drawn, draw, open_asked
from open_exaone.pipeline.source import is_address
from open_exaone.present.build_page import write_build_page
from open_exaone.present.built import licence_text, sentence
from open_exaone.verify.language import LANGUAGES

NAME = "build"  # what events and errors call it
DROPPED, RECIPE = "dropped.jsonl", "sft.toml"
FILES = frozenset({SFT, DROPPED, BUILD_FILE, RECIPE, REPORT, SAMPLES})  # all that is opened in the folder
_MAX_REPEATS = DataOptions.model_fields["max_repeats"].default
Row = dict[str, Any]


class Responses(NamedTuple):
    """The responses to one problem in one mode."""

    problem: Problem
    thinking: bool
    choices: list[Choice]


def build_files(asking: Asking, config: BuildConfig) -> tuple[Row, LengthStatistics]:
    """Samples a teacher's responses, judges them and writes rows of those that are kept; the same call resumes.

    Other choices, or another number of samples, in the same folder take the samples that are there. The folder gets
    sft.jsonl, dropped.jsonl, sft.toml, build.json, report.html and samples/.

    Returns:
        what build.json holds, and how long the kept responses are.

    Raises:
        ConfigError: there is no such model, stage, engine or verifier.
        DataError: a row is no problem, nothing is kept, or no sample could be generated or judged.
        RunFolderError: the folder holds something else, or samples of another model.
        Interrupted: after Ctrl-C or SIGTERM; what was generated is kept.
    """
    sampling = config.to_sampling(seed=asking.seed)
    modes = [(mode, mode == REASONING, sampling) for mode in config.modes]
    tasks, provider = open_asked(asking, modes, name=NAME, files=FILES)
    teacher = provider.identity["model"]
    licence = _licence(asking.source, asking.engine, teacher)
    drawn = draw(tasks, provider, asking.out, asking.judge, name=NAME, on_event=asking.on_event)
    found = {
        "teacher": dict(provider.identity),
        "licence": None if licence is None else asdict(licence),
        "seed": asking.seed,
        "settings": config.model_dump(mode="json"),
        "num_missing": drawn.num_missing,
        "sample_seconds": drawn.seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "code_version": code_version(),
        "notes": drawn.notes,
    }
    return _write(asking.out, _chosen(drawn, config, teacher), config, found, asking.on_event)


def _write(
    out: Path, responses: Sequence[Responses], config: BuildConfig, found: Row, on_event: OnEvent
) -> tuple[Row, LengthStatistics]:
    """Writes all files but the samples.

    Args:
        found: what build.json says besides the counts.
    """
    found = {**found, **summary(responses)}
    for outdated in (BUILD_FILE, RECIPE, SFT, REPORT):  # of other choices
        (out / outdated).unlink(missing_ok=True)
    write_jsonl(out / DROPPED, _dropped_rows(responses))
    rows = [
        row_of(one.problem, one.thinking, choice.sample, found["teacher"]["model"])
        for one in responses
        for choice in one.choices
        if choice.reason is None
    ]
    if not rows:
        raise DataError(f"{out}: {_why_nothing(found)}")
    write_jsonl(out / SFT, rows)
    stats = lengths(_lengths(responses))
    notes = [*_mixture_notes(stats, config), *_language_notes(responses)]
    for note in notes:
        on_event({"message": f"note: {note}"})
    found |= {"lengths": stats.as_json(), "notes": [*found["notes"], *notes]}
    write_text(out / RECIPE, recipe_text(out / SFT, found, stats))
    write_build_page(out, found, stats)
    write_json(out / BUILD_FILE, found)
    on_event({"message": f"{NAME}: {sentence(found)}"})
    return found, stats


def _licence(source: str, engine: Choices, teacher: str) -> Licence | None:
    """The EXAONE licence that a teacher is under; warns of it. `open_model` warns of a folder's."""
    if not (is_address(source) or is_address(engine.engine)):
        return licence_of(find_model(Path(source), engine.stage)[0])
    licence = licence_by_name([teacher])
    warn_before_generating(licence, teacher)
    return licence


def _chosen(drawn: Drawn, config: BuildConfig, teacher: str) -> list[Responses]:
    """All responses, problem by problem in the order of the sources, in reasoning mode first."""
    by_problem: dict[str, list[Responses]] = {}
    for task, samples in drawn.done:
        for problem, row in zip(task.problems, samples, strict=True):
            one = Responses(problem, task.thinking, select(problem, task.thinking, row, config, teacher))
            by_problem.setdefault(problem.id, []).append(one)
    return [one for of_problem in by_problem.values() for one in of_problem]


def _dropped_rows(responses: Sequence[Responses]) -> list[Row]:
    """Each dropped response; its text is in samples/."""
    return [
        {
            "problem": one.problem.id,
            "domain": one.problem.task,
            "mode": MODES[one.thinking],
            "response": choice.sample.index,
            "reason": str(choice.reason),
            "why": choice.why,
        }
        for one in responses
        for choice in one.choices
        if choice.reason is not None
    ]


def summary(responses: Sequence[Responses]) -> Row:
    """Counts of all responses, and of each domain and mode; of each reason, the first that was dropped."""
    examples: dict[str, Row] = {}
    for row in _dropped_rows(responses):
        examples.setdefault(row["reason"], row)
    return {
        **_part(responses),
        "examples": {reason: examples[reason] for reason in Reason if reason in examples},
        "per_domain": _parts(responses, lambda one: one.problem.task),
        "per_mode": _parts(responses, lambda one: MODES[one.thinking]),
    }


def _parts(responses: Sequence[Responses], name_of: Any) -> dict[str, Row]:
    names = sorted({name_of(one) for one in responses})
    return {name: _part([one for one in responses if name_of(one) == name]) for name in names}


def _part(responses: Sequence[Responses]) -> Row:
    reasons = Counter(choice.reason for one in responses for choice in one.choices)
    kept = [one for one in responses if any(choice.reason is None for choice in one.choices)]
    return {
        "num_problems": len({one.problem.id for one in responses}),
        "num_problems_kept": len({one.problem.id for one in kept}),
        "num_responses": reasons.total(),
        "num_kept": reasons[None],
        "dropped": {str(reason): reasons[reason] for reason in Reason if reasons[reason]},
    }


def _lengths(responses: Sequence[Responses]) -> list[ExampleLength]:
    """The kept responses, as the teacher counts tokens."""
    return [
        ExampleLength(
            one.problem.task,
            MODES[one.thinking],
            choice.sample.generation.num_tokens,
            choice.sample.generation.num_thought_tokens,
            max(0, choice.sample.generation.num_tokens - choice.sample.generation.num_thought_tokens),
        )
        for one in responses
        for choice in one.choices
        if choice.reason is None
    ]


def _mixture_notes(stats: LengthStatistics, config: BuildConfig) -> list[str]:
    """Why a recipe cannot mix both modes as `reasoning_ratio` says, or not with all responses in each epoch."""
    if config.mode != "both":
        return []
    wanted, have = config.reasoning_ratio, stats.reasoning_ratio
    if have is None:
        there = {group.mode for group in stats.modes}
        lacking = [mode for mode in (REASONING, NON_REASONING) if mode not in there]
        return [f"no response in mode {lacking[0]!r} is kept: {RECIPE} has no reasoning_ratio, as it cannot be reached"]
    small, repeats = (REASONING, wanted / have) if wanted > have else (NON_REASONING, have / wanted)
    if repeats <= _MAX_REPEATS:
        return []
    return [
        f"reasoning : non-reasoning is {have:.2g} : 1 in the teacher's tokens; at {wanted:g} : 1 an epoch repeats the "
        f"{small} responses {_MAX_REPEATS:g} times and holds {_MAX_REPEATS / repeats:.0%} of the others: "
        "raise --samples and --keep"
    ]


def _language_notes(responses: Sequence[Responses]) -> list[str]:
    others = {one.problem.id: one.problem.language for one in responses if one.problem.language not in LANGUAGES}
    if not others:
        return []
    named = ", ".join(sorted(set(others.values())))
    return [f"{count(len(others), 'problem')} in {named}: the language of their responses is not checked"]


def recipe_text(rows: Path, found: Mapping[str, Any], stats: LengthStatistics) -> str:
    """A recipe that trains on the rows; the two modes are mixed by its `reasoning_ratio`, in the student's tokens."""
    warning = licence_text(found)
    ratio = {"reasoning_ratio": found["settings"]["reasoning_ratio"]} if stats.reasoning_ratio else {}
    columns = ["mode", "problem", "response", "teacher", "verdict"]
    source = {"path": str(rows.absolute()), "format": "messages", "fields": {"domain": "domain"}, "ignore": columns}
    recipe = {
        "name": "sft",
        "model": "MODEL",
        "data": {"sft": {**ratio, "sources": [source]}},
        "stages": [
            {
                "kind": "sft",
                "name": "sft",
                "data": "sft",
                "num_epochs": 1.0,
                "optimizer": {"kind": "adamw", "learning_rate": 1e-5},
            }
        ],
    }
    head = [
        f"# SFT on the responses of {' '.join(printable(found['teacher']['model']).split())}, by `exaone data build`.",
        *([f"# {warning}"] if warning else []),
        "# `model` is what is trained: a folder, a run, or owner/name on the hub. Epochs and learning rate are ours.",
    ]
    return "\n".join(head) + "\n" + tomli_w.dumps(recipe)


def _why_nothing(found: Row) -> str:
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in found["dropped"].items())
    return (
        f"none of {count(found['num_responses'], 'response')} is kept ({dropped}): {DROPPED} has each with its reason; "
        "ask a better teacher, give it more tokens, or easier problems"
    )
