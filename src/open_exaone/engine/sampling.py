"""From logits to one token a row, and how likely it was; every backend follows these definitions to the letter.

A row's logits x_V are changed and filtered in vLLM's order. All is float32 but the sums of weights, which are float64.

1. Bias: x += bias, for the ids of `logit_bias`.
2. Repetition penalty r: x = x / r where x > 0, else x * r, for every id of prompt or reply.
3. x -= frequency_penalty * n, n being how often the reply has the id; then x -= presence_penalty where n > 0.
4. A row whose highest x is not finite (NaN counts as highest) has failed: it draws nothing.
5. A temperature below `GREEDY_BELOW` takes the highest x, of equals the lowest id; its sampling log-probability is 0.
6. Others draw from weights w = exp(d), with d = x / temperature - max(x) / temperature.
7. min_p keeps d >= log(min_p).
8. top_k keeps d >= the k-th highest d that is left: equals of the k-th all stay.
9. top_p orders ids by falling d, equals by rising id, and keeps an id while the weights before it sum to less than
   top_p times the weight of all that is left; 1 keeps all (Holtzman et al. 2020).
10. Of the ids that are left, in rising order, the first is drawn whose cumulative weight exceeds uniform * their total.
    Its sampling log-probability is d - log(total).

A row uses one uniform number for each of its tokens, forced and greedy ones too. Equal logits and numbers give equal
tokens, except where a sum lies within float64's rounding of a limit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from open_exaone.base.records import Sampling
from open_exaone.model.logprobs import token_logprobs

GREEDY_BELOW = 1e-5  # temperatures that are as good as 0, and whose quotients leave float32 (vLLM's limit too)
NUM_CANDIDATES = 256  # of the most likely tokens, sorted first: all are only where these don't hold what is kept


class Drawn(NamedTuple):
    """One token a row."""

    ids_B: Tensor
    logprobs_B: Tensor  # under the raw model at temperature 1
    sampling_logprobs_B: Tensor  # under the distribution sampled from; 0 when greedy
    is_valid_B: Tensor  # False where a row has failed (step 4); its other values mean nothing


class TokenCounts:
    """Which ids each slot's prompt has, and how often its reply has each; only where a penalty needs them."""

    def __init__(self, num_slots: int, vocab_size: int, device: torch.device) -> None:
        self.in_prompt_BV = torch.zeros(num_slots, vocab_size, dtype=torch.bool, device=device)
        self.in_reply_BV = torch.zeros(num_slots, vocab_size, dtype=torch.int32, device=device)

    def enter(self, slot: int, prompt_ids: Sequence[int], reply_ids: Sequence[int] = ()) -> None:
        """Begins a slot anew, with what its sample has so far."""
        device = self.in_prompt_BV.device
        self.in_prompt_BV[slot] = False
        self.in_prompt_BV[slot, torch.tensor(prompt_ids, dtype=torch.long, device=device)] = True
        reply_T = torch.tensor(reply_ids, dtype=torch.long, device=device)
        self.in_reply_BV[slot] = torch.bincount(reply_T, minlength=self.in_reply_BV.shape[1])

    def add(self, slots: Sequence[int], ids_B: Tensor) -> None:
        """Counts one more token of each of these slots."""
        self.in_reply_BV[slots, ids_B] += 1

    def of(self, slots: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The rows of these slots."""
        return self.in_prompt_BV[slots], self.in_reply_BV[slots]


def needs_counts(sampling: Sampling) -> bool:
    """Whether what a row already has changes its logits."""
    return (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) != (0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Settings:
    """How rows are drawn: B is their number, or 1 where all are drawn alike."""

    temperature_B1: Tensor  # 1 where greedy
    is_greedy_B: Tensor
    min_d_B1: Tensor  # log(min_p)
    top_k_B1: Tensor  # V where all are kept
    top_p_B1: Tensor  # float64; infinity where all are kept
    repetition_B1: Tensor
    frequency_B1: Tensor
    presence_B1: Tensor
    biases: tuple[tuple[Tensor | slice, Tensor, Tensor], ...]  # rows [R, 1] or all; ids [N], what is added [N]
    max_top_k: int  # of those that are below V; 0 where there are none
    all_greedy: bool
    has_min_p: bool
    has_ranks: bool  # a top_k or a top_p
    has_penalties: bool

    @classmethod
    def of(cls, samplings: Sequence[Sampling], vocab_size: int, device: torch.device | str = "cpu") -> "Settings":
        """The settings of rows with these samplings; give one where all rows are drawn alike."""

        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        greedy = [one.temperature < GREEDY_BELOW for one in samplings]
        top_ks = [min(one.top_k or vocab_size, vocab_size) for one in samplings]
        top_ps = [one.top_p if one.top_p < 1 else math.inf for one in samplings]
        return cls(
            column([1.0 if is_greedy else one.temperature for one, is_greedy in zip(samplings, greedy, strict=True)]),
            torch.tensor(greedy, device=device),
            column([math.log(one.min_p) if one.min_p else -math.inf for one in samplings]),
            column(top_ks, torch.long),
            column(top_ps, torch.float64),
            column([one.repetition_penalty for one in samplings]),
            column([one.frequency_penalty for one in samplings]),
            column([one.presence_penalty for one in samplings]),
            _biases(samplings, device),
            max_top_k=max((top_k for top_k in top_ks if top_k < vocab_size), default=0),
            all_greedy=all(greedy),
            has_min_p=any(one.min_p for one in samplings),
            has_ranks=min(top_ks, default=vocab_size) < vocab_size or min(top_ps, default=1.0) < 1,
            has_penalties=any(map(needs_counts, samplings)),
        )

    def rows(self, values_B1: Tensor, rows_X: Tensor) -> Tensor:
        """The values of these rows; what holds for all as it is."""
        return values_B1 if len(values_B1) == 1 else values_B1[rows_X]


def _biases(
    samplings: Sequence[Sampling], device: torch.device | str
) -> tuple[tuple[Tensor | slice, Tensor, Tensor], ...]:
    rows_of: dict[tuple[tuple[int, float], ...], list[int]] = {}
    for row, sampling in enumerate(samplings):
        if sampling.logit_bias:
            rows_of.setdefault(tuple(dict(sampling.logit_bias).items()), []).append(row)
    return tuple(
        (
            slice(None) if len(samplings) == 1 else torch.tensor(rows, device=device)[:, None],
            torch.tensor([token for token, _ in biases], device=device),
            torch.tensor([bias for _, bias in biases], device=device),
        )
        for biases, rows in rows_of.items()
    )


def draw(
    logits_BV: Tensor, settings: Settings, uniforms_B: Tensor, counts: tuple[Tensor, Tensor] | None = None
) -> Drawn:
    """Draws a token for each row; a row depends on its own logits, settings, counts and number alone.

    Args:
        logits_BV: float32.
        uniforms_B: float32 in [0, 1).
        counts: `TokenCounts.of` these rows, which penalties need.
    """
    scores_BV = changed_scores(logits_BV, settings, counts)
    best_B, ids_B = scores_BV.max(-1)
    sampling_logprobs_B = torch.zeros_like(uniforms_B)
    if not settings.all_greedy:
        d_BV = scores_BV / settings.temperature_B1
        d_BV -= best_B[:, None] / settings.temperature_B1
        _sample(d_BV, settings, uniforms_B.double(), ids_B, sampling_logprobs_B)
    return Drawn(ids_B, token_logprobs(logits_BV, ids_B), sampling_logprobs_B, best_B.isfinite())


def changed_scores(logits_BV: Tensor, settings: Settings, counts: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Steps 1 to 3; the logits themselves where nothing changes them."""
    x_BV = logits_BV.clone() if settings.biases else logits_BV
    for rows, ids_N, biases_N in settings.biases:
        x_BV[rows, ids_N] += biases_N
    if settings.has_penalties:
        assert counts is not None
        in_prompt_BV, in_reply_BV = counts
        has_BV = in_reply_BV > 0
        changed_BV = torch.where(x_BV > 0, x_BV / settings.repetition_B1, x_BV * settings.repetition_B1)
        x_BV = torch.where(has_BV | in_prompt_BV, changed_BV, x_BV)
        x_BV = x_BV - settings.frequency_B1 * in_reply_BV
        x_BV -= settings.presence_B1 * has_BV
    return x_BV


def _sample(d_BV: Tensor, settings: Settings, uniforms_B: Tensor, ids_B: Tensor, logprobs_B: Tensor) -> None:
    """Steps 7 to 10, into `ids_B`, which holds the best ids, and `logprobs_B`; what needs no draw is left as it is."""
    if settings.has_min_p:
        d_BV.masked_fill_(d_BV < settings.min_d_B1, -math.inf)
    weights_BV = d_BV.exp()
    is_open_B = ~settings.is_greedy_B.expand(len(d_BV))
    if not settings.has_ranks:
        _draw_rows(is_open_B, d_BV, weights_BV, uniforms_B, ids_B, logprobs_B)
        return
    totals_B1 = weights_BV.sum(-1, keepdim=True, dtype=torch.float64)
    is_ranked_B1 = (settings.top_k_B1 < d_BV.shape[1]) | (settings.top_p_B1 < 1)
    if not is_ranked_B1.all():
        _draw_rows(is_open_B & ~is_ranked_B1[:, 0], d_BV, weights_BV, uniforms_B, ids_B, logprobs_B)
    # Where the best token alone reaches top_p there is nothing to sort; its weight is 1.
    rows_X = (is_open_B & (is_ranked_B1 & (settings.top_p_B1 * totals_B1 > 1))[:, 0]).nonzero()[:, 0]
    num_candidates = max(NUM_CANDIDATES, settings.max_top_k + 1)
    if 2 * num_candidates < d_BV.shape[1] and len(rows_X):
        values_XM, found_XM = d_BV[rows_X].topk(num_candidates, sorted=False)
        found_XM, order_XM = found_XM.sort()
        ranked = _Ranked(values_XM.gather(1, order_XM), settings, rows_X, totals_B1[rows_X])
        places_X, drawn_logprobs_X = _invert(ranked.d_XM, ranked.weights_XM, uniforms_B[rows_X])
        is_held_X = ranked.lowest_X > values_XM.min(-1).values  # all of what is kept is among the candidates
        ids_B[rows_X[is_held_X]] = found_XM.gather(1, places_X[:, None])[:, 0][is_held_X]
        logprobs_B[rows_X[is_held_X]] = drawn_logprobs_X[is_held_X]
        rows_X = rows_X[~is_held_X]
    if len(rows_X):
        ranked = _Ranked(d_BV[rows_X], settings, rows_X, totals_B1[rows_X])
        ids_B[rows_X], logprobs_B[rows_X] = _invert(ranked.d_XM, ranked.weights_XM, uniforms_B[rows_X])


def _draw_rows(
    is_drawn_B: Tensor, d_BV: Tensor, weights_BV: Tensor, uniforms_B: Tensor, ids_B: Tensor, logprobs_B: Tensor
) -> None:
    """Step 10 for some rows, from all ids that have a weight."""
    rows = slice(None) if is_drawn_B.all() else is_drawn_B
    ids_B[rows], logprobs_B[rows] = _invert(d_BV[rows], weights_BV[rows], uniforms_B[rows])


class _Ranked:
    """Steps 8 and 9 on M ids of each row, in rising order: the weights of those that stay, and the lowest d in it.

    Args:
        totals_X1: the weight of all that is left before step 8.
    """

    def __init__(self, d_XM: Tensor, settings: Settings, rows_X: Tensor, totals_X1: Tensor) -> None:
        top_k_X1, top_p_X1 = settings.rows(settings.top_k_B1, rows_X), settings.rows(settings.top_p_B1, rows_X)
        sorted_XM, order_XM = d_XM.sort(dim=-1, descending=True, stable=True)
        weights_XM = sorted_XM.exp()
        cumulative_XM = weights_XM.cumsum(-1, dtype=torch.float64)
        if settings.max_top_k:
            places_X1 = top_k_X1.expand(len(d_XM), 1).clamp(max=d_XM.shape[1]) - 1
            kth_X1 = sorted_XM.gather(1, places_X1).masked_fill(top_k_X1 > settings.max_top_k, -math.inf)
            stays_XM = sorted_XM >= kth_X1
            left_X1 = weights_XM.masked_fill(~stays_XM, 0.0).sum(-1, keepdim=True, dtype=torch.float64)
            totals_X1 = torch.where(top_k_X1 > settings.max_top_k, totals_X1, left_X1)
            lowest_X1 = kth_X1.masked_fill(kth_X1 == -math.inf, math.inf)  # its equals count in the total
        else:
            stays_XM = torch.ones_like(sorted_XM, dtype=torch.bool)
            lowest_X1 = torch.full_like(top_p_X1, math.inf, dtype=torch.float32)
        stays_XM &= cumulative_XM - weights_XM < top_p_X1 * totals_X1
        self.d_XM = d_XM
        kept_XM = torch.zeros_like(stays_XM).scatter_(1, order_XM, stays_XM)
        self.weights_XM = d_XM.exp().masked_fill_(~kept_XM, 0.0)
        self.lowest_X = torch.minimum(sorted_XM.masked_fill(~stays_XM, math.inf).min(-1).values, lowest_X1[:, 0])


def _invert(d_XM: Tensor, weights_XM: Tensor, uniforms_X: Tensor) -> tuple[Tensor, Tensor]:
    """Step 10: the place of the drawn id in each row, and its sampling log-probability."""
    cumulative_XM = weights_XM.cumsum(-1, dtype=torch.float64)
    totals_X1 = cumulative_XM[:, -1:]
    places_X1 = torch.searchsorted(cumulative_XM, uniforms_X[:, None] * totals_X1, right=True)
    places_X1.clamp_(max=d_XM.shape[1] - 1)  # of rows that have failed
    return places_X1[:, 0], (d_XM.gather(1, places_X1) - totals_X1.log().float())[:, 0]
