"""The training data of a stage: its sources, what happens to rows that cannot be used, and how sources are mixed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from open_exaone.base.config import Config, did_you_mean
from open_exaone.base.records import MODES

Format = Literal["auto", "messages", "prompt_completion", "pairs", "unpaired", "problems", "text"]
Mode = Literal["auto", "reasoning", "non_reasoning"]
# Our names of what a row holds, each with the columns' names that the field uses for it, the usual one first;
# `SourceConfig.fields` says which column holds each.
KNOWN: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "tools": ("tools", "functions"),
    "prompt": ("prompt", "instruction", "query", "input"),
    "input": ("input", "context"),
    "completion": ("completion", "response", "output"),
    "chosen": ("chosen", "chosen_response"),
    "rejected": ("rejected", "rejected_response", "rejected_messages"),
    "completions": ("completions",),
    "label": ("label", "kto_tag"),
    "question": ("question", "problem"),
    "answer": ("answer", "final_answer", "ground_truth", "reward_model.ground_truth"),
    "solution": ("solution", "worked_solution"),
    "thought": ("thought", "thinking", "reasoning_content", "reasoning"),
    "options": ("options", "choices"),
    "text": ("text",),
    "reply": ("reply",),
    "verifier": ("verifier",),
    "language": ("language",),
    "task": ("task",),
    "metadata": ("metadata",),
    "id": ("id", "uuid", "unique_id"),
    "domain": (),
}


class SourceConfig(Config):
    """One source of rows."""

    path: str = Field(min_length=1)
    """A file (.jsonl, .json or .csv, each also with .gz, .parquet or .arrow), a folder, a pattern such as
    "data/*.jsonl", or "hub:owner/name" (also "hub:owner/name@revision")."""
    config: str | None = None
    """The configuration of a hub data set."""
    split: str = Field(default="train", min_length=1)
    """The split of a hub data set."""
    format: Format = "auto"
    """The format of the rows; "auto" detects it from their columns."""
    domains: tuple[str, ...] = ()
    """Only rows of these subjects are read, such as ["code", "tool_use"]; all if left out. A row's subject is in its
    column `domain` where `fields.domain` names no other; of a problem without one, in `task`."""
    fields: dict[str, str] = Field(default={}, validate_default=True)
    """The columns whose names differ from ours, such as { question = "Question" }; a dot reads a key of an object:
    { answer = "reward_model.ground_truth" }."""
    ignore: tuple[str, ...] = ()
    """Columns that are not read though their names are known, such as a `prompt` that repeats the first message."""
    domain: str | None = Field(default=None, min_length=1)
    """The subject of its rows, for statistics; a column named in `fields.domain` gives it row by row."""
    mode: Mode = "auto"
    """"auto": rows whose reply has a thought are trained in reasoning mode, all others in non-reasoning mode;
    "reasoning": a row without a thought is a bad row; "non_reasoning": thoughts are left out. Problems that a stage
    samples replies to are asked in this mode; with "auto", in the stage's."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Its share of the tokens of an epoch. Give all sources a share or none; without shares, each counts by size."""
    verifier: str = Field(default="math", min_length=1)
    """How replies to its problems are judged, where a row has no `verifier` of its own; with options, by "choice"."""
    solution_as: Literal["reply", "thought"] = "reply"
    """How the worked solution of a problem is learned: as the reply; or as the thought, without GSM8K's calculator
    marks and its last line `#### 5`, and then the reply is the final answer in \\boxed{}: a problem without a worked
    solution is a bad row."""
    unique_ids: Literal["file", "source"] = "file"
    """Where a row's id must stand only once: in its file, or in all files of the source."""
    skip: int = Field(default=0, ge=0)
    """How many rows at its beginning are left out."""
    limit: int | None = Field(default=None, gt=0)
    """How many rows are read after those; all if left out. With `skip`, one file gives several disjoint sets."""
    code: tuple[str, ...] = ()
    """The Python files whose functions its rows may name as their verifier; by default a row may name none."""
    first_option: Literal[0, 1] | None = None
    """The number of the first option, where answers are numbers. Without it, an integer counts from 0, and digits in a
    text are refused because they may count from either."""

    _root: Path = PrivateAttr(default=Path())

    def within(self, folder: Path) -> "SourceConfig":
        """The same source, its relative path seen from `folder`: what is made in a run's folder moves along with it."""
        copy = self.model_copy()
        copy._root = folder
        return copy

    def mode_of(self, has_thought: bool) -> str:
        """The mode in which a row is learned, or a problem asked where the source has a mode."""
        return MODES[has_thought] if self.mode == "auto" else self.mode

    @property
    def root(self) -> Path:
        """The folder that a relative path is seen from."""
        return self._root

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        unknown = sorted(set(fields) - set(KNOWN))
        if unknown:
            raise ValueError(
                f"fields.{unknown[0]}: unknown{did_you_mean(unknown[0], KNOWN)} A row has {', '.join(KNOWN)}"
            )
        return {"domain": "domain", **fields} if info.data.get("domains") else fields

    @model_validator(mode="after")
    def _one_domain(self) -> Self:
        if self.domains and self.domain is not None:
            raise ValueError("domains: has no effect beside domain, which gives all rows one: leave one of them out")
        return self


class DataOptions(Config):
    """What happens to rows that do not fit, and how sources are mixed."""

    bad_rows: Literal["refuse", "drop"] = "refuse"
    """"refuse": a row that cannot be used is an error that names it; "drop": it is left out and counted."""
    too_long: Literal["drop", "truncate", "split"] = "drop"
    """What happens to an example that is longer than the stage's `max_tokens` (the model's context, where that is left
    out); such examples are counted. "split" cuts it into pieces and is only for pretraining, since a piece of a reply
    has no question."""
    turns: Literal["each", "last"] = "each"
    """The replies of a conversation that are trained on: each, or the last. With "each", a reply whose earlier thoughts
    the chat format drops becomes an example of its own, so its prompt is computed again."""
    reasoning_ratio: float | None = Field(default=None, gt=0, le=1000)
    """Tokens in reasoning mode for each token in non-reasoning mode, per epoch; EXAONE 4.0 used 1.5."""
    max_repeats: float = Field(default=4.0, ge=1, le=1000)
    """How often a small source is repeated in an epoch at most, to reach its share. Beyond that, large sources are
    sampled, and the rest of them follows in the next epoch."""


class DataConfig(DataOptions):
    """Sources of rows, and what becomes of them."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """Where rows come from."""

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        check_shares([source.share for source in self.sources])
        check_named_once(self.sources)
        return self


def check_named_once(sources: Sequence[SourceConfig]) -> None:
    """Checks that no source is listed twice in one mode.

    Raises:
        ValueError: one is; names it.
    """
    names = [(source.path, source.config, source.split, source.mode) for source in sources]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"sources: {twice[0]} is listed twice; list it once, with a larger share")


def check_shares(shares: Sequence[float | None]) -> None:
    """Checks the shares of all sources.

    Raises:
        ValueError: some sources have one and others not, or they do not add up to 1.
    """
    given = [share for share in shares if share is not None]
    if given and len(given) < len(shares):
        raise ValueError("sources: only some have a share; give all of them one, or none")
    if given and abs(sum(given) - 1) > 1e-6:
        raise ValueError(f"sources: their shares add up to {sum(given):g}, not to 1")
