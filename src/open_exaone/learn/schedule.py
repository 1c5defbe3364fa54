"""The learning rate of each step: warm-up, then one of four ways down. No torch here."""

import math

from open_exaone.learn.config import OptimizerConfig


def rate_at(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """The learning rate of step `step` (from 0) as a share of the peak.

    The warm-up's last step is at the peak. Every schedule but "constant" ends at `final`, so their warm-up never covers
    the last step. A single step is at the peak.
    """
    last = num_steps - 1
    if last == 0:
        return 1.0
    has_end = config.schedule != "constant"
    warmup_steps = min(_whole(config.warmup * num_steps), num_steps - has_end)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    peak = max(0, warmup_steps - 1)  # the step from which the rate may fall
    done = (step - peak) / (last - peak)
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            left = 1 - done
        case "cosine":
            left = 0.5 * (1 + math.cos(math.pi * done))
        case "wsd":  # Hu et al. 2024, arXiv 2404.06395, section 4; the straight line is Hägele et al.'s, 2405.18392
            decay_steps = min(max(1, _whole(config.decay * num_steps)), last - peak)
            left = min(1.0, (last - step) / decay_steps)
    return left + config.final * (1 - left)


def _whole(steps: float) -> int:
    """Rounded up, but for what is no more than the rounding of a product."""
    return math.ceil(steps - 1e-9)
