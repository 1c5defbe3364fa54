"""Models and data sets by their names on the Hugging Face hub: fetched once, then opened from the cache, also offline.

Set HF_HUB_OFFLINE=1 to use the cache alone, HF_HOME to move it, and HF_TOKEN for what is behind a form.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from open_exaone.base.errors import CheckpointError, DataError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


class OutOfReach(DataError):
    """The hub cannot be reached, and its cache has not all files. Parts, as several data sets may share the reason."""

    def __init__(self, what: str, reason: str, copy: str, use: str) -> None:
        super().__init__(f"{what}, and {reason}: check the network, or {copy} and {use}")
        self.what = what  # "owner/name: is incomplete in the hub's cache"
        self.reason = reason  # "the hub cannot be reached (no route)"
        self.copy = copy  # "copy its files (test.jsonl) from https://…"


def is_hub_name(source: str | Path) -> bool:
    """Whether a source reads as `owner/name` or `owner/name@revision`."""
    return bool(_NAME.fullmatch(str(source)))


def snapshot(
    source: str,
    patterns: Sequence[str],
    *,
    kind: Literal["model", "dataset"] = "dataset",
    unwanted: Sequence[str] | None = None,
    use: str = "name their folder",
) -> Path:
    """The folder of a repository in the cache; only what is missing there is fetched.

    Args:
        source: `owner/name`, or `owner/name@revision`: a branch, a tag, or a commit, which alone pins the files.
        patterns, unwanted: which files are taken, and which of those are not.
        use: what to do with files that were copied by hand, for the error.

    Raises:
        DataError, or CheckpointError for a model: there is no such repository or revision, or it is behind a form.
        OutOfReach, or CheckpointError: it is not in the cache, and the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    name, _, revision = source.partition("@")
    at = f"{name} at revision {revision}" if revision else name
    what, refused = ("model", CheckpointError) if kind == "model" else ("data set", DataError)
    page = f"https://huggingface.co/{'' if kind == 'model' else 'datasets/'}{name}"
    try:
        return Path(
            snapshot_download(
                name,
                repo_type=kind,
                revision=revision or None,
                allow_patterns=list(patterns),
                ignore_patterns=list(unwanted) if unwanted else None,
            )
        )
    except GatedRepoError as error:
        raise refused(f"{at}: is behind a form on the hub: accept it at {page}, then run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise refused(f"{at}: the hub has no such {what}, and there is no such file or folder here") from error
    except RevisionNotFoundError as error:
        raise refused(f"{at}: the {what} has no such revision: name a branch, a tag or a commit") from error
    except HFValidationError as error:
        raise refused(f"{at}: is no name of a {what}: {error}") from error
    except Exception as error:  # the border to a network: no connection, a proxy's word, a full disk, a broken answer
        first_line = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        reason = f"the hub cannot be reached ({first_line})"
        if kind == "model":
            fix = f"check the network, or copy the model's folder from {page} and name that"
            raise refused(
                f"{at}: is not a folder here and is incomplete in the hub's cache, and {reason}: {fix}"
            ) from error
        copy = f"copy its files ({', '.join(patterns)}) from {page}"
        raise OutOfReach(f"{at}: is incomplete in the hub's cache", reason, copy, use) from error
