"""Which files of a model's folder may be read: its own, and in the hub's cache the same model's blobs."""

from pathlib import Path

from open_exaone.base.errors import CheckpointError


def own_file(path: Path) -> Path:
    """Holds a file to its folder: a link could bring in any file of this machine.

    Raises:
        CheckpointError: it is a link that leads elsewhere.
    """
    if path.is_symlink():
        folder = path.parent.resolve()
        blobs = folder.parent.parent / "blobs"
        if folder.parent.name != "snapshots" or path.resolve().parent != blobs:
            raise CheckpointError(f"{path}: is a link to {path.resolve()}: copy the file itself into the folder")
    return path
