"""RMSNorm, alone and with the residual add that follows it."""

from torch import Tensor, nn

from open_exaone import kernels
from open_exaone.model.sharding import local


class RMSNorm(nn.RMSNorm):
    """x / √(mean(x²) + eps) · weight; the mean is taken in float32."""

    eps: float
    weight: nn.Parameter

    def forward(self, x_XD: Tensor) -> Tensor:
        return kernels.rms_norm(x_XD, local(self.weight), self.eps)


def add_norm(x_BTD: Tensor, y_BTD: Tensor, norm: nn.Module) -> Tensor:
    """x + norm(y): how a reordered norm joins a sublayer's output to the residual stream."""
    if isinstance(norm, RMSNorm):
        return kernels.add_rms_norm(x_BTD, y_BTD, local(norm.weight), norm.eps)
    return x_BTD + norm(y_BTD)
