"""Floor 1: the CPU's fast paths, written in C++ and compiled on first use, each beside its plain reference."""

from open_exaone.kernels.attention import attention
from open_exaone.kernels.elementwise import add_rms_norm, norm_rope, rms_norm, swiglu
from open_exaone.kernels.softmax_loss import logprobs_and_entropy, softmax_loss

__all__ = [
    "add_rms_norm",
    "attention",
    "logprobs_and_entropy",
    "norm_rope",
    "rms_norm",
    "softmax_loss",
    "swiglu",
]
