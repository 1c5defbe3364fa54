"""What a model's folder says: its shape, checksums, name and licence, and how it speaks."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import MAX_CONFIG_BYTES, read_json
from open_exaone.base.hub import is_hub_name
from open_exaone.base.links import own_file
from open_exaone.checkpoint.licence import check_derived_name, licence_files, licence_of
from open_exaone.checkpoint.shipped import is_shipped
from open_exaone.model.config import ModelConfig
from open_exaone.model.hf import KEYS, config_from_hf
from open_exaone.model.registry import PUBLISHED, Published
from open_exaone.pipeline.card_run import GENERATED
from open_exaone.present.card_facts import Checksum, DataSet, Figure, Licence, read_facts
from open_exaone.present.card_files import CARD_JSON, KOREAN_PAGE

_FRONT = r"^{}:[ \t]*[\"']?([A-Za-z0-9._+-]{{1,60}})[\"']?[ \t]*$"  # of a README.md's block of metadata
_FRONT_LICENCE, _FRONT_NAME = (re.compile(_FRONT.format(key), re.MULTILINE) for key in ("license", "license_name"))
_TEXTS = {"apache-2.0": "Apache License Version 2.0", "mit": "MIT License"}  # how a licence's own text begins
_SHAPE = ("vocab_size", "width", "num_layers", "num_heads", "num_kv_heads", "head_width", "ffn_width", "max_positions")
_MAX_README = 1_000_000
HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
STAGE_FOLDER = re.compile(r"\d\d+-.+")  # the name of a stage's folder
OURS = "Open-EXAONE"  # the shipped model's lab
CARD_FOLDER_FILES = ("card.md", "card.html", "card.ko.md", KOREAN_PAGE, CARD_JSON)


def names(given: str | None, name: str, model: Path | None, *, from_scratch: bool = False) -> dict[str, Any]:
    """The model's name, id and lab.

    Args:
        given: "owner/name" as the user wants it; a derived model's name is held to its licence.
        name: what its folder or its measurement calls it: a name, "owner/name" of the hub, or "RUN/STAGE" of a run.
        from_scratch: its weights began as random numbers, so it is no model of LG's.

    Raises:
        ConfigError: the name is not the user's to give.
    """
    if given is not None:
        licence = licence_of(model) if model is not None else None
        check_derived_name(licence, given.rpartition("/")[2])
        if from_scratch and licence is None and "exaone" in given.rpartition("/")[2].lower():
            raise ConfigError(f"--name {given}: the name EXAONE is LG's, and these weights are not: leave it out")
        return {"name": given.rpartition("/")[2], "id": given, "lab": _lab(given.partition("/")[0])}
    last = name.rstrip("/").rpartition("/")[2] or name
    if (known := published(name)) is not None:
        short = known.hub_name.rpartition("/")[2]
        return {"name": short, "id": known.hub_name, "lab": _lab(known.hub_name.partition("/")[0])}
    is_stage = STAGE_FOLDER.fullmatch(last) and name.count("/") == 1
    if HUB_ID.fullmatch(name.partition("@")[0]) and not is_stage:
        return {"name": last, "id": name.partition("@")[0], "lab": _lab(name.partition("/")[0])}
    shown = name if is_stage else last
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", shown)[:90].strip("-._") or "model"
    lab = OURS if model is not None and is_shipped(model) else _lab("local")
    return {"name": shown, "id": f"local/{plain}", "lab": lab}


def naming(given: str | None, name: str, model: Path, *, from_scratch: bool) -> list[str]:
    """What to know of a trained model's name before it is published, where the user has not chosen it yet."""
    licence = licence_of(model)
    if given is not None:
        return []
    if licence is not None and not name.startswith(licence.prefix):
        return [
            f"The {licence.name} asks that a derived model's name begin with {licence.prefix}: publish this model "
            "under such a name, with --name."
        ]
    if licence is None and from_scratch and "exaone" in name.lower():
        return [
            f"{name} is the recipe's name. The name EXAONE is LG's: publish this model under a name without it, with "
            "--name."
        ]
    return []


def published(name: str) -> Published | None:
    """What is published of LG's model of this name: of a folder, or of the hub, there also with "@REVISION"."""
    known = PUBLISHED.get(name.rstrip("/").rpartition("/")[2].partition("@")[0])
    is_other = known is not None and is_hub_name(name) and name.partition("@")[0] != known.hub_name
    return None if is_other else known


def named(folder: Path) -> tuple[str, str | None]:
    """What a model's folder is called, and the model on the hub that its config.json names as its origin, if another.

    In the hub's cache the name is "OWNER/NAME".
    """
    place = folder.resolve()
    if place.parent.name == "snapshots" and (parts := place.parent.parent.name.split("--"))[0] == "models":
        return "/".join(parts[1:]), None
    config = read_json(own_file(folder / "config.json"), max_bytes=MAX_CONFIG_BYTES)
    origin = config.get("_name_or_path") if isinstance(config, dict) else None
    is_other = isinstance(origin, str) and is_hub_name(origin) and origin.rpartition("/")[2] != place.name
    return place.name, origin if is_other else None


def _lab(owner: str) -> str:
    return {"local": "Own runs", "LGAI-EXAONE": "LG"}.get(owner, owner)


def folder_facts(folder: Path, card: Path) -> dict[str, Any]:
    """The shape, the checksums and the manner of speaking of a model's folder, seen from the card's."""
    from open_exaone.rollout.providers.local import weights_hash

    place = "" if folder == card else f"{folder.relative_to(card)}/"
    config: Mapping[str, Any] = read_json(own_file(folder / "config.json"), max_bytes=MAX_CONFIG_BYTES)
    template, tokenizer = _text(folder / "chat_template.jinja"), _text(folder / "tokenizer_config.json")
    return {
        **shape_facts(config_from_hf(config), f"{place}config.json", config),
        "files": tuple(_checksums(folder, place)),
        "model_folder": place.rstrip("/"),
        "revision": weights_hash(folder),
        "thinks": "<think>" in template or "<thought>" in template,
        "has_grammar": '"response_template"' in tokenizer,
    }


def shape_facts(config: ModelConfig, place: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a shape; each stands in config.json where `keys` has it."""
    shape = {}
    for name in _SHAPE:
        key = KEYS[name]
        source = f"{place}: {key}" if key in keys or not keys else f"{place}: from the others"
        shape[name] = Figure(value=getattr(config, name), sources=(source,))
    if config.window is not None and config.is_hybrid:
        shape["window"] = Figure(value=config.window, sources=(f"{place}: sliding_window",))
    sources = tuple(dict.fromkeys(source for figure in shape.values() for source in figure.sources))
    parameters = Figure(value=config.num_parameters, sources=sources, rule="sum over the shape's matrices")
    return {"family": config.family, "pattern": config.pattern, "shape": shape, "parameters": parameters}


def _checksums(folder: Path, place: str) -> list[Checksum]:
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name not in CARD_FOLDER_FILES:
            with own_file(path).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            num_bytes = Figure(value=path.stat().st_size, sources=(f"{place}{path.name}: its size",))
            found.append(Checksum(name=path.name, num_bytes=num_bytes, sha256=digest))
    return found


def weights_licence(
    folder: Path,
    licence: str | None,
    *,
    from_scratch: Sequence[DataSet] | None,
    base: str | None = None,
    recorded: Licence | None = None,
) -> Licence:
    """The licence of the weights in a folder.

    Args:
        from_scratch: the data that weights which began as random numbers have learned; None for weights that derive
            from others.
        base: what those others are: a folder, or a name on the hub.
        recorded: that of the model that these weights were converted from.
    """
    if (known := licence_of(folder)) is not None:
        if licence is not None:
            raise ConfigError(f"--licence {licence}: these weights are under the {known.name}: leave it out")
        return Licence(
            id="other",
            name=known.name,
            why=f"These weights or this tokenizer are LG AI Research's: "
            f"{known.use}. The agreement {known.training_data}.",
        )
    if licence is not None:
        return chosen_licence(licence)
    if from_scratch is not None and all(data.licence == GENERATED for data in from_scratch):
        return Licence(
            id="apache-2.0",
            why="The weights began as random numbers, so no model's licence applies, and all training data were "
            "generated by this package. Open-EXAONE's code is under Apache-2.0.",
        )
    if recorded is not None and recorded.id != "unknown":
        return recorded
    if found := _front_licence(_text(folder / "README.md")):
        return Licence(**found, why="As the README.md in the model's folder says.")
    if files := licence_files(folder):
        why, text = f"As {files[0].name} in the model's folder says; read it.", " ".join(_text(files[0]).split())
        if (known_id := next((id for id, head in _TEXTS.items() if text.startswith(head)), None)) is not None:
            return Licence(id=known_id, why=why)
        return Licence(id="other", name=files[0].name, why=why)
    if base is not None and (of_base := _licence_of_base(base)) is not None:
        return of_base
    of_data = "the licences of the training data may apply" if from_scratch is not None else "no file names it"
    return Licence(
        id="unknown",
        why=f"Not known: {of_data}. Find it out before you use or pass the model on, and write "
        "the card again with --licence.",
    )


def _front_licence(readme: str) -> dict[str, str]:
    """The licence that a README.md's block of metadata names; nothing where it names none."""
    head = readme.split("\n---", 1)[0] if readme.startswith("---") else ""
    if (match := _FRONT_LICENCE.search(head)) is None or match[1].lower() == "unknown":
        return {}
    name = _FRONT_NAME.search(head)
    return {"id": match[1].lower(), "name": name[1] if name and match[1].lower() == "other" else ""}


def _licence_of_base(base: str) -> Licence | None:
    """The licence of the model that weights derive from, by its card or README.md; the hub is not asked."""
    from huggingface_hub import try_to_load_from_cache

    folder = Path(base)
    if (card := folder / CARD_JSON).is_file():
        of_base = read_facts(read_json(card), str(card)).licence
        found = {} if of_base.id == "unknown" else {"id": of_base.id, "name": of_base.name}
    elif folder.exists():
        found = _front_licence(_text(folder / "README.md"))
    else:
        name, _, revision = base.partition("@")
        path = try_to_load_from_cache(name, "README.md", revision=revision or None) if is_hub_name(base) else None
        found = _front_licence(_text(Path(path))) if isinstance(path, str) else {}
    return Licence(**found, why="As the card of the model that it was trained from says.") if found else None


def chosen_licence(licence: str) -> Licence:
    return Licence(id=licence, why="As whoever wrote this card says; no file of the model names it.")


def _text(path: Path) -> str:
    """The beginning of a text file; empty where there is none."""
    if not path.is_file():
        return ""
    with own_file(path).open(encoding="utf-8", errors="replace") as file:
        return file.read(_MAX_README)
