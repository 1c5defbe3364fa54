"""A benchmark from a few lines of TOML, with no code: for the rest of the reports' list and for a user's own files.

`more/*.toml` are the ones that come with the package; docs/benchmarks.md shows the keys.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from open_exaone.base.config import Config, read_toml, validate
from open_exaone.base.records import Problem
from open_exaone.tasks.benchmarks.benchmark import Access, Benchmark, Hub, PromptKind, Row
from open_exaone.tasks.benchmarks.fields import about, final_answer, letter, text, texts, whole
from open_exaone.tasks.benchmarks.prompts import CHOICE, LETTERS, SHORT_ANSWER, fill, letters_of, listed
from open_exaone.verify.judge import judge_answer
from open_exaone.verify.own import is_own

_PLAIN = "{question}"
_PROMPTS: Mapping[str, tuple[PromptKind, str]] = {  # what `prompt` may name
    "short answer": (PromptKind.SHORT_ANSWER, SHORT_ANSWER),
    "choice": (PromptKind.CHOICE, CHOICE),
    "plain": (PromptKind.PLAIN, _PLAIN),
}
_JUDGES = ("math", "exact", "choice", "code")
_DEFAULT_PROMPT = {"math": "short answer", "exact": "short answer", "choice": "choice"}


class FieldNames(Config):
    """Which field of a row holds what."""

    question: str = "question"
    """What is asked."""
    answer: str = "answer"
    """The gold answer; in mathematics what stands behind `####`, if it does, as in GSM8K."""
    options: str | tuple[str, ...] | None = None
    """For multiple choice: the field that holds the list of options, or one field for each option."""
    id: str | None = None
    """The row's identifier; its number where left out."""
    metadata: tuple[str, ...] = ()
    """Fields to hand on to the samples' file, and to a judge of your own."""


class Description(Config):
    """One benchmark."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    """Small letters, digits and underscores."""
    what: str = Field(min_length=1)
    """One sentence about it."""
    language: str = "en"
    """Of its questions, and the one wanted in replies."""
    judge: str = "math"
    """How replies are judged: "math", "exact", "choice", "code", or a function of yours, "FILE.py:function"."""
    answer_is: Literal["text", "letter", "number from 0", "number from 1"] | None = None
    """For multiple choice: how the answer names the right option; "letter" where left out."""
    prompt: str | None = None
    """"short answer" or "choice" (LG's), "plain", or a text of yours with {question} (and {options}, {letters})."""
    file: str | None = None
    """A file of rows, beside this one."""
    hub: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+(@[\w./-]+)?$")
    """A data set of the hub, "owner/name" or "owner/name@revision"."""
    config: str = "default"
    """The configuration of that data set, for the record."""
    split: str = "test"
    """And the split."""
    files: tuple[str, ...] = ()
    """Patterns of the files there that hold the rows."""
    access: Access = Access.OWN
    """"open" or "gated" where the hub has it; "own" otherwise."""
    licence: str = "not stated"
    """What its authors allow."""
    fields: FieldNames = FieldNames()

    @field_validator("judge")
    @classmethod
    def _known_judge(cls, kind: str) -> str:
        if kind not in _JUDGES and not is_own(kind):
            raise ValueError(f'must be one of {", ".join(_JUDGES)}, or a function of yours, "FILE.py:function"')
        return kind

    @field_validator("files")
    @classmethod
    def _inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in files:
            if pattern.startswith(("/", "~")) or ".." in Path(pattern).parts or not pattern:
                raise ValueError(f"{pattern!r}: must be a pattern within the data set's folder")
        return files

    @model_validator(mode="after")
    def _fits(self) -> "Description":
        if (self.judge == "choice") != (self.fields.options is not None):
            raise ValueError('judge = "choice" and fields.options go together: give both or neither')
        if self.answer_is is not None and self.judge != "choice":
            raise ValueError('answer_is: is for judge = "choice" alone')
        if self.hub is not None and not self.files:
            raise ValueError('files: must name those of the hub that hold the rows, such as ["data/test-*.parquet"]')
        template = self.template()
        wanted = {"question": True, "options": self.judge == "choice", "letters": False}
        for part, is_needed in wanted.items():
            if template.count(f"{{{part}}}") not in ((1,) if is_needed else (0, 1)):
                raise ValueError(f"prompt: must have {{{part}}} once, or be one of {', '.join(_PROMPTS)}")
        return self

    def prompt_name(self) -> str:
        """The named prompt or the template."""
        return self.prompt if self.prompt is not None else _DEFAULT_PROMPT.get(self.judge, "plain")

    def template(self) -> str:
        """The text of the user turn, with its places."""
        name = self.prompt_name()
        return _PROMPTS[name][1] if name in _PROMPTS else name


def describe(path: Path) -> Benchmark:
    """The benchmark that a TOML file describes.

    Raises:
        ConfigError: the file is missing or wrong; names the key.
    """
    description = validate(Description, read_toml(path), str(path))
    name = description.prompt_name()
    return Benchmark(
        name=description.name,
        what=description.what,
        language=description.language,
        verifiers=(description.judge,),
        prompt=_PROMPTS[name][0] if name in _PROMPTS else PromptKind.OWN,
        hub=Hub(description.hub, description.files, description.config, description.split) if description.hub else None,
        access=description.access,
        licence=description.licence,
        parse=partial(_parse, description),
        file=path.parent / description.file if description.file else None,
    )


def _parse(description: Description, row: Row, number: int) -> Problem:
    names, template = description.fields, description.template()
    key = text(row, names.id) if names.id else number
    question, known = text(row, names.question), about(row, *names.metadata)
    parts, metadata, answer = {"question": question}, dict[str, Any](known), ""
    if description.judge == "choice":
        options = _options(row, names.options)
        answer = LETTERS[_right(description, row, options)]
        parts |= {"options": listed(options), "letters": letters_of(len(options))}
        metadata["options"] = options
    elif description.judge == "code":
        metadata["tests"] = dict(row)
    else:
        answer = text(row, names.answer)
        if description.judge == "math":
            try:
                answer = final_answer(answer)
            except ValueError as error:
                raise ValueError(f"field {names.answer!r}: {error}") from error
    asked = fill(template, **{part: content for part, content in parts.items() if f"{{{part}}}" in template})
    if description.judge == "code":
        judge_answer(description.judge, "", answer, metadata)  # raises where the tests are none
    return Problem(
        f"{description.name}/{key}",
        description.name,
        description.language,
        asked,
        answer,
        description.judge,
        metadata=metadata,
    )


def _options(row: Row, names: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if isinstance(names, tuple):
        return tuple(text(row, name) for name in names)
    assert names is not None  # a description of multiple choice has it
    return texts(row, names, 2, len(LETTERS))


def _right(description: Description, row: Row, options: tuple[str, ...]) -> int:
    """Which option is right, from 0."""
    name = description.fields.answer
    if description.answer_is in (None, "letter"):
        return letter(row, name, len(options))
    if description.answer_is == "text":
        right = text(row, name).strip()
        if [option.strip() for option in options].count(right) != 1:
            raise ValueError(f"field {name!r}: must be the text of just one of the options, not {right[:40]!r}")
        return [option.strip() for option in options].index(right)
    first = 1 if description.answer_is == "number from 1" else 0
    return whole(row, name, first, first + len(options) - 1) - first
