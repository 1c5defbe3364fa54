"""Data sets by their name on the Hugging Face hub: fetched once, then opened from the cache, also offline."""

import re
from pathlib import Path

from open_exaone.base.errors import DataError
from open_exaone.tasks.benchmarks.benchmark import Hub
from open_exaone.tasks.benchmarks.sources import find_files

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


class OutOfReach(DataError):
    """The hub cannot be reached, and its cache has not all files. Parts, as several benchmarks may share the reason."""

    def __init__(self, what: str, reason: str, copy: str) -> None:
        super().__init__(f"{what}, and {reason}: check the network, or {copy} and name the folder with --rows")
        self.what = what  # "owner/name: is not whole in the hub's cache"
        self.reason = reason  # "the hub cannot be reached (no route)"
        self.copy = copy  # "copy its files (test.jsonl) from https://…"


def is_hub_name(source: str) -> bool:
    """Whether a source reads as `owner/name` or `owner/name@revision`."""
    return bool(_NAME.fullmatch(source))


def fetch(hub: Hub, repo: str | None = None) -> list[Path]:
    """The files of a data set, in the cache; only what is missing there is fetched.

    Set HF_HUB_OFFLINE=1 to use the cache alone, HF_HOME to move it, and HF_TOKEN for sets behind a form.

    Args:
        repo: `owner/name` or `owner/name@revision` to take them from instead; a commit alone pins them for good.

    Raises:
        DataError: there is no such set or file, or it is behind a form.
        OutOfReach: it is not in the cache, and the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    name, _, revision = (repo or hub.repo).partition("@")
    at = f"{name} at revision {revision}" if revision else name
    page = f"https://huggingface.co/datasets/{name}"
    try:
        folder = snapshot_download(name, repo_type="dataset", revision=revision or None, allow_patterns=list(hub.files))
    except GatedRepoError as error:
        raise DataError(f"{at}: is behind a form on the hub: accept it at {page}, then run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise DataError(f"{at}: the hub has no such data set, and there is no such file or folder here") from error
    except RevisionNotFoundError as error:
        raise DataError(f"{at}: the data set has no such revision: name a branch, a tag or a commit") from error
    except Exception as error:  # the border to a network: no connection, a proxy's word, a full disk, a broken answer
        said = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        raise OutOfReach(
            f"{at}: is not whole in the hub's cache",
            f"the hub cannot be reached ({said})",
            f"copy its files ({', '.join(hub.files)}) from {page}",
        ) from error
    try:
        return find_files(Path(folder), hub.files)
    except DataError as error:
        raise DataError(
            f"{at}: has no {' or '.join(hub.files)}; its files were arranged anew: fetch them from {page} yourself "
            "and name the file"
        ) from error
