"""Which files of a folder may be opened: its own, and in the hub's cache the same repository's blobs.

A folder comes from others: a link in it could make any file of this machine a prompt, a row or a log that is written.
What is named on the command line may well be a link; what stands in a folder that is named there may not lead out.
"""

import os
from collections.abc import Collection
from pathlib import Path

from open_exaone.base.errors import CheckpointError, OpenExaoneError, RunFolderError


def own_file(path: Path, folder: Path | None = None, kind: type[OpenExaoneError] = CheckpointError) -> Path:
    """Holds a file, or a folder, to the folder that it is looked up in.

    Args:
        path: it need not be there.
        folder: the one that was named, above `path`; its parent if left out.
        kind: which error is raised.

    Returns:
        `path`.

    Raises:
        CheckpointError: a link leads out of `folder`, or no file can have that name; or `kind`.
    """
    folder = path.parent if folder is None else folder
    try:
        if not _has_link(path, folder):
            return path
        target, home = path.resolve(), folder.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # too long, with a null character, links in a circle
        why = getattr(error, "strerror", None) or error
        raise kind(f"{_short(path)}: cannot be opened: {why}") from error
    if not target.is_relative_to(home) and not any(target.is_relative_to(blobs) for blobs in _blobs(home)):
        raise kind(f"{path}: is a link to {target}: {_advice(target, kind)}")
    return path


def own_folder(
    folder: Path, kind: type[OpenExaoneError] = CheckpointError, *, names: Collection[str] | None = None
) -> Path:
    """Holds what stands in a folder to it, as `own_file` does, before anything is read or written there.

    Args:
        names: what this program opens there; anything else is left alone, as other programs put links to their own
            files beside ours. Everything if left out.

    Returns:
        `folder`.

    Raises:
        CheckpointError: as `own_file`; or `kind`.
    """
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        for entry in _entries(place):
            if place is folder and names is not None and entry.name not in names:
                continue
            if entry.is_symlink():
                own_file(Path(entry.path), folder, kind)
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
    return folder


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError):  # not there, or not to be looked into: whoever opens a file in it reports it
        return []


def _has_link(path: Path, folder: Path) -> bool:
    """Whether `path` or what leads to it from `folder` is a link."""
    steps = path.relative_to(folder).parts
    return any(folder.joinpath(*steps[: count + 1]).is_symlink() for count in range(len(steps)))


def _advice(target: Path, kind: type[OpenExaoneError]) -> str:
    if not os.path.isdir(target):
        return "copy the file itself into the folder"
    if kind is RunFolderError:
        return "put the whole folder on the disk that you want and name the real folder with --out"
    return "copy that folder itself into this one"


def _blobs(folder: Path) -> list[Path]:
    """Where the hub's cache keeps the files of the snapshot that `folder` is, or stands in."""
    places = (folder, *folder.parents)
    return [place.parent.parent / "blobs" for place in places if place.parent.name == "snapshots"]


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}…"
