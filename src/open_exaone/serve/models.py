"""Models made ready to be served."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.base.records import Sampling

if TYPE_CHECKING:
    from open_exaone.model.transformer import LanguageModel

_ANY = Sampling(max_new_tokens=1)
_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "presence_penalty", "repetition_penalty")


def sampling_of(folder: Path) -> dict[str, Any]:
    """How a model's folder says that its replies are drawn; only what `Sampling` takes."""
    from open_exaone.checkpoint.folder import sampling_defaults

    found = sampling_defaults(folder)
    if found.get("do_sample") is False:
        return {"temperature": 0.0}
    kept: dict[str, Any] = {}
    for name in _DEFAULTS:
        value = found.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or (name == "top_k" and value == 0):
            continue
        try:
            replace(_ANY, **{name: value})  # type: ignore[arg-type]
        except ValueError:
            continue
        kept[name] = value
    return kept


def detach_from_files(model: "LanguageModel") -> None:
    """Copies weights that are mapped from files, so that nothing that happens to the files changes the model.

    Native code packs the matrices of layers into memory of its own when a session opens.
    """
    for weight in model.parameters():
        weight.data = weight.data.clone()


def with_adapter(model: "LanguageModel", folder: Path) -> "LanguageModel":
    """A model with an adapter of its own; all other weights are shared.

    Raises:
        CheckpointError: the adapter cannot be read, or is another model's.
    """
    from open_exaone.checkpoint.adapter import load_adapter

    shared = {id(weight): weight for weight in model.parameters()}
    adapted = copy.deepcopy(model, dict(shared))
    load_adapter(adapted, folder)
    return adapted
