"""A model's results as a record of Every Eval Ever, schema 0.3.0 (github.com/evaleval/every_eval_ever)."""

import hashlib
import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from open_exaone.base.printable import printable
from open_exaone.present.card import last_results, result_name
from open_exaone.present.card_facts import Facts, Figure, Result

SCHEMA: Final = "0.3.0"
COLLECTION = "open-exaone"
LIBRARY = "open-exaone"


def record(facts: Facts) -> tuple[str, dict[str, Any]] | None:
    """The record, and its path as the data store has it: data/COLLECTION/DEVELOPER/MODEL/UUID.json.

    The UUID is made of what was measured, so the same measurement has the same one. Times are those of the measurement.

    Returns:
        None without a result.
    """
    results = last_results(facts)
    if not results:
        return None
    owner, _, name = facts.id.partition("/")
    when = _epoch(max(result.date for result in results) or facts.date)
    value = {
        "schema_version": SCHEMA,
        "evaluation_id": f"{COLLECTION}/{owner}_{name}/{when}",
        "evaluation_timestamp": when,
        "retrieved_timestamp": when,
        "source_metadata": {
            "source_name": "exaone eval",
            "source_type": "evaluation_run",
            "source_organization_name": owner,
            "evaluator_relationship": "first_party" if facts.stages else "third_party",
        },
        "eval_library": {"name": LIBRARY, "version": results[0].code_version or "unknown"},
        "model_info": _model(facts, owner),
        "evaluation_results": [_result(result, place) for place, result in enumerate(results)],
    }
    digest = bytearray(hashlib.sha256(json.dumps(_timeless(value), sort_keys=True).encode()).digest()[:16])
    own = uuid.UUID(bytes=bytes(digest), version=4)
    return f"data/{COLLECTION}/{owner}/{name}/{own}.json", value


def _model(facts: Facts, owner: str) -> dict[str, Any]:
    details = {
        "deployment_type": "self_deployed" if facts.files else "unknown",
        "model_availability": "open_weights" if facts.files else "unknown",
        "revision": facts.revision,
        "license": facts.licence.name or facts.licence.id,
    }
    if facts.parameters:
        details["num_parameters"] = str(int(facts.parameters.value))
    if facts.recipe:
        details["recipe"] = facts.recipe
    engine = {"name": "open-exaone", "version": facts.versions.get("open-exaone", "unknown")}
    return {
        "name": _text(facts.name),
        "id": facts.id,
        "developer": owner,
        "inference_engine": engine,
        "additional_details": {key: _text(value) for key, value in details.items()},
    }


def _result(result: Result, place: int) -> dict[str, Any]:
    sampling = {
        "temperature": _value(result.temperature),
        "top_p": _value(result.top_p),
        "max_tokens": _value(result.max_new_tokens),
        "reasoning": {"reasoning": True, "non_reasoning": False}.get(result.mode),
    }
    name = _text(result_name(result))
    found: dict[str, Any] = {
        "evaluation_result_id": f"{place}-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}-{result.mode}",
        "evaluation_name": name,
        "source_data": _source(result, name),
        "metric_config": {
            "metric_id": "pass_at_k",
            "metric_name": "pass@1",
            "metric_kind": "pass_rate",
            "metric_unit": "proportion",
            "metric_parameters": {"k": 1, "samples_per_problem": _value(result.k)},
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": 0,
            "max_score": 1,
        },
        "score_details": {"score": result.value.value, "details": _details(result)},
        "generation_config": {"generation_args": {key: value for key, value in sampling.items() if value is not None}},
    }
    if uncertainty := _uncertainty(result):
        found["score_details"]["uncertainty"] = uncertainty
    return found


def _source(result: Result, name: str) -> dict[str, Any]:
    if result.hub:
        whole = {"samples_number": int(result.num_problems.value)} if result.num_problems else {}
        split = {"hf_split": result.hub_split} if result.hub_split else {}
        return {"dataset_name": name, "source_type": "hf_dataset", "hf_repo": result.hub, **split, **whole}
    return {"dataset_name": name, "source_type": "other"}


def _details(result: Result) -> dict[str, str]:
    figures = {
        "greedy": result.greedy,
        "cons_at_k": result.cons_at_k,
        "mean_thought_tokens": result.thought_tokens,
        "truncated_share": result.truncated,
    }
    return {"mode": result.mode, "is_whole": str(result.is_whole)} | {
        name: str(figure.value) for name, figure in figures.items() if figure
    }


def _uncertainty(result: Result) -> dict[str, Any]:
    """The interval and n, those that there are: a result without n has neither."""
    found: dict[str, Any] = {}
    if result.low and result.high:
        found["confidence_interval"] = {
            "lower": result.low.value,
            "upper": result.high.value,
            "confidence_level": 0.95,
            "method": "clustered by problem",
        }
    if result.num_problems:
        found["num_samples"] = int(result.num_problems.value)
    return found


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value


def _epoch(date: str) -> str:
    """Seconds since 1970 as text; a time without a zone is taken as UTC. "0" where the date is not known."""
    try:
        when = datetime.fromisoformat(date)
    except ValueError:
        return "0"
    return str(int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()))


def _timeless(value: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in value.items() if not key.endswith("timestamp") and key != "evaluation_id"}


def _text(value: str) -> str:
    return " ".join(printable(value).split())[:1000] or "not stated"
