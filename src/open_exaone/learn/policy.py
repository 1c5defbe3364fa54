"""Policy losses over the tokens of sampled completions."""

from torch import Tensor


def grpo(
    logprobs_M: Tensor,
    old_logprobs_M: Tensor,
    advantages_M: Tensor,
    denominator: float,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
) -> Tensor:
    """Clipped policy-gradient loss: -Σ min(ρ A, clip(ρ, 1 - low, 1 + high) A) / denominator.

    ρ = exp(logprob - old logprob), a token at a time. Shao et al. 2024, arXiv 2402.03300, equation 3,
    without its KL term; `clip_high` above `clip_low` and a denominator counted in tokens are DAPO's
    (Yu et al. 2025, arXiv 2503.14476). What variant of GRPO trained EXAONE Deep was not published.

    Args:
        logprobs_M: of the M sampled tokens under the policy being trained.
        old_logprobs_M: under the policy that sampled them, which did so at temperature 1.
        advantages_M: each token carries its completion's advantage.
        denominator: how many tokens the whole optimizer step has.
        clip_low: how far below 1 a ratio may push.
        clip_high: how far above 1.
    """
    ratio_M = (logprobs_M - old_logprobs_M).exp()
    clipped_M = ratio_M.clamp(1 - clip_low, 1 + clip_high)
    return -(ratio_M * advantages_M).minimum(clipped_M * advantages_M).sum() / denominator
