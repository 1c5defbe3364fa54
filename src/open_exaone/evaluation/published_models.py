"""The models of the published tables: whose they are, how large, and on how many tokens; and a public list's page."""

from functools import cache
from typing import Any, NamedTuple

from open_exaone.base.config import read_toml
from open_exaone.base.records import mode_label
from open_exaone.evaluation.published import FOLDER, load_tables
from open_exaone.model.registry import PUBLISHED

BILLION = 1e9


class PublishedModel(NamedTuple):
    """What is known of a model besides its scores; None where it is not published."""

    name: str
    lab: str
    type: str  # "dense", "mixture of experts" or "not published"
    parameters: float | None
    active: float | None  # parameters that compute one token, where they are not all
    tokens: float | None  # of pretraining
    access: str  # "open weights" or "closed"
    source: str
    tag: str  # of the sizes: "P" the makers' own page or LG's shape, "S2", "S", or "" for a name alone

    @property
    def is_estimate(self) -> bool:
        """Whether the sizes were not found on the makers' own page."""
        return self.tag != "P"


class Column(NamedTuple):
    """A benchmark of a list's page: its heading there, and the number that stands below it."""

    name: str
    benchmark: str  # what the number is of
    note: str
    percent: float | None  # None where the page has a dash
    elsewhere: tuple[tuple[float, str], ...]  # other published numbers that differ, with where they stand


class ListPage(NamedTuple):
    """A model's page on a public list."""

    model: str
    list: str
    organization: str
    released: str
    access: str
    type: str
    parameters: float
    tokens: float
    data: str
    tags: tuple[str, ...]
    columns: tuple[Column, ...]


def published_models() -> dict[str, PublishedModel]:
    """Every model of the tables by its name, in the order of the data file.

    Raises:
        ValueError: a model of the tables is missing there.
    """
    found = {item["name"]: _model(item) for item in _data()["models"]}
    if missing := {row.model for row in load_tables()} - found.keys():
        raise ValueError(f"models.toml: {', '.join(sorted(missing))}: is missing")
    return found


def list_page(model: str) -> ListPage | None:
    """The page of a public list, or None where we have none of that model."""
    item = next((item for item in _data()["pages"] if item["model"] == model), None)
    if item is None:
        return None
    texts = {name: item[name] for name in ("model", "list", "organization", "released", "access", "type", "data")}
    columns = tuple(_column(item, column) for column in item["columns"])
    sizes = {name: item[name] * BILLION for name in ("parameters", "tokens")}
    return ListPage(**texts, **sizes, tags=tuple(item["tags"]), columns=columns)


def _column(page: dict[str, Any], column: dict[str, str]) -> Column:
    rows = [
        row
        for row in load_tables()
        if (row.model, row.benchmark, row.setting) == (page["model"], column["benchmark"], "")
    ]
    own = next((row.percent for row in rows if row.table == page["table"]), None)
    others = [row for row in rows if row.table != page["table"] and row.percent not in (None, own)]
    elsewhere = tuple(
        (row.percent, f"{row.source}, {mode_label(row.mode)}") for row in others if row.percent is not None
    )
    return Column(column["name"], column["benchmark"], column.get("note", ""), own, elsewhere)


def _model(item: dict[str, Any]) -> PublishedModel:
    access = item.get("access", "open weights")
    if shape := item.get("shape"):
        known = PUBLISHED[shape]
        source = f"the published shape of {known.hub_name}; tokens: docs/provenance.md"
        exact = float(known.config.num_parameters), None, float(known.training_tokens)
        return PublishedModel(item["name"], item["lab"], item["type"], *exact, access, source, "P")
    size, active, tokens = (_billions(item, name) for name in ("parameters", "active", "tokens"))
    tag = item.get("tag", "")
    return PublishedModel(item["name"], item["lab"], item["type"], size, active, tokens, access, item["source"], tag)


def _billions(item: dict[str, Any], name: str) -> float | None:
    return BILLION * item[name] if name in item else None


@cache
def _data() -> dict[str, Any]:
    return read_toml(FOLDER / "models.toml")
