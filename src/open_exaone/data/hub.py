"""Which files of a data set on the hub make one of its splits.

No code of a data set is ever run: files that need some cannot be read here.
"""

import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.hub import is_hub_name, snapshot

HUB = "hub:"
_CARD = "README.md"


def hub_files(source: str, config: str | None, split: str, suffixes: Sequence[str]) -> list[tuple[str, Path]]:
    """The files of one split of a data set, each with its name and where it stands in the cache.

    Which files make a split, the data set's card says (`configs`, `data_files`); without it, the names of files and
    folders.

    Args:
        source: `owner/name`, or `owner/name@revision`: a commit alone pins the files for good.

    Raises:
        DataError: there is no such set, configuration or split, it is behind a form, or it cannot be reached.
    """
    if not is_hub_name(source):
        raise DataError(f"{HUB}{source}: must be {HUB}owner/name, or {HUB}owner/name@revision")
    card = snapshot(source, [_CARD])
    wanted = _of_card(card / _CARD, source, config, split)
    if wanted:
        folder, found = _found(source, wanted, suffixes)
        chosen = [path for path in found if any(fnmatch(path, pattern) for pattern in wanted)]
    else:
        folder, found = _found(source, [f"*{split}*"], suffixes)
        if not found:  # a set of one file need not name its split
            folder, found = _found(source, [f"*{suffix}" for suffix in suffixes], suffixes)
        chosen = _by_name(found, source, config, split)
    if not chosen:
        raise DataError(f"{HUB}{source}: has no file of split {split!r} that is read here ({', '.join(suffixes)})")
    return [(f"{HUB}{source}/{path}", folder / path) for path in chosen]


def _of_card(card: Path, source: str, config: str | None, split: str) -> list[str]:
    """The patterns that the card gives for a split; none where it names no files."""
    from huggingface_hub import metadata_load

    metadata: dict[str, Any] = (metadata_load(card) or {}) if card.exists() else {}
    configs = {str(entry.get("config_name", "default")): entry for entry in metadata.get("configs") or ()}
    if not configs:
        return []
    standard = next((name for name, entry in configs.items() if entry.get("default")), next(iter(configs)))
    chosen = config or ("default" if "default" in configs else standard if len(configs) == 1 else None)
    if chosen not in configs:
        raise DataError(f"{HUB}{source}: config = {config!r}: must be one of {', '.join(sorted(configs))}")
    files = configs[chosen].get("data_files")
    if isinstance(files, str):
        files = [files]
    if not files:
        return []
    if all(isinstance(entry, str) for entry in files):
        return [str(entry) for entry in files] if split == "train" else []
    splits = {str(entry["split"]): entry["path"] for entry in files}
    if split not in splits:
        raise DataError(f"{HUB}{source}: split = {split!r}: must be one of {', '.join(splits)}")
    patterns = splits[split]
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _by_name(paths: Sequence[str], source: str, config: str | None, split: str) -> list[str]:
    """The files whose names say the split, within the configuration's folder; the only file needs to say nothing."""
    within = [path for path in paths if config is None or config in re.split(r"[/._-]", path) or config in path]
    if config is not None and not within:
        raise DataError(f"{HUB}{source}: config = {config!r}: no file's name has it; there are {', '.join(paths[:5])}")
    named = [path for path in within if split in re.split(r"[/._-]", path)]
    if not named and len(within) == 1 and split == "train":
        return within
    if len({Path(path).parent for path in named}) > 1 and config is None:
        folders = sorted({Path(path).parent.name for path in named})
        raise DataError(f"{HUB}{source}: has several configurations; set config to one of {', '.join(folders)}")
    return named


def _found(source: str, patterns: Sequence[str], suffixes: Sequence[str]) -> tuple[Path, list[str]]:
    """The cached folder, and the files that are read here, as paths within it."""
    folder = snapshot(source, patterns)
    files = (path for path in folder.rglob("*") if path.is_file() and path.name.lower().endswith(tuple(suffixes)))
    return folder, sorted(path.relative_to(folder).as_posix() for path in files)
