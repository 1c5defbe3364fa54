"""Grammars of JSON where a text is also a marker of the model's."""

import numpy as np
import pytest

from open_exaone.serve.errors import ApiError
from open_exaone.serve.guided import ResponseFormat, rule_for, tool_rule
from open_exaone.serve.service import Served

from .conftest import make_engine

END = "[|endofturn|]"


@pytest.fixture(scope="module")
def model() -> Served:
    return Served("tiny", make_engine())


def form(schema: dict) -> ResponseFormat:
    return ResponseFormat.model_validate({"type": "json_schema", "json_schema": {"schema": schema}})


@pytest.mark.parametrize(
    "schema",
    [
        {"const": f"a{END}"},
        {"type": "object", "properties": {"</think>": {"type": "integer"}}},
        {"type": "array", "items": {"anyOf": [{"enum": ["a", {"b": ["<think>"]}]}]}},
        {"$defs": {"a": {"const": "<tool_call>"}}, "$ref": "#/$defs/a"},
    ],
)
def test_a_text_that_is_a_marker_is_refused_by_name(model, schema) -> None:
    with pytest.raises(ApiError, match="marker") as refused:
        rule_for(model, form(schema), max_bytes=1 << 16)
    assert refused.value.status == 400 and refused.value.param == "response_format"


def test_a_tool_named_as_a_marker_is_refused(model) -> None:
    with pytest.raises(ApiError, match="tool_call>"):
        tool_rule(model, {"</tool_call>": None}, is_parallel=False, max_bytes=1 << 16)


def test_what_no_reply_has_to_write_may_hold_a_marker(model) -> None:
    schema = {"type": "object", "description": f"as <think> and {END}", "properties": {"const": {"type": "integer"}}}
    assert rule_for(model, form(schema), max_bytes=1 << 16) is not None


def test_a_reply_ends_where_its_grammar_does_not_go_on(model) -> None:
    """A pattern may come to a marker as well: the engine draws its token, and the grammar does not take that."""
    rule = rule_for(model, form({"type": "string", "pattern": "^</th[i]nk>$"}), max_bytes=1 << 16)
    assert rule is not None
    guide, written, tokenizer = rule.constraint(thinking=False), [], model.tokenizer
    for _ in range(20):
        allowed = np.setdiff1d(np.arange(model.engine.model.config.vocab_size), guide.banned_ids())
        if set(allowed.tolist()) <= set(tokenizer.end_ids):
            break
        written.append(int(next(id for id in allowed if tokenizer.decode([int(id)]) != "\n")))
        guide.take(written[-1:])
    assert tokenizer.decode(written) == '"</think>'


def test_a_thought_does_not_end_the_reply_before_its_answer(model) -> None:
    guide = rule_for(model, form({"type": "integer"}), max_bytes=1 << 16).constraint(thinking=True)
    assert set(guide.banned_ids().tolist()) == set(model.tokenizer.end_ids)
    guide.take(model.tokenizer.encode("so.")[0:2])
    assert set(guide.banned_ids().tolist()) == set(model.tokenizer.end_ids)
    guide.take([model.tokenizer.backend.token_to_id("</think>")])
    allowed = np.setdiff1d(np.arange(model.engine.model.config.vocab_size), guide.banned_ids())
    assert {model.tokenizer.decode([int(id)])[0] for id in allowed} <= set("-0123456789\n")
