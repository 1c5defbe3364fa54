"""`domains` of a source: rows of chosen subjects alone, everywhere that rows are read."""

import json

import pytest

from doubles import make_tokenizer
from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.data.check import check
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.lengths import lengths
from open_exaone.data.measure import example_lengths
from open_exaone.data.prepare import prepare
from open_exaone.pipeline.problems import read_problems

SUBJECTS = ["math", "code", "math", "tool_use", "code", "code"]


def written(path, column="domain", **others) -> str:
    rows = [
        {column: subject, "messages": [{"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": f"A{n}"}]}
        for n, subject in enumerate(SUBJECTS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def source(path: str, *domains: str, **others) -> SourceConfig:
    return SourceConfig(path=path, domains=domains, **others)


def learned(folder, *sources: SourceConfig) -> list[str]:
    tokenizer = make_tokenizer()
    prepared = prepare(DataConfig(sources=sources), tokenizer, folder, kind="sft", max_tokens=100)
    return [tokenizer.decode(document.ids).split("Q")[1][0] for document in prepared.documents]


def test_rows_of_other_domains_are_not_there(tmp_path):
    path = written(tmp_path / "rows.jsonl")
    assert learned(tmp_path / "a", source(path, "code")) == ["1", "4", "5"]
    assert learned(tmp_path / "b", source(path, "tool_use", "math")) == ["0", "2", "3"]
    assert learned(tmp_path / "c", source(path, "code", skip=2, limit=3)) == ["4"]
    other = written(tmp_path / "other.jsonl", "subject")
    assert learned(tmp_path / "d", source(other, "code", fields={"domain": "subject"})) == ["1", "4", "5"]
    report = check(source(path, "code"))
    assert (report.good, dict(report.domains)) == (3, {"code": 3})
    assert lengths(example_lengths(source(path, "code"), make_tokenizer())).groups[0].domain == "code"


def test_of_problems_the_task_is_the_domain(tmp_path):
    path = tmp_path / "problems.jsonl"
    rows = [{"question": f"Q{n}", "answer": "1", "task": subject} for n, subject in enumerate(SUBJECTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_problems(DataConfig(sources=(source(str(path), "code"),)), "test")
    assert [problem.question for problem in found] == ["Q1", "Q4", "Q5"]


def test_a_domain_without_rows_is_named(tmp_path):
    path = written(tmp_path / "rows.jsonl")
    why = "no good row is of domain 'cod'; did you mean \"code\"\\? There are code, math, tool_use"
    for read in (
        lambda one: learned(tmp_path / "data", one),
        check,
        lambda one: list(example_lengths(one, make_tokenizer())),
    ):
        with pytest.raises(DataError, match=why):
            read(source(path, "math", "cod"))
    check(source(path, "tool_use"), limit=2)  # rows that are not read may be of any
    other = written(tmp_path / "other.jsonl", "subject")
    with pytest.raises(DataError, match=r"its rows have none; name the column that holds it, as fields = \{ domain"):
        check(source(other, "code"))
    with pytest.raises(ConfigError, match="domains: has no effect beside domain"):
        validate(SourceConfig, {"path": path, "domain": "math", "domains": ["math"]}, "file")
