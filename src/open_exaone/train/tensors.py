"""From a batch to the log-probabilities that every loss is made of."""

from typing import NamedTuple

import torch
from torch import Tensor

from open_exaone.data.batch import Batch
from open_exaone.model.logprobs import token_logprobs
from open_exaone.model.transformer import LanguageModel


class Learned(NamedTuple):
    """The M learned tokens of a batch, row after row."""

    logprobs_M: Tensor  # float32, under the model being trained
    rows_M: Tensor  # which row each belongs to
    logits_MV: Tensor  # float32, what it was predicted with


def learned_logprobs(model: LanguageModel, batch: Batch) -> Learned:
    """Runs the model and looks up the learned tokens; logits are made for those alone."""
    device = model.device
    ids_BT = torch.from_numpy(batch.ids_BT).to(device)
    is_learned_BT = torch.from_numpy(batch.is_learned_BT).to(device)
    x_BTD = model.model(ids_BT)
    predicts_BT = torch.zeros_like(is_learned_BT)
    predicts_BT[:, :-1] = is_learned_BT[:, 1:]  # the token before it predicts it
    logits_MV = model.head(x_BTD[predicts_BT])
    rows_M = is_learned_BT.nonzero()[:, 0]
    return Learned(token_logprobs(logits_MV, ids_BT[is_learned_BT]), rows_M, logits_MV)
