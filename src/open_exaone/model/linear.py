"""Linear layers and the embedding of tokens, with weights that are whole or split among ranks."""

import torch.nn.functional as F
from torch import Tensor, nn

from open_exaone.model.sharding import local
from open_exaone.model.split_vocabulary import Vocabulary


class Linear(nn.Linear):
    """x Wᵀ + b; of a weight that is split, the rank's own part."""

    def forward(self, x_XD: Tensor) -> Tensor:
        return F.linear(x_XD, local(self.weight), None if self.bias is None else local(self.bias))


class Embedding(nn.Embedding):
    """A vector for each token; where the vocabulary is split, zeros for tokens of other ranks."""

    def forward(self, ids_BT: Tensor) -> Tensor:
        vocabulary = Vocabulary.of(self.weight)
        if vocabulary is None:
            return super().forward(ids_BT)
        own_BT, is_own_BT = vocabulary.own(ids_BT)
        return F.embedding(own_BT, local(self.weight)) * is_own_BT[..., None]
