"""What the Hugging Face hub reads of a card: the metadata block of card.md, and `.eval_results/*.yaml`."""

import re
from collections.abc import Mapping
from typing import Any

from open_exaone.base.hub import is_hub_name
from open_exaone.base.printable import printable
from open_exaone.base.records import mode_label
from open_exaone.base.text import count
from open_exaone.present import formatting
from open_exaone.present.card import interval, last_results, result_name
from open_exaone.present.card_facts import Facts, Result

MAX_TEXT = 300  # characters of a foreign text in the metadata
LG_LICENCE_NAME = "exaone"


def metadata_block(facts: Facts) -> str:
    """The YAML between two lines of `---` at the head of card.md."""
    from huggingface_hub import ModelCardData

    data = ModelCardData(**{**_metadata(facts), **_measured(facts)})
    return f"---\n{data.to_yaml()}\n---"


def _metadata(facts: Facts) -> dict[str, Any]:
    is_own = facts.origin.startswith("trained")
    languages = sorted({language for result in facts.results for language in result.languages if _is_code(language)})
    found: dict[str, Any] = {
        "license": facts.licence.id,
        "language": languages or None,
        "base_model": facts.base.partition("@")[0] if facts.base and is_hub_name(facts.base) else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["reasoning", *(["open-exaone"] if is_own else []), *([facts.family] if facts.family else [])],
    }
    if facts.licence.id == "other":
        name = re.sub(r"[^a-z0-9.-]+", "-", facts.licence.name.lower()).strip("-.")[:60]
        found["license_name"] = LG_LICENCE_NAME if "EXAONE" in facts.licence.name else name or "not-stated"
        files = [file.name for file in facts.files if file.name.startswith(("LICENSE", "LICENCE"))]
        found["license_link"] = files[0] if files else None
    return {name: value for name, value in found.items() if value is not None}


def _is_code(language: str) -> bool:
    return re.fullmatch(r"[a-z]{2,3}", language) is not None


def _measured(facts: Facts) -> dict[str, Any]:
    """The results as the older model index has them: one for each benchmark in each mode."""
    from huggingface_hub import EvalResult

    found = [
        EvalResult(
            task_type="text-generation",
            dataset_type=result.hub or "generated",
            dataset_name=_text(f"{result_name(result)} ({mode_label(result.mode)})"),
            dataset_config=_text(f"{result_name(result)} {result.mode}"),  # tells apart what shares a data set
            dataset_split=result.hub_split,
            metric_type="pass@1",
            metric_name=_text(_metric(result)),
            metric_value=round(100 * result.value.value, 2),
        )
        for result in last_results(facts)
    ]
    return {"model_name": _text(facts.name), "eval_results": found} if found else {}


def _metric(result: Result) -> str:
    bounds = f", 95% interval {interval(result)}" if result.low and result.high else ", no interval"
    n = count(int(result.num_problems.value), "problem") if result.num_problems else "number of problems not stated"
    k = f" x {count(int(result.k.value), 'sample')}" if result.k else ""
    return f"pass@1 in percent{bounds}, {n}{k}"


def eval_results(facts: Facts, source_url: str | None = None) -> dict[str, list[dict[str, Any]]]:
    """The files of `.eval_results/` by name: one for each measurement of a benchmark whose data set the hub has.

    The value is pass@1 in percent. A benchmark that was measured in part, or whose rows are the user's own, has none.

    Args:
        source_url: where the measurement can be read; the hub asks for it where a source is named.
    """
    files: dict[str, list[dict[str, Any]]] = {}
    for result in last_results(facts):
        if result.hub is None or not result.is_whole:
            continue
        name = re.sub(r"[^a-z0-9]+", "_", f"{result.benchmark} {result.setting}".lower()).strip("_")
        name += "" if result.mode == "reasoning" else f"_{result.mode.replace(' ', '_')}"
        entry: dict[str, Any] = {
            "dataset": {"id": result.hub, "task_id": _text(result.benchmark)},
            "value": round(100 * result.value.value, 2),
            "date": result.date[:10] or None,
            "source": {"url": source_url, "name": "Open-EXAONE"} if source_url else None,
            "notes": _text(_notes(result)),
        }
        files.setdefault(f"{name}.yaml", []).append({key: value for key, value in entry.items() if value is not None})
    return files


def _notes(result: Result) -> str:
    named = {"temperature": result.temperature, "top-p": result.top_p}
    settings = [f"{name} {figure.value:g}" for name, figure in named.items() if figure]
    settings += [f"at most {result.max_new_tokens.value:,} tokens a reply"] if result.max_new_tokens else []
    own = f"exaone eval {result.code_version}" if result.code_version else "exaone eval"
    return "; ".join(filter(None, [f"{mode_label(result.mode)} mode", result.setting, _metric(result), *settings, own]))


def yaml_text(value: Mapping[str, Any] | list[Any]) -> str:
    """As YAML that a safe loader reads."""
    from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

    text: str = yaml_dump(value)
    return text


def _text(value: str) -> str:
    """A foreign text on one line, cut."""
    text = " ".join(printable(value).split()) or formatting.NONE
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
