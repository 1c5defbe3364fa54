"""What a model's card is written from: records whose every number names the file and the field that it stands in.

`pipeline.card` gathers them; `card.json` is one of them, and what `exaone leaderboard` reads where there is no run.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from open_exaone.base.errors import DataError
from open_exaone.base.printable import printable

SCHEMA_VERSION: Final = 1

NOT_FINISHED: Final = "This run is not finished"  # how the note on such a run begins
MAX_TEXT = 20_000  # characters; the rest of a longer one is cut


def _clean(value: object) -> object:
    """A foreign text rid of what steers a terminal or is no Unicode; anything else as it is."""
    return printable(value[:MAX_TEXT]) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_clean)]


class Record(BaseModel):
    """A frozen part of the card; unknown fields are refused, and so is what is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Figure(Record):
    """A number, and where it stands."""

    value: int | float
    sources: tuple[Text, ...]
    """Each as "FILE: FIELD", such as "04-rl/outcome.json: train_tokens"; FILE is seen from the folder of the card."""
    rule: Text = ""
    """How the value follows from its sources; empty where it is the one number that stands there."""
    is_estimate: bool = False
    """Whether it rests on an assumption that `rule` states."""


class Stage(Record):
    """A stage of training."""

    name: Text
    kind: Text
    start: Text | None
    """The stage whose model it began from; None for the recipe's own model."""
    data: Text | None
    steps: Figure | None = None
    empty_steps: Figure | None = None
    """Steps that had nothing to learn from, such as groups of equal rewards; None where there was none."""
    tokens: Figure | None = None
    """Trained, without padding, prompts included."""
    sampled_tokens: Figure | None = None
    flops: Figure | None = None
    """Of training, without its samples."""
    seconds: Figure | None = None
    """Of training."""
    sample_seconds: Figure | None = None
    eval_seconds: Figure | None = None
    is_done: bool = True


class DataSet(Record):
    """One source of training or evaluation data."""

    name: Text
    what: Text
    licence: Text
    num_rows: Figure | None = None
    used_by: tuple[Text, ...] = ()
    is_learned: bool = True
    """Whether a stage was trained on it; the rest is measured alone."""


class Beside(Record):
    """A published number of the same benchmark, mode and metric."""

    model: Text
    percent: float
    low: float | None = None
    """Of an interval that its number of questions alone gives, in percent; None where that is not known."""
    high: float | None = None
    source: Text
    tag: Text


class Part(Record):
    """A result on some of the problems."""

    name: Text
    value: Figure
    low: Figure | None = None
    high: Figure | None = None
    num_problems: Figure | None = None


class Result(Record):
    """A score on one benchmark in one mode."""

    benchmark: Text
    stage: Text | None = None
    """The stage whose model it is of; None where that is not a run's."""
    mode: Text
    metric: Text = "pass@1"
    setting: Text = ""
    """What sets it apart, such as "budget 1,024"."""
    value: Figure
    """A fraction."""
    low: Figure | None = None
    high: Figure | None = None
    num_problems: Figure | None = None
    """n; None where it is not stated."""
    k: Figure | None = None
    """Samples of each problem."""
    greedy: Figure | None = None
    cons_at_k: Figure | None = None
    thought_tokens: Figure | None = None
    truncated: Figure | None = None
    temperature: Figure | None = None
    top_p: Figure | None = None
    max_new_tokens: Figure | None = None
    is_whole: bool = True
    """Whether all of the benchmark's problems were measured."""
    rows: Text = ""
    """A hash of the problems that were measured; empty for a run's own, which its recipe makes."""
    hub: Text | None = None
    """The benchmark's data set on the hub."""
    hub_split: Text | None = None
    date: Text = ""
    """When it was measured, in ISO 8601."""
    code_version: Text = ""
    per_task: tuple[Part, ...] = ()
    languages: tuple[Text, ...] = ()
    published: tuple[Beside, ...] = ()


class Licence(Record):
    """Under which licence the weights are."""

    id: Text
    """As the hub names it, such as "apache-2.0"; "other" with `name`, or "unknown"."""
    name: Text = ""
    why: Text
    """Where that is known from, and what follows, in whole sentences."""


class Checksum(Record):
    """A file of the model."""

    name: Text
    num_bytes: Figure
    sha256: Text


class Energy(Record):
    """What all stages took from the socket, at most an order of magnitude."""

    kwh: Figure
    watts: Figure


class Facts(Record):
    """All that a card says."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Text
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=200)]
    """"owner/name", as on the hub; the owner is "local" where none was given."""
    lab: Text
    origin: Literal["trained from random weights", "trained", "converted or copied", "measured"]
    base: Text | None = None
    recipe: Text | None = None
    revision: Text
    """A hash of the weights, config and tokenizer; of a measurement what it names."""
    config_hash: Text = ""
    seed: Figure | None = None
    date: Text = ""
    """When the run began or the measurement was made, in ISO 8601."""
    notes: tuple[Text, ...] = ()
    stages: tuple[Stage, ...] = ()
    data: tuple[DataSet, ...] = ()
    family: Text = ""
    pattern: Text = ""
    """Of layers: G global, L local."""
    shape: dict[Text, Figure] = {}
    parameters: Figure | None = None
    tokens: Figure | None = None
    """That the weights were trained on; a base model's pretraining included where it is known."""
    flops: Figure | None = None
    machine: dict[Text, Text] = {}
    seconds: Figure | None = None
    energy: Energy | None = None
    results: tuple[Result, ...] = ()
    licence: Licence
    files: tuple[Checksum, ...] = ()
    model_folder: Text = ""
    """Where the model is, seen from the card's folder."""
    thinks: bool = True
    """Whether the chat template has a reasoning mode."""
    has_grammar: bool = False
    """Whether tokenizer_config.json says how a reply is split."""
    versions: dict[Text, Text] = {}


def read_facts(value: Any, place: str) -> Facts:
    """Facts from the JSON of a card.json.

    Raises:
        DataError: it is none, or of another schema; names the fields.
    """
    try:
        return Facts.model_validate(value)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:3]]
        raise DataError(f"{place}: {'; '.join(faults)}; write the card again with `exaone card`") from error
