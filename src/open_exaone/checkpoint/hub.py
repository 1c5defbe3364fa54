"""Models by their name on the Hugging Face hub: fetched once, then opened from the cache, also offline."""

import re
from pathlib import Path

from open_exaone.base.errors import CheckpointError
from open_exaone.checkpoint.licence import licence_by_name, warn_of_licence

# What a model's folder needs; never code, never pickles. Sub-folders hold other formats of the same weights.
WANTED = ("*.safetensors", "*.json", "*.txt", "*.jinja", "LICENSE*", "NOTICE*")
UNWANTED = ("*/*", "consolidated*.safetensors")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


def is_hub_name(source: str | Path) -> bool:
    """Whether a source reads as `owner/name` or `owner/name@revision`."""
    return bool(_NAME.fullmatch(str(source)))


def download(source: str | Path) -> Path:
    """The folder of a model of the hub, in the cache; only what is missing there is fetched.

    Set HF_HUB_OFFLINE=1 to use the cache alone, HF_HOME to move it, and HF_TOKEN for models behind a form.

    Args:
        source: `owner/name`, or `owner/name@revision`: a branch, a tag, or a commit, which alone pins the files for
            good.

    Raises:
        CheckpointError: there is no such model or revision, it needs a token, or it cannot be reached and is not in
            the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    name, _, revision = str(source).partition("@")
    warn_of_licence(licence_by_name([name]), name)
    at = f"{name} at revision {revision}" if revision else name
    try:
        return Path(
            snapshot_download(
                name, revision=revision or None, allow_patterns=list(WANTED), ignore_patterns=list(UNWANTED)
            )
        )
    except GatedRepoError as error:
        raise CheckpointError(
            f"{at}: is behind a form on the hub: accept it at https://huggingface.co/{name}, then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"{at}: the hub has no such model, and there is no such folder here") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{at}: the model has no such revision: name a branch, a tag or a commit") from error
    except HFValidationError as error:
        raise CheckpointError(f"{at}: is no name of a model: {error}") from error
    except Exception as error:  # the border to a network: no connection, a proxy's word, a full disk, a broken answer
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(
            f"{at}: is no folder here and not whole in the hub's cache, and the hub cannot be reached ({said}): "
            f"check the network, or copy the model's folder here and name that"
        ) from error
