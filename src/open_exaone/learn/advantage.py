"""From the rewards of a group to how much better than its siblings each completion was."""

from torch import Tensor


def group_relative(rewards_PG: Tensor, *, divide_by_std: bool = True, epsilon: float = 1e-4) -> Tensor:
    """advantages_PG = (r - mean of its group) / (standard deviation of its group + epsilon).

    GRPO, Shao et al. 2024, arXiv 2402.03300, section 4.1.2. Without the division it is Dr. GRPO's
    advantage (Liu et al. 2025, arXiv 2503.20783). A group whose rewards are all equal gets zeros.
    """
    centred_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if not divide_by_std:
        return centred_PG
    return centred_PG / (rewards_PG.std(dim=1, keepdim=True, correction=0) + epsilon)
