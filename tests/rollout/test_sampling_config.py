"""Whatever a sampling can say can be said in every table and by flags, and arrives as it was written."""

import tomllib
from dataclasses import fields, replace
from typing import Any

import pytest
import tomli_w
from docstring_parser import parse_from_object

from open_exaone.base.config import Config, validate
from open_exaone.base.records import Sampling
from open_exaone.cli.data_build import BuildSampling
from open_exaone.cli.data_filter import FilterSampling
from open_exaone.cli.flags import SamplingFlags
from open_exaone.evaluation.config import EvaluationConfig
from open_exaone.evaluation.report import Entry
from open_exaone.evaluation.suite import SuiteTask
from open_exaone.pipeline.measure import own_tasks
from open_exaone.pipeline.responses import BuildConfig
from open_exaone.train.config import FilterConfig, PreferenceStage

ALL = {field.name for field in fields(Sampling)} - {"num_samples", "thinking_budget"}
WRITTEN = """
temperature = 0.7
top_k = 20
min_p = 0.05
presence_penalty = 0.5
frequency_penalty = -0.25
repetition_penalty = 1.1
logit_bias = { 42 = -100, 7 = 1.5 }
stop_ids = [5, 6]
stop = ["\\n\\n", "Question:"]
"""
READ: dict[str, Any] = tomllib.loads(WRITTEN)
WANTED = Sampling(**{"max_new_tokens": 64, **READ, "logit_bias": {7: 1.5, 42: -100.0}})


def test_no_field_is_missing_anywhere() -> None:
    assert {field.name for field in fields(SamplingFlags)} == ALL
    for table, elsewhere in ((EvaluationConfig, set()), (SuiteTask, set()), (PreferenceStage, {"top_p"})):
        assert ALL - table.model_fields.keys() == elsewhere
    assert Entry.model_fields.keys() >= ALL | {"thinking_budget"}


@pytest.mark.parametrize(
    ("table", "others"),
    [
        (EvaluationConfig, {"data": "test", "max_new_tokens": 64, "seed": 0}),
        (SuiteTask, {"benchmark": "hle", "k": 1, "top_p": 0.95, "max_new_tokens": 64, "seed": 0}),
    ],
)
def test_a_table_gives_the_sampling_that_it_says(table: type[Config], others: dict[str, Any]) -> None:
    config: Any = validate(table, {**READ, **others}, "x")
    written = {name: value for name, value in config.model_dump(mode="json").items() if value is not None}
    assert validate(table, tomllib.loads(tomli_w.dumps(written)), "x") == config
    if table is SuiteTask:
        assert config.sampling == WANTED
    else:
        samples, greedy = own_tasks([], config, "test", context=128, thinking=True)
        assert samples.sampling == replace(WANTED, num_samples=4)
        assert greedy.sampling == replace(WANTED, temperature=0.0)


@pytest.mark.parametrize(("flags", "table"), [(FilterSampling, FilterConfig), (BuildSampling, BuildConfig)])
def test_the_help_of_a_command_gives_its_own_defaults(flags: type[SamplingFlags], table: type[Config]) -> None:
    shown = parse_from_object(flags)
    help_of = {entry.args[1]: entry.description or "" for entry in shown.meta if entry.args[0] == "attribute"}
    for name in ("max_new_tokens", "temperature", "top_p"):
        assert f"{table.model_fields[name].default:g} if left out" in help_of[name]
