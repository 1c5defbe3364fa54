"""From the rewards of a step's groups to how much better than its siblings each completion was.

Everywhere, members that are not valid count in no mean and get 0, and so does a whole group with fewer than two valid
members, or whose rewards differ by no more than rounding: exactly 0, as optimizers that forget the gradient's scale
(Adam, Muon) would learn from the rounding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from open_exaone.learn.config import REWARD_ROUNDING
from open_exaone.learn.policy_parts import PolicyLossConfig

_SMALLEST_SIZE = 1e-6


@dataclass(frozen=True, slots=True)
class Rewards:
    """What is known of P groups of G completions, [P, G] each."""

    rewards_PG: Tensor  # any number, or NaN, where a member is not valid
    is_valid_PG: Tensor  # bool; False leaves a member out
    sizes_PG: Tensor | None = None  # of what each reward is a sum: Σ |term|, whose rounding it has; |r| where None
    is_correct_PG: Tensor | None = None  # bool, by the verdict; needed by `agapo` alone


class Advantages(NamedTuple):
    """What a step learns from."""

    advantages_PG: Tensor
    is_kept_P: Tensor  # bool; the other groups are set aside: they are in no loss and no denominator


def advantages_of(rewards: Rewards, settings: PolicyLossConfig) -> Advantages:
    """The advantages that a loss's settings ask for, and which groups are learned from."""
    return ADVANTAGES[settings.advantage](rewards, settings)


def group_relative(
    rewards_PG: Tensor,
    *,
    is_valid_PG: Tensor | None = None,
    sizes_PG: Tensor | None = None,
    divide_by_std: bool = True,
    epsilon: float = 1e-4,
) -> Tensor:
    """advantages_PG = (r - mean of its group) / (standard deviation of its group + epsilon).

    GRPO, Shao et al. 2024, arXiv 2402.03300, section 4.1.2. Without the division it is Dr. GRPO's advantage (Liu et al.
    2025, arXiv 2503.20783). The deviation is the population's.

    Args:
        rewards_PG: any number, or NaN, where a member is not valid.
        is_valid_PG: bool; False leaves a member out. All are valid where None.
        sizes_PG: of what each reward is a sum: Σ |term|, whose rounding it has. |r| where None.
    """
    centred_PG, counts_P1 = _centred(rewards_PG, is_valid_PG, sizes_PG)
    if not divide_by_std:
        return centred_PG
    return centred_PG / ((centred_PG.square().sum(dim=1, keepdim=True) / counts_P1).sqrt() + epsilon)


def leave_one_out(rewards_PG: Tensor, *, is_valid_PG: Tensor | None = None, sizes_PG: Tensor | None = None) -> Tensor:
    """advantages_PG = r - mean of the other members of its group.

    RLOO, Ahmadian et al. 2024, arXiv 2402.14740, equation 7. It is n / (n - 1) times the centred reward, n the number
    of valid members. Arguments as those of `group_relative`.
    """
    centred_PG, counts_P1 = _centred(rewards_PG, is_valid_PG, sizes_PG)
    return centred_PG * counts_P1 / (counts_P1 - 1).clamp(min=1)


def batch_normalised(
    rewards_PG: Tensor,
    *,
    is_valid_PG: Tensor | None = None,
    sizes_PG: Tensor | None = None,
    epsilon: float = 1e-4,
) -> Tensor:
    """advantages_PG = centred reward / (standard deviation of all centred rewards of the batch + epsilon).

    REINFORCE++ with baseline, Hu et al. 2025, arXiv 2501.03262, section 3. The batch is all valid members, those of
    groups without variance too; the mean of centred rewards is 0. Arguments as those of `group_relative`.
    """
    centred_PG, _ = _centred(rewards_PG, is_valid_PG, sizes_PG)
    number = centred_PG.numel() if is_valid_PG is None else max(1, int(is_valid_PG.sum()))
    return centred_PG / ((centred_PG.square().sum() / number).sqrt() + epsilon)


def agapo_advantages(
    rewards_PG: Tensor,
    is_correct_PG: Tensor,
    *,
    is_valid_PG: Tensor | None = None,
    sizes_PG: Tensor | None = None,
    all_wrong_advantage: float | Literal["drop"] = -0.1,
) -> Advantages:
    """AGAPO: leave-one-out in the group, normalised over the batch; all-correct groups leave, all-wrong ones stay.

    A = (LOO - mean of all LOO) / standard deviation of all LOO: EXAONE 4.0, arXiv 2507.11407, equation 2. The mean is
    0, as groups are whole. Ours: the (population) deviation is that of the valid members of the groups that stay, and
    where it is 0 all A are 0; `all_wrong_advantage` is added to every valid member of an all-wrong group behind the
    normalisation, which alone gives it 0.

    Args:
        is_correct_PG: bool, by the verdict: all-correct and all-wrong are decided by it, among valid members.
        all_wrong_advantage: 0 leaves equation 2 as it is printed. "drop" sets groups aside whose rewards are all equal,
            and no others: K-EXAONE's filter.

    Returns:
        advantages, and which groups stay: those whose rewards differ and that are not all correct, and all-wrong ones.
    """
    is_valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if is_valid_PG is None else is_valid_PG
    loo_PG = leave_one_out(rewards_PG, is_valid_PG=is_valid_PG, sizes_PG=sizes_PG)
    has_siblings_P = is_valid_PG.sum(dim=1) > 1
    all_correct_P = (is_correct_PG | ~is_valid_PG).all(dim=1)
    all_wrong_P = has_siblings_P & ~(is_correct_PG & is_valid_PG).any(dim=1)
    stays_P = has_siblings_P & ~all_correct_P & (loo_PG.any(dim=1) | all_wrong_P)
    constant = all_wrong_advantage
    if constant == "drop":
        constant, stays_P = 0.0, loo_PG.any(dim=1)
    counted_PG = is_valid_PG & stays_P[:, None]
    loo_PG = loo_PG.where(counted_PG, 0.0)
    std = (loo_PG.square().sum() / counted_PG.sum().clamp(min=1)).sqrt()
    is_wrong_PG = (counted_PG & all_wrong_P[:, None]).to(loo_PG.dtype)
    advantages_PG = loo_PG / std.where(std > 0, 1.0) + constant * is_wrong_PG
    return Advantages(advantages_PG, stays_P)


def _centred(rewards_PG: Tensor, is_valid_PG: Tensor | None, sizes_PG: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rewards less their group's mean, exactly 0 where they are equal or alone, and how many members are valid."""
    if not rewards_PG.is_floating_point():
        rewards_PG = rewards_PG.float()
    is_valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if is_valid_PG is None else is_valid_PG
    rewards_PG = rewards_PG.where(is_valid_PG, 0.0)
    counts_P1 = is_valid_PG.sum(dim=1, keepdim=True).clamp(min=1)
    means_P1 = rewards_PG.sum(dim=1, keepdim=True) / counts_P1
    centred_PG = (rewards_PG - means_P1).where(is_valid_PG, 0.0)
    sizes_PG = rewards_PG.abs() if sizes_PG is None else sizes_PG.where(is_valid_PG, 0.0)
    return centred_PG.where(_differ_P1(rewards_PG, is_valid_PG, sizes_PG), 0.0), counts_P1


def _differ_P1(rewards_PG: Tensor, is_valid_PG: Tensor, sizes_PG: Tensor) -> Tensor:
    """Whether a group's valid rewards differ by more than rounding."""
    highest_P1 = rewards_PG.where(is_valid_PG, -torch.inf).amax(dim=1, keepdim=True)
    lowest_P1 = rewards_PG.where(is_valid_PG, torch.inf).amin(dim=1, keepdim=True)
    return highest_P1 - lowest_P1 > REWARD_ROUNDING * sizes_PG.amax(dim=1, keepdim=True).clamp(min=_SMALLEST_SIZE)


def _whole(advantages_PG: Tensor) -> Advantages:
    """Groups whose advantages are not all 0 are learned from."""
    return Advantages(advantages_PG, advantages_PG.any(dim=1))


def _agapo(r: Rewards, settings: PolicyLossConfig) -> Advantages:
    assert r.is_correct_PG is not None  # the caller has verdicts
    constant: float | Literal["drop"] = getattr(settings, "all_wrong_advantage", "drop")
    return agapo_advantages(
        r.rewards_PG, r.is_correct_PG, is_valid_PG=r.is_valid_PG, sizes_PG=r.sizes_PG, all_wrong_advantage=constant
    )


ADVANTAGES: Mapping[str, Callable[[Rewards, PolicyLossConfig], Advantages]] = {
    "group_relative": lambda r, settings: _whole(
        group_relative(
            r.rewards_PG, is_valid_PG=r.is_valid_PG, sizes_PG=r.sizes_PG, divide_by_std=settings.divide_by_std
        )
    ),
    "leave_one_out": lambda r, _: _whole(leave_one_out(r.rewards_PG, is_valid_PG=r.is_valid_PG, sizes_PG=r.sizes_PG)),
    "batch_normalised": lambda r, _: _whole(
        batch_normalised(r.rewards_PG, is_valid_PG=r.is_valid_PG, sizes_PG=r.sizes_PG)
    ),
    "agapo": _agapo,
}
