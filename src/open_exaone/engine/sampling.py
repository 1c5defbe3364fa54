"""From logits to one token a row, and how likely it was."""

from typing import NamedTuple

import torch
from torch import Tensor

from open_exaone.model.logprobs import token_logprobs

GREEDY_BELOW = 1e-5  # temperatures that are as good as 0, and whose quotients leave float32 (vLLM's limit too)


class Drawn(NamedTuple):
    """One token a row."""

    ids_B: Tensor
    logprobs_B: Tensor  # under the raw model at temperature 1
    sampling_logprobs_B: Tensor  # under the distribution sampled from; 0 when greedy


def draw(
    logits_BV: Tensor, temperature: float, top_p: float, uniforms_B: Tensor, taken_off_BV: Tensor | None = None
) -> Drawn:
    """Draws by inverting the cumulative distribution at `uniforms_B`, so a row depends on its own number.

    Args:
        logits_BV: float32.
        temperature: 0 means the most likely token; so does all below `GREEDY_BELOW`.
        top_p: keep the fewest most likely tokens whose probabilities reach it (Holtzman et al. 2020).
        uniforms_B: in [0, 1).
        taken_off_BV: penalties, taken off the logits before anything else; the raw model knows none.
    """
    scores_BV = logits_BV if taken_off_BV is None else logits_BV - taken_off_BV
    if temperature < GREEDY_BELOW:
        ids_B = scores_BV.argmax(-1)
        return Drawn(ids_B, token_logprobs(logits_BV, ids_B), torch.zeros_like(uniforms_B))
    probs_BV = torch.softmax(scores_BV / temperature, dim=-1)
    ids_B = torch.empty(len(probs_BV), dtype=torch.long, device=probs_BV.device)
    masses_B = torch.ones_like(uniforms_B)
    if top_p < 1:
        # Where one token alone reaches top_p there is nothing to sort and nothing to draw.
        best_B, ids_B = probs_BV.max(-1)
        masses_B = best_B.clone()
        open_X = (best_B < top_p).nonzero().squeeze(-1)
    else:
        open_X = torch.arange(len(probs_BV), device=probs_BV.device)
    if len(open_X):
        kept_XV = nucleus(probs_BV[open_X], top_p)
        cumulative_XV = kept_XV.cumsum(-1)
        totals_X1 = cumulative_XV[:, -1:]
        chosen_X1 = torch.searchsorted(cumulative_XV, uniforms_B[open_X, None] * totals_X1, right=True)
        last_X1 = (kept_XV > 0).long().cumsum(-1).argmax(-1, keepdim=True)  # rounding must not pass the last one
        ids_B[open_X] = torch.minimum(chosen_X1, last_X1).squeeze(-1)
        masses_B[open_X] = totals_X1.squeeze(-1)
    chosen_B = probs_BV.gather(-1, ids_B[:, None]).squeeze(-1)
    return Drawn(ids_B, token_logprobs(logits_BV, ids_B), (chosen_B / masses_B).log())


def nucleus(probs_BV: Tensor, top_p: float) -> Tensor:
    """Sets to zero all but the fewest most likely tokens whose probabilities reach `top_p`."""
    if top_p >= 1:
        return probs_BV
    sorted_BV, order_BV = probs_BV.sort(dim=-1, descending=True, stable=True)
    dropped_BV = sorted_BV.cumsum(-1) - sorted_BV >= top_p
    return torch.zeros_like(probs_BV).scatter_(-1, order_BV, sorted_BV.masked_fill(dropped_BV, 0.0))
