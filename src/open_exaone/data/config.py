"""What training data a stage reads: its sources, what happens to rows that don't fit, and how sources are mixed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from open_exaone.base.config import Config

Format = Literal["auto", "messages", "prompt_completion", "pairs", "problems", "text"]
Mode = Literal["auto", "reasoning", "non_reasoning"]
FIELDS = (
    "messages",
    "tools",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "question",
    "answer",
    "solution",
    "thought",
    "options",
    "text",
    "reply",
    "verifier",
    "language",
    "task",
    "metadata",
    "id",
    "domain",
)  # our names; `SourceConfig.fields` says which column holds each


class SourceConfig(Config):
    """One source of rows."""

    path: str = Field(min_length=1)
    """A file (.jsonl, .json, either also with .gz, or .parquet), a folder, a pattern such as "data/*.jsonl", or
    "hub:owner/name" (also "hub:owner/name@revision")."""
    config: str | None = None
    """Which configuration of a hub data set."""
    split: str = Field(default="train", min_length=1)
    """Which split of a hub data set."""
    format: Format = "auto"
    """What a row holds; "auto" finds out from its columns."""
    fields: dict[str, str] = Field(default={})
    """Which column holds what, where its name isn't one that is known: { question = "Question" }; a dot goes into an
    object: { answer = "reward_model.ground_truth" }."""
    domain: str | None = Field(default=None, min_length=1)
    """What its rows are about, for statistics; where `fields` names a column "domain", each row says it."""
    mode: Mode = "auto"
    """"auto": a row whose reply has a thought is learned in reasoning mode, any other in non-reasoning mode;
    "reasoning": a row without a thought is a bad one; "non_reasoning": thoughts are left out."""
    share: float | None = Field(default=None, gt=0, le=1)
    """Its share of the tokens of an epoch; give every source one, or none: then each counts for what it holds."""
    verifier: str = Field(default="math", min_length=1)
    """How replies to its problems are judged, where a row has no `verifier` of its own; with options, by "choice"."""
    skip: int = Field(default=0, ge=0)
    """How many rows at its beginning are left out."""
    limit: int | None = Field(default=None, gt=0)
    """How many rows are read after those; all if left out. With `skip`, one file gives several disjoint sets."""
    code: tuple[str, ...] = ()
    """The Python files whose functions its rows may name as their verifier; by default a row may name none."""
    first_option: Literal[0, 1] | None = None
    """What an answer that is a number counts options from; without it a whole number counts from 0, and digits written
    as a text are refused, since they may mean either."""

    _root: Path = PrivateAttr(default=Path())

    def within(self, folder: Path) -> "SourceConfig":
        """The same source, its relative path seen from `folder`: what is made in a run's folder moves along with it."""
        copy = self.model_copy()
        copy._root = folder
        return copy

    @property
    def root(self) -> Path:
        """The folder that a relative path is seen from."""
        return self._root

    @field_validator("fields")
    @classmethod
    def _known(cls, fields: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(fields) - set(FIELDS))
        if unknown:
            raise ValueError(f"fields: {', '.join(unknown)}: unknown; a row has {', '.join(FIELDS)}")
        return fields


class DataOptions(Config):
    """What happens to rows that do not fit, and how sources are mixed."""

    bad_rows: Literal["refuse", "drop"] = "refuse"
    """"refuse": a row that cannot be used stops the preparation and is named; "drop": it is left out and counted."""
    too_long: Literal["drop", "truncate", "split"] = "drop"
    """What becomes of an example with more tokens than the model's context; counted. "split" cuts it into pieces and
    is for pretraining alone: a piece of a reply has lost its question."""
    turns: Literal["each", "last"] = "each"
    """Which replies of a conversation of several turns are learned (only "last" of them costs nothing twice; with
    "each", turns that a thought sets apart become examples of their own)."""
    reasoning_ratio: float | None = Field(default=None, gt=0, le=1000)
    """Tokens of reasoning mode for each token of non-reasoning mode in an epoch; EXAONE 4.0 took 1.5."""
    max_repeats: float = Field(default=4.0, ge=1, le=1000)
    """To keep the shares, small sources are repeated at most so often in an epoch; beyond that, large ones are
    sampled, and their rest follows in the next epoch."""


class DataConfig(DataOptions):
    """Sources of rows, and what becomes of them."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1)
    """Where rows come from."""

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        check_shares([source.share for source in self.sources])
        paths = [(source.path, source.config, source.split, source.skip) for source in self.sources]
        if len(set(paths)) < len(paths):
            raise ValueError("sources: one is named twice; give it a larger share instead")
        return self


def check_shares(shares: Sequence[float | None]) -> None:
    """Checks the shares of all sources.

    Raises:
        ValueError: some sources have one and others not, or they do not add up to 1.
    """
    given = [share for share in shares if share is not None]
    if given and len(given) < len(shares):
        raise ValueError("sources: give every one a share, or none")
    if given and abs(sum(given) - 1) > 1e-6:
        raise ValueError(f"sources: their shares add up to {sum(given):g}, not to 1")
