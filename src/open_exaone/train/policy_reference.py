"""The reference model of a policy loss: the log-probabilities that a divergence is measured from."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from open_exaone.base.errors import RunFolderError
from open_exaone.base.files import write_atomically
from open_exaone.data.document import Document
from open_exaone.model.lora import plain_weights, without_lora
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.config import RlStage
from open_exaone.train.forward import document_logprobs
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.train.state import checkpoints


@dataclass
class Reference:
    """A frozen model; every `reference_refresh_steps` steps it becomes the policy as it then is.

    Adapters need no second model where the reference is what they are trained on. A refreshed reference is on disk in
    `reference/step-N.safetensors` before it is used, so that a resumed stage goes on with the same one; those that no
    saved state goes on with are deleted.
    """

    config: RlStage
    model: LanguageModel  # that is trained
    folder: Path  # the stage's
    open_start: Callable[[], LanguageModel] | None  # the model that it is at first; None: the trained one, no adapters
    world: World = ALONE
    _reference: LanguageModel | None = field(default=None, init=False)
    _since: int = field(default=-1, init=False)  # the step from which `_reference` holds

    def refresh(self, step: int) -> None:
        """Makes the trained model the reference where it is time for that; before the first update of step `step`."""
        if step and step == self._start_of(step):
            weights = {
                name: weight.detach().cpu().contiguous() if self.world.is_first else weight.new_empty(0)
                for name, weight in plain_weights(self.model)  # of a sharded model, each rank gathers them
            }
            self.world.lead(lambda: self._write(step, weights))
            self._since = -1

    def logprobs(self, documents: Sequence[Document], step: int) -> list[NDArray[np.float32]]:
        """Of each document, its learned tokens' log-probabilities under the reference of step `step`.

        Raises:
            RunFolderError: the refreshed reference is not on disk any more.
        """
        options, since = (self.config.micro_batch_tokens, self.config.temperature, self.world), self._start_of(step)
        if self.open_start is None and not since:
            with without_lora(self.model):
                return document_logprobs(self.model, documents, *options)
        return document_logprobs(self._model(since), documents, *options)

    def _start_of(self, step: int) -> int:
        """The step from which the reference of step `step` holds."""
        return 0 if self.config.reference_refresh_steps is None else step - step % self.config.reference_refresh_steps

    def _model(self, since: int) -> LanguageModel:
        if self._reference is None or self._since != since:
            if self._reference is None:
                self._reference = self.open_start() if self.open_start else self._empty()
            if since:
                self._read(since)
            self._reference.eval().requires_grad_(False)
            self._since = since
        return self._reference

    def _empty(self) -> LanguageModel:
        first = next(self.model.parameters())
        return LanguageModel(self.model.config).to(first.device, first.dtype)

    def _path(self, since: int) -> Path:
        return self.folder / "reference" / f"step-{since:06d}.safetensors"

    def _write(self, since: int, weights: dict[str, Tensor]) -> None:
        path = self._path(since)
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, lambda temporary: save_file(weights, temporary, {"sha256": _digest(weights)}))
        updates = self.config.num_updates
        saved = [int(state.name.removeprefix("step-")) for state in checkpoints(self.folder / "checkpoints")]
        saved.append(
            since * updates - since * updates % self.config.checkpoint_steps
        )  # may still be on its way to disk
        kept = {self._start_of(step // updates) for step in saved}
        for old in path.parent.glob("step-*.safetensors"):
            if old.name < path.name and old not in map(self._path, kept):
                old.unlink()

    @torch.no_grad()
    def _read(self, since: int) -> None:
        path = self._path(since)
        assert self._reference is not None
        try:
            with safe_open(path, "pt") as file:
                weights, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise RunFolderError(f"{path}: cannot be read ({error}): {_FIX}") from error
        if metadata != {"sha256": _digest(weights)}:
            raise RunFolderError(f"{path}: was changed after it was written (its checksum differs): {_FIX}")
        for name, weight in self._reference.named_parameters():
            weight.copy_(weights[name])


_FIX = "put it back, or train the stage anew in another folder"


def _digest(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
