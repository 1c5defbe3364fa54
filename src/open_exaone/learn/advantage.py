"""From the rewards of a group to how much better than its siblings each completion was."""

import torch
from torch import Tensor

# Rewards are equal where they lie no farther apart than this share of their size: four steps of float32, so that sums
# of weighted terms are covered, which differ by their rounding alone.
ROUNDING = 4 * torch.finfo(torch.float32).eps
_SMALLEST_SIZE = 1e-6


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
    2025, arXiv 2503.20783). Mean and deviation are those of the valid members; a member that is not valid gets 0. So
    does a whole group with fewer than two valid members, or whose rewards differ by no more than rounding: exactly 0,
    as optimizers that forget the gradient's scale (Adam, Muon) would learn from the rounding.

    Args:
        rewards_PG: any number, or NaN, where a member is not valid.
        is_valid_PG: bool; False leaves a member out. All are valid where None.
        sizes_PG: of what each reward is a sum: Σ |term|, whose rounding it has. |r| where None.
    """
    if not rewards_PG.is_floating_point():
        rewards_PG = rewards_PG.float()
    is_valid_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if is_valid_PG is None else is_valid_PG
    rewards_PG = rewards_PG.where(is_valid_PG, 0.0)
    counts_P1 = is_valid_PG.sum(dim=1, keepdim=True).clamp(min=1)
    means_P1 = rewards_PG.sum(dim=1, keepdim=True) / counts_P1
    centred_PG = (rewards_PG - means_P1).where(is_valid_PG, 0.0)
    sizes_PG = rewards_PG.abs() if sizes_PG is None else sizes_PG.where(is_valid_PG, 0.0)
    centred_PG = centred_PG.where(_differ_P1(rewards_PG, is_valid_PG, sizes_PG), 0.0)
    if not divide_by_std:
        return centred_PG
    return centred_PG / ((centred_PG.square().sum(dim=1, keepdim=True) / counts_P1).sqrt() + epsilon)


def _differ_P1(rewards_PG: Tensor, is_valid_PG: Tensor, sizes_PG: Tensor) -> Tensor:
    """Whether a group's valid rewards differ by more than rounding."""
    highest_P1 = rewards_PG.where(is_valid_PG, -torch.inf).amax(dim=1, keepdim=True)
    lowest_P1 = rewards_PG.where(is_valid_PG, torch.inf).amin(dim=1, keepdim=True)
    return highest_P1 - lowest_P1 > ROUNDING * sizes_PG.amax(dim=1, keepdim=True).clamp(min=_SMALLEST_SIZE)
