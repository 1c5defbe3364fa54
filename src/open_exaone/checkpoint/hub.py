"""Which files of a model on the hub are fetched, and under whose licence they are."""

from pathlib import Path

from open_exaone.base.hub import snapshot
from open_exaone.checkpoint.licence import licence_by_name, warn_of_licence

# What a model's folder needs; never code, never pickles. Sub-folders hold other formats of the same weights.
WANTED = (
    "*.safetensors",
    "*.json",
    "*.txt",
    "*.jinja",
    "LICENSE*",
    "NOTICE*",
    "README.md",
)  # its card names the licence
UNWANTED = ("*/*", "consolidated*.safetensors")


def download(source: str | Path) -> Path:
    """The folder of a model of the hub, in the cache: see `snapshot`.

    Raises:
        CheckpointError: there is no such model, or it cannot be had.
    """
    name = str(source).partition("@")[0]
    warn_of_licence(licence_by_name([name]), name)
    return snapshot(str(source), WANTED, kind="model", unwanted=UNWANTED)
