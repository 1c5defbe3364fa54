"""The weights that samples of a coming step are drawn from, kept on disk until these samples are there.

So they outlive the update that moves the model, and a killed run: it samples from the same weights again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from open_exaone.base.errors import RunFolderError
from open_exaone.base.files import write_atomically
from open_exaone.model.lora import plain_weights
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.buffer import asked_key, weights_digest


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model as it was behind some step of sampling."""

    path: Path  # its weights, by their published names; written where they may still be needed
    digest: str  # of its weights
    version: int  # how many optimizer steps it had made

    def key(self, asked: object) -> str:
        """See `buffer.buffer_key`."""
        return asked_key(self.digest, asked)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Raises:
        RunFolderError: the file is gone or cannot be read.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 - a file of safetensors is no mapping
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise RunFolderError(
                f"{self.path}: the weights that the next samples are drawn from cannot be read ({error}): remove the "
                "stage's last checkpoint, and run the same command again"
            ) from error


def take_snapshot(model: LanguageModel, path: Path) -> Snapshot:
    """Writes the model as it is, atomically.

    Raises:
        RunFolderError: the file cannot be written.
    """
    from safetensors.torch import save_file

    weights = {name: weight.detach().cpu().contiguous() for name, weight in plain_weights(model)}
    write_atomically(path, lambda temporary: save_file(weights, temporary))
    return Snapshot(path, weights_digest(model), model.version)
