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
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from open_exaone.base.records import Sampling, TopLogprobs
from open_exaone.model.logprobs import token_logprobs

GREEDY_BELOW = 1e-5  # temperatures that are as good as 0, and whose quotients leave float32 (vLLM's limit too)
NUM_CANDIDATES = 256  # of the most likely tokens, sorted first: all are only where these don't hold what is kept
ALL = 1 << 40  # of top_k: no limit


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
    is_greedy_B1: Tensor
    min_d_B1: Tensor  # log(min_p)
    top_k_B1: Tensor  # ALL where all are kept
    top_p_B1: Tensor  # float64; infinity where all are kept
    repetition_B1: Tensor
    frequency_B1: Tensor
    presence_B1: Tensor
    biases: tuple[tuple[Tensor | slice, Tensor, Tensor], ...]  # rows [R, 1] or all; ids [N], what is added [N]
    modes: "Modes"
    has_penalties: bool

    @classmethod
    def of(cls, samplings: Sequence[Sampling], vocab_size: int, device: torch.device | str = "cpu") -> "Settings":
        """The settings of rows with these samplings; give one where all rows are drawn alike."""

        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        rows = [RowSettings.of(sampling, vocab_size) for sampling in samplings]
        temperature_B1, is_greedy_B1, min_d_B1, top_k_B1, top_p_B1 = (
            column(values, dtype) for values, dtype in zip(zip(*rows, strict=True), ROW_DTYPES, strict=True)
        )
        return cls(
            temperature_B1,
            is_greedy_B1,
            min_d_B1,
            top_k_B1,
            top_p_B1,
            column([one.repetition_penalty for one in samplings]),
            column([one.frequency_penalty for one in samplings]),
            column([one.presence_penalty for one in samplings]),
            _biases(samplings, device),
            Modes.of(rows),
            has_penalties=any(map(needs_counts, samplings)),
        )

    def rows(self, rows_X: Tensor) -> "Settings":
        """Those by which these rows are drawn from their scores."""
        if len(self.top_k_B1) == 1:
            return self
        return replace(self, **{f"{name}_B1": getattr(self, f"{name}_B1")[rows_X] for name in RowSettings._fields})


class RowSettings(NamedTuple):
    """How one row is drawn from its scores."""

    temperature: float
    is_greedy: bool
    min_d: float
    top_k: int
    top_p: float

    @classmethod
    def of(cls, sampling: Sampling, vocab_size: int) -> "RowSettings":
        is_greedy = sampling.temperature < GREEDY_BELOW
        return cls(
            1.0 if is_greedy else sampling.temperature,
            is_greedy,
            math.log(sampling.min_p) if sampling.min_p else -math.inf,
            sampling.top_k if sampling.top_k and sampling.top_k < vocab_size else ALL,
            sampling.top_p if sampling.top_p < 1 else math.inf,
        )


ROW_DTYPES = (torch.float32, torch.bool, torch.float32, torch.long, torch.float64)  # of its fields


class Modes(NamedTuple):
    """Which ways of drawing some rows need; known without a look at the device."""

    has_draws: bool  # rows that are not greedy
    has_min_p: bool
    has_ranks: bool  # drawn rows with a top_k or a top_p
    has_unranked: bool  # drawn rows with neither

    @classmethod
    def of(cls, rows: Sequence[RowSettings]) -> "Modes":
        drawn = [row for row in rows if not row.is_greedy]
        is_ranked = [row.top_k != ALL or row.top_p < 1 for row in drawn]
        return cls(bool(drawn), any(row.min_d > -math.inf for row in drawn), any(is_ranked), not all(is_ranked))


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
    ids_B, sampling_logprobs_B, is_exact_B, is_valid_B = draw_quickly(scores_BV, settings, uniforms_B)
    if settings.modes.has_ranks and len(rows_X := (~is_exact_B).nonzero()[:, 0]):
        of_rows = settings.rows(rows_X)
        scores_XV = scores_BV[rows_X]
        d_XV = _exponents(scores_XV, scores_XV.amax(-1), of_rows)
        totals_X1 = d_XV.exp().sum(-1, keepdim=True, dtype=torch.float64)
        ids_B[rows_X], sampling_logprobs_B[rows_X], _ = _draw_ranked(d_XV, of_rows, totals_X1, uniforms_B[rows_X])
    return Drawn(ids_B, token_logprobs(logits_BV, ids_B), sampling_logprobs_B, is_valid_B)


def top_logprobs(logits_V: Tensor, number: int) -> TopLogprobs:
    """The most likely tokens of a row, before any of the steps."""
    logprobs_V, order_V = torch.log_softmax(logits_V, -1).sort(descending=True, stable=True)
    return TopLogprobs(tuple(order_V[:number].tolist()), tuple(logprobs_V[:number].tolist()))


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


def draw_quickly(scores_BV: Tensor, settings: Settings, uniforms_B: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Steps 5 to 10; ranks only the most likely tokens. No shape depends on values, and nothing waits for a GPU.

    Returns:
        ids_B; sampling_logprobs_B; is_exact_B, False where the most likely tokens do not hold all that top_k and top_p
        keep, or where the scores are no numbers; is_valid_B, False in the latter case.
    """
    modes = settings.modes
    best_B, ids_B = scores_BV.max(-1)
    is_valid_B = best_B.isfinite()
    logprobs_B, is_exact_B = torch.zeros_like(best_B), torch.ones_like(ids_B, dtype=torch.bool)
    if not modes.has_draws:
        return ids_B, logprobs_B, is_exact_B, is_valid_B
    d_BV = _exponents(scores_BV, best_B, settings)
    weights_BV = d_BV.exp()
    is_ranked_B1 = (settings.top_k_B1 < ALL) | (settings.top_p_B1 < 1)
    is_drawn_B = ~settings.is_greedy_B1[:, 0]
    if modes.has_unranked:
        drawn_B, drawn_logprobs_B = _invert(d_BV, weights_BV, uniforms_B)
        is_open_B = is_drawn_B & ~is_ranked_B1[:, 0]
        ids_B = torch.where(is_open_B, drawn_B, ids_B)
        logprobs_B = torch.where(is_open_B, drawn_logprobs_B, logprobs_B)
    if modes.has_ranks:
        totals_B1 = weights_BV.sum(-1, keepdim=True, dtype=torch.float64)
        # Where the best token alone reaches top_p there is nothing to rank; its weight is 1.
        is_sorted_B = is_drawn_B & (is_ranked_B1 & ~(settings.top_p_B1 * totals_B1 <= 1))[:, 0]
        if 2 * NUM_CANDIDATES < d_BV.shape[1]:
            values_BM, found_BM = d_BV.topk(NUM_CANDIDATES, sorted=False)
            found_BM, order_BM = found_BM.sort()
            places_B, drawn_logprobs_B, lowest_B = _draw_ranked(
                values_BM.gather(1, order_BM), settings, totals_B1, uniforms_B
            )
            drawn_B = found_BM.gather(1, places_B[:, None])[:, 0]
            is_exact_B = ~is_sorted_B | (lowest_B > values_BM.amin(-1))
        else:
            drawn_B, drawn_logprobs_B, _ = _draw_ranked(d_BV, settings, totals_B1, uniforms_B)
        ids_B = torch.where(is_sorted_B, drawn_B, ids_B)
        logprobs_B = torch.where(is_sorted_B, drawn_logprobs_B, logprobs_B)
    return ids_B, logprobs_B, is_exact_B, is_valid_B


def _exponents(scores_BV: Tensor, best_B: Tensor, settings: Settings) -> Tensor:
    """Steps 6 and 7: d_BV."""
    d_BV = scores_BV / settings.temperature_B1
    d_BV -= best_B[:, None] / settings.temperature_B1
    return d_BV.masked_fill_(d_BV < settings.min_d_B1, -math.inf) if settings.modes.has_min_p else d_BV


def _draw_ranked(
    d_XM: Tensor, settings: Settings, totals_X1: Tensor, uniforms_X: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps 8 to 10 on M ids of each row, in rising order.

    Args:
        totals_X1: the weight of all that is left before step 8.

    Returns:
        places_X among the M, sampling log-probabilities, and the lowest d of what top_k and top_p keep.
    """
    top_k_X1 = settings.top_k_B1.expand(len(d_XM), 1)
    sorted_XM, order_XM = d_XM.sort(dim=-1, descending=True, stable=True)
    weights_XM = sorted_XM.exp()
    cumulative_XM = weights_XM.cumsum(-1, dtype=torch.float64)
    is_limited_X1 = top_k_X1 < ALL
    kth_X1 = sorted_XM.gather(1, top_k_X1.clamp(max=d_XM.shape[1]) - 1)
    stays_XM = (sorted_XM >= kth_X1) | ~is_limited_X1
    left_X1 = weights_XM.masked_fill(~stays_XM, 0.0).sum(-1, keepdim=True, dtype=torch.float64)
    totals_X1 = torch.where(is_limited_X1, left_X1, totals_X1)
    stays_XM &= cumulative_XM - weights_XM < settings.top_p_B1 * totals_X1
    kept_XM = torch.zeros_like(stays_XM).scatter_(1, order_XM, stays_XM)
    places_X, logprobs_X = _invert(d_XM, d_XM.exp().masked_fill_(~kept_XM, 0.0), uniforms_X)
    # What equals the k-th counts in the total; what has no weight does not count.
    needed_XM = (stays_XM | (is_limited_X1 & (sorted_XM == kth_X1))) & (sorted_XM > -math.inf)
    return places_X, logprobs_X, sorted_XM.masked_fill(~needed_XM, math.inf).amin(-1)


def _invert(d_XM: Tensor, weights_XM: Tensor, uniforms_X: Tensor) -> tuple[Tensor, Tensor]:
    """Step 10: the place of the drawn id in each row, and its sampling log-probability."""
    cumulative_XM = weights_XM.cumsum(-1, dtype=torch.float64)
    totals_X1 = cumulative_XM[:, -1:]
    places_X1 = torch.searchsorted(cumulative_XM, uniforms_X[:, None].double() * totals_X1, right=True)
    places_X1.clamp_(max=d_XM.shape[1] - 1)  # of rows that have failed
    return places_X1[:, 0], (d_XM.gather(1, places_X1) - totals_X1.log().float())[:, 0]
