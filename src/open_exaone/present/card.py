"""card.md: the model card of a run's last model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.files import write_text
from open_exaone.base.printable import printable
from open_exaone.base.text import count
from open_exaone.present import formatting
from open_exaone.present.stages import Entry, by_benchmark, closing_rows, read_report, training_rows

FROM_SCRATCH = (
    "This model was trained from random weights by Open-EXAONE, an open implementation of the EXAONE Deep and "
    "EXAONE 4.0 recipes that is independent of LG AI Research. It is not a model of LG's, holds no weights of LG's, "
    "and does not bear the EXAONE name; only its architecture follows the EXAONE 4.0 report (arXiv 2507.11407)."
)
POST_TRAINED = (
    "This model was trained by Open-EXAONE from `{source}`. Open-EXAONE is independent of LG AI Research; the name "
    "EXAONE is LG's."
)
LIMITS_FROM_SCRATCH = (
    "It knows what it was trained on and little else.",
    "A score on generated problems says nothing about any public benchmark.",
)
LIMITS = (
    "The intervals cover the choice of problems and samples for this one run; another seed trains another model.",
    "It may state a wrong answer with a fluent thought, and a thought need not be how the answer came about.",
)
LICENCE_FROM_SCRATCH = (
    "Open-EXAONE's code is under Apache-2.0. The weights began as random numbers, so LG's model licences do not apply; "
    "the licences of the training data may."
)
LICENCE_POST_TRAINED = (
    "Open-EXAONE's code is under Apache-2.0. The weights derive from `{source}` and stay under its licence; LG's "
    "published EXAONE models are for non-commercial use."
)


def write_card(run_folder: Path) -> Path:
    """Writes `card.md` from `report.json`; returns its path.

    Raises:
        DataError: report.json is missing, is not JSON, or has no stage.
    """
    path = run_folder / "card.md"
    write_text(path, render_card(read_report(run_folder)))
    return path


def render_card(report: dict[str, Any]) -> str:
    """The card as Markdown. `report["model"]["source"]`, where set, names the checkpoint that training began from."""
    model = report.get("model") or {}
    source = model.get("source")
    about, licence = (POST_TRAINED, LICENCE_POST_TRAINED) if source else (FROM_SCRATCH, LICENCE_FROM_SCRATCH)
    limits = (*(() if source else LIMITS_FROM_SCRATCH), *(LIMITS if by_benchmark(report) else LIMITS[1:]))
    sections = [
        "# A model trained with Open-EXAONE",
        f"{about.format(source=_cell(source))}\n\nRecipe: `{_cell(report.get('recipe', 'unknown'))}`.",
        "## Model",
        _table(
            ["", ""], [[formatting.words(str(name)), formatting.setting(name, value)] for name, value in model.items()]
        )
        or "Not recorded.",
        "## Training",
        _training(report),
        "## Results",
        _results(report),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits),
        "## Licence",
        licence.format(source=_cell(source)),
        "## Versions",
        _table(["", ""], [[str(name), str(version)] for name, version in (report.get("versions") or {}).items()])
        or "Not recorded.",
    ]
    return "\n\n".join(sections) + "\n"


def _training(report: Mapping[str, Any]) -> str:
    facts = [f"seed {report['seed']}" if "seed" in report else "", f"settings `{report.get('config_hash', 'unknown')}`"]
    if report.get("seconds"):
        facts.append(f"{formatting.duration(report['seconds'])} in all, evaluation included")
    if report.get("peak_rss_bytes"):
        facts.append(f"{formatting.size(report['peak_rss_bytes'])} memory at most")
    return f"{_table(*training_rows(report))}\n\nTokens are non-padding, prompt included. {_sentence(facts)}"


def _results(report: dict[str, Any]) -> str:
    benchmarks = by_benchmark(report)
    if not benchmarks:
        return "This run has no evaluation."
    parts = [_table(*closing_rows(report))]
    for entries in benchmarks.values():
        parts += _last_result(entries[-1])
    return "\n\n".join(part for part in parts if part)


def _last_result(last: Entry) -> tuple[str, str, str]:
    """On what the last stage was measured, and its score on each family of these problems."""
    per_task = [
        [formatting.words(task), formatting.percent(score["pass_at_1"]), formatting.interval(score.get("ci95"))]
        for task, score in sorted((last.get("per_task") or {}).items())
    ]
    name = f" of `{_cell(last['measured_on'])}`" if last.get("measured_on") else ""
    return (
        f"Measured on {count(last['num_problems'], 'problem')}{name}; intervals are at 95%, clustered by problem."
        if last.get("num_problems")
        else "",
        f"After `{_cell(last['name'])}`, by family:" if per_task else "",
        _table(["family", "pass@1", "95% interval"], per_task),
    )


def _sentence(facts: Sequence[str]) -> str:
    text = "; ".join(fact for fact in facts if fact)
    return f"{text[:1].upper()}{text[1:]}."


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; empty text without rows."""
    if not rows:
        return ""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    """Text that cannot end a table cell, open a tag or a code span."""
    text = " ".join(printable(value).split())
    return text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")
