"""How a converted or the shipped model was made, by the record that is in its folder."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from open_exaone.base.errors import DataError
from open_exaone.base.files import MAX_CONFIG_BYTES, read_json, write_json
from open_exaone.base.links import own_file
from open_exaone.checkpoint.shipped import FACTS
from open_exaone.pipeline.card_results import of_scores
from open_exaone.pipeline.card_run import GENERATED, File, energy, total
from open_exaone.present.card_facts import DataSet, Facts, Record, Stage, Text

CONVERSION = "conversion.json"
_MADE = (
    *("origin", "base", "recipe", "seed", "config_hash", "date", "stages", "data", "tokens", "flops", "machine"),
    *("seconds", "energy", "licence", "versions"),
)  # of a card, what stays true of the same weights in another layout or dtype


class Conversion(Record):
    """What a folder was converted from."""

    source: Text
    """The model's name, such as nano-exaone-deep."""
    revision: Text
    """A hash of the source's weights, config and tokenizer."""
    converted: Text
    """The same hash of the folder that was written."""
    made: Facts
    """The source's card, without its results."""


def leave_conversion(made: Facts, folder: Path) -> None:
    """Writes down, in a folder that `exaone convert` has written, from which model it came and how that was made.

    Args:
        made: the source's card.
    """
    from open_exaone.rollout.providers.local import weights_hash

    record = Conversion(
        source=made.name,
        revision=made.revision,
        converted=weights_hash(folder),
        made=made.model_copy(update={"results": (), "files": (), "notes": ()}),
    )
    write_json(folder / CONVERSION, record.model_dump(mode="json"))


def converted(folder: Path, revision: str | None = None) -> dict[str, Any]:
    """What a card says of a converted folder besides its files; nothing where none of it is recorded.

    Args:
        revision: of the folder's files as they are; computed if left out.

    Raises:
        DataError: the record is broken.
    """
    from open_exaone.rollout.providers.local import weights_hash

    path = own_file(folder / CONVERSION)
    if not path.is_file():
        return {}
    try:
        record = Conversion.model_validate(_traced(read_json(path, max_bytes=MAX_CONFIG_BYTES)))
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise DataError(f"{path}: {where}: {fault['msg']}; convert the model again, or remove this file") from error
    if record.converted != (revision or weights_hash(folder)):
        return {"notes": (f"{CONVERSION} is of other files than these, so what it records is left out.",)}
    note = f"Converted by exaone convert from {record.source} (revision {record.revision[:12]})."
    return {name: getattr(record.made, name) for name in _MADE} | {"notes": (note,)}


def _traced(value: Any, place: str = "") -> Any:
    """The same with every number's source set to where it stands in this file; what was assumed stays."""
    if isinstance(value, list):
        return [_traced(part, f"{place}.{number}") for number, part in enumerate(value)]
    if not isinstance(value, dict):
        return value
    found = {key: _traced(part, f"{place}.{key}" if place else str(key)) for key, part in value.items()}
    if isinstance(sources := value.get("sources"), list):
        assumed = [text for text in sources if isinstance(text, str) and ": " not in text]
        found["sources"] = [*assumed, f"{CONVERSION}: {place}.value"]
    return found


def shipped(folder: Path, watts: float | None, place: str = "") -> dict[str, Any]:
    """What the shipped model's own record says of how it was made and what it scored.

    Args:
        watts: the machine's mean power, where it is known.
        place: where the folder is, for the sources of its numbers.
    """
    file = File(folder, FACTS)
    file.name = f"{place}{FACTS}"
    stages = tuple(_shipped_stage(file, place) for place in range(len(file.get("stages") or ())))
    families = ", ".join(sorted(file.get("families") or ()))
    data = DataSet(name="problems", what=f"generated problems: {families}", licence=GENERATED)
    machine, versions = (
        {str(name): str(value) for name, value in (file.get(key) or {}).items()} for key in ("machine", "versions")
    )
    seconds = file.figure("seconds")
    return {
        **{"origin": "trained from random weights", "recipe": file.text("recipe")},
        **{"config_hash": file.text("config_hash"), "seed": file.figure("seed"), "stages": stages, "data": (data,)},
        **{"machine": machine, "versions": versions, "seconds": seconds, "energy": energy(seconds, machine, watts)},
        "tokens": total([stage.tokens for stage in stages]),
        "flops": total([stage.flops for stage in stages]),
        "results": tuple(of_scores(file, "scores")),
    }


def _shipped_stage(file: File, place: int) -> Stage:
    at = f"stages.{place}."
    names = {"steps": "train_steps", "tokens": "train_tokens", "flops": "train_flops", "seconds": "train_seconds"}
    figures: dict[str, Any] = {name: file.figure(at + field) for name, field in names.items()}
    return Stage(name=file.text(f"{at}name"), kind=file.text(f"{at}kind"), start=None, data=None, **figures)
