"""From a batch to the log-probabilities that every loss is made of."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from open_exaone.base import interrupt
from open_exaone.data.batch import Batch, pack, shares, singles
from open_exaone.data.document import Document
from open_exaone.model.exchange import joined, total
from open_exaone.model.logprobs import linear_logprobs
from open_exaone.model.packed import Packed, PackedPart, rounded
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.parallel.world import ALONE, World, share_of


class Learned(NamedTuple):
    """The M learned tokens of a batch, document after document; of a row that ranks split, those of this rank."""

    x_MD: Tensor  # the hidden states that predict them
    ids_M: Tensor
    documents_M: Tensor  # which document each belongs to; of all ranks' tokens
    places_M: Tensor | None = None  # among all ranks' tokens, where the row is split
    context: Any = None  # the ranks that it is split among

    def joined(self, values_M: Tensor) -> Tensor:
        """The values of all ranks' tokens."""
        if self.places_M is None:
            return values_M
        return joined(values_M, self.places_M, len(self.documents_M), self.context)

    def total(self, value: Tensor) -> Tensor:
        """The sum over all ranks of what each has of its tokens."""
        return value if self.context is None else total(value, self.context)


def learned_states(model: LanguageModel, batch: Batch) -> Learned:
    """Runs the decoder; of its states only those that predict a learned token are kept."""
    device, sharing = model.device, model.sharing
    ids_T, starts_E = torch.from_numpy(batch.ids_T).to(device), torch.from_numpy(batch.starts_E)
    prefix_J = torch.from_numpy(batch.prefix_J)
    divisor = 1 if sharing is None else sharing.divisor
    if missing := -(-rounded(len(ids_T), device) // divisor) * divisor - len(
        ids_T
    ):  # made up by a segment that nothing learns from
        ids_T, prefix_J = F.pad(ids_T, (0, missing)), F.pad(prefix_J, (0, 1), value=-1)
        starts_E = torch.cat((starts_E, starts_E[-1:] + missing))
    packed = Packed(starts_E, device, prefix_J)
    learned_M = torch.from_numpy(np.flatnonzero(batch.loss_mask_T)).to(device)
    documents_M = torch.from_numpy(batch.learned_documents_M).to(device)
    if sharing is not None and sharing.context is not None:
        return _part(model, ids_T, PackedPart(packed, sharing.context), learned_M, documents_M)
    x_TD = model.model(ids_T[None], packed=packed)[0]
    return Learned(x_TD[learned_M - 1], ids_T[learned_M], documents_M)  # the token before it predicts it


def _part(model: LanguageModel, ids_T: Tensor, part: PackedPart, learned_M: Tensor, documents_M: Tensor) -> Learned:
    """The same of this rank's part of a row."""
    x_TD = model.model(ids_T[part.places_T][None], packed=part)[0]
    own_T = torch.full_like(ids_T, -1)  # of the row: as which of this rank's tokens it has each
    own_T[part.places_T] = torch.arange(len(part.places_T), device=ids_T.device)
    own_M = own_T[learned_M - 1]
    places_M = torch.nonzero(own_M >= 0)[:, 0]
    return Learned(x_TD[own_M[places_M]], ids_T[learned_M[places_M]], documents_M, places_M, part.mesh)


def learned_logprobs(model: LanguageModel, batch: Batch, temperature: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """The learned tokens' log-probabilities, the entropies they were drawn at, and their documents.

    Args:
        temperature: that the tokens were drawn at; logits are divided by it.

    Returns:
        logprobs_M, entropies_M (without gradient), documents_M; float32, float32, int64.
    """

    def compute() -> tuple[Tensor, Tensor, Tensor]:
        learned = learned_states(model, batch)
        x_MD = learned.x_MD if temperature == 1.0 else learned.x_MD / temperature
        logprobs_M, entropies_M = linear_logprobs(x_MD, model.lm_head.weight, learned.ids_M)
        return learned.joined(logprobs_M), learned.joined(entropies_M), learned.documents_M

    return model.within(compute)


@torch.no_grad()
def document_logprobs(
    model: LanguageModel,
    documents: Sequence[Document],
    max_tokens: int,
    temperature: float = 1.0,
    world: World = ALONE,
) -> list[NDArray[np.float32]]:
    """Of each document, the log-probabilities of its learned tokens; the first token must not be one.

    Args:
        max_tokens: of a micro-batch.
        world: the ranks that share out the documents; each gets all log-probabilities.

    Raises:
        Interrupted: at Ctrl-C or SIGTERM, between micro-batches.
    """
    if world.size > 1:
        return _shared_logprobs(model, documents, max_tokens, temperature, world)

    @torch.no_grad()  # of the worker's thread
    def compute(batch: Batch) -> tuple[Batch, NDArray[np.float32]]:
        interrupt.check()
        return batch, learned_logprobs(model, batch, temperature)[0].cpu().numpy()

    found: dict[int, NDArray[np.float32]] = {}
    with computing(model, "train") as workers:
        for batch, logprobs_M in workers.map(compute, pack(singles(documents), max_tokens)):
            ends = np.cumsum(np.bincount(batch.learned_documents_M, minlength=len(batch.units_D)))
            found |= dict(zip(batch.units_D.tolist(), np.split(logprobs_M, ends[:-1]), strict=True))
    return [found[place] for place in range(len(documents))]


def _shared_logprobs(
    model: LanguageModel, documents: Sequence[Document], max_tokens: int, temperature: float, world: World
) -> list[NDArray[np.float32]]:
    lengths = [int(np.count_nonzero(document.loss_mask)) for document in documents]
    ends = np.cumsum(lengths)
    values_M = np.zeros(sum(lengths), np.float32)  # of all documents; 0 for those of other ranks
    share = share_of(world, model.sharing)
    places = shares(singles(documents), share.number)[share.place]

    def compute() -> None:
        found = document_logprobs(model, [documents[place] for place in places], max_tokens, temperature)
        for place, logprobs_M in zip(places, found, strict=True) if share.is_first else ():
            values_M[ends[place] - lengths[place] : ends[place]] = logprobs_M

    world.gather(compute)
    return np.split(world.total(values_M), ends[:-1])


def summed(values_M: Tensor, documents_M: Tensor, num_documents: int) -> Tensor:
    """The sum of each document's values, [D]."""
    return values_M.new_zeros(num_documents).index_add(0, documents_M, values_M)
