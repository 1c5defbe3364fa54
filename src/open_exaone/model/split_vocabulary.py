"""The softmax over a vocabulary of which each rank has a part: logits are never gathered."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from open_exaone.model.sharding import is_sharded


class Softmax(NamedTuple):
    """Over the whole vocabulary, for each of C tokens; float32."""

    size_C: Tensor  # log Σ_v exp logit_v
    chosen_C: Tensor  # the logit of the token's id
    mean_C: Tensor  # of all logits
    expected_C: Tensor  # Σ_v p_v logit_v

    @property
    def entropies_C(self) -> Tensor:
        """In nats."""
        return self.size_C - self.expected_C


@dataclass(frozen=True)
class Vocabulary:
    """The part of the vocabulary that a rank has."""

    first: int  # id
    number: int  # ids of this rank
    total: int
    group: Any  # the ranks that have all of it together; None: this one alone

    @classmethod
    def of(cls, weight_VD: Tensor) -> "Vocabulary | None":
        """None for a matrix that is whole."""
        if not is_sharded(weight_VD):
            return None
        mesh = weight_VD.device_mesh  # type: ignore[attr-defined]
        number = weight_VD.shape[0] // mesh.size()
        return cls(mesh.get_local_rank() * number, number, weight_VD.shape[0], mesh.get_group())

    @classmethod
    def all_of(cls, number: int) -> "Vocabulary":
        """One that this rank has alone."""
        return cls(0, number, number, None)

    def own(self, ids_X: Tensor) -> tuple[Tensor, Tensor]:
        """The ids as numbers of this rank's rows, 0 for those of other ranks; and which are its own."""
        own_X = ids_X - self.first
        is_own_X = (own_X >= 0) & (own_X < self.number)
        return own_X.where(is_own_X, 0), is_own_X

    def softmax(self, logits_CV: Tensor, ids_C: Tensor) -> Softmax:
        """Args:
        logits_CV: of this rank's ids.
        """
        logits_CV = logits_CV.float()
        own_C, is_own_C = self.own(ids_C)
        most_C = logits_CV.amax(-1)
        self._reduce(most_C, dist.ReduceOp.MAX)
        exp_CV = (logits_CV - most_C[:, None]).exp_()
        sums_XC = torch.stack(
            (
                exp_CV.sum(-1),
                logits_CV.gather(1, own_C[:, None])[:, 0] * is_own_C,
                logits_CV.sum(-1),
                (exp_CV * logits_CV).sum(-1),
            )
        )
        self._reduce(sums_XC, dist.ReduceOp.SUM)
        exp_C, chosen_C, sum_C, weighted_C = sums_XC
        return Softmax(most_C + exp_C.log(), chosen_C, sum_C / self.total, weighted_C / exp_C)

    def _reduce(self, values: Tensor, how: Any) -> None:
        if self.group is not None:
            dist.all_reduce(values, how, group=self.group)

    def logprobs_and_entropy(self, logits_CV: Tensor, ids_C: Tensor) -> tuple[Tensor, Tensor]:
        """As `kernels.logprobs_and_entropy`."""
        found = self.softmax(logits_CV, ids_C)
        return found.chosen_C - found.size_C, found.entropies_C

    def softmax_loss(self, logits_CV: Tensor, ids_C: Tensor, coefficients_C: Tensor) -> tuple[Tensor, Tensor]:
        """As `kernels.softmax_loss`: the logits become c · (onehot(id) - softmax(logits))."""
        found = self.softmax(logits_CV, ids_C)
        gradient_CV = (logits_CV.float() - found.size_C[:, None]).exp_().neg_()
        self.add_at(gradient_CV, ids_C, 1.0)
        logits_CV.copy_(gradient_CV * coefficients_C[:, None])
        return found.chosen_C - found.size_C, found.entropies_C

    def add_at(self, values_CV: Tensor, ids_C: Tensor, value: float) -> None:
        """Adds a value at each token's id, where that is this rank's."""
        own_C, is_own_C = self.own(ids_C)
        values_CV.scatter_add_(1, own_C[:, None], (is_own_C * value).to(values_CV.dtype)[:, None])
