"""Optimizers with float32 master weights."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from open_exaone.learn.config import OptimizerConfig


class MasterOptimizer:
    """Keeps float32 copies of a model's weights, moves them, and writes them back in the model's dtype.

    Gradients are added up in float32 micro-batch by micro-batch, so a bfloat16 model loses nothing to
    accumulation. The update itself is torch's AdamW and Muon.
    """

    def __init__(self, model: nn.Module, masters: dict[str, Tensor], config: OptimizerConfig) -> None:
        """Args:
        masters: float32 weights by name; the model's own are set to them.
        """
        self.config = config
        self.weights: dict[str, nn.Parameter] = dict(model.named_parameters())
        self.masters = {
            name: nn.Parameter(masters[name].detach().to(weight.device, torch.float32, copy=True))
            for name, weight in self.weights.items()
        }
        self.optimizers = _build(self.masters, config)
        self._write_back()

    def accumulate(self) -> None:
        """Adds the model's gradients to the masters' and clears them."""
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            gradient = weight.grad.float()
            master = self.masters[name]
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            weight.grad = None

    def step(self, rate: float) -> float:
        """Moves the weights.

        Args:
            rate: this step's share of the peak learning rates.

        Returns:
            the gradient's norm before clipping. If it is not finite, nothing moves.
        """
        masters = [master for master in self.masters.values() if master.grad is not None]
        norm = float(nn.utils.clip_grad_norm_(masters, self.config.max_gradient_norm)) if masters else 0.0
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * rate
                optimizer.step()
            self._write_back()
        for master in masters:
            master.grad = None
        return norm

    @torch.no_grad()
    def _write_back(self) -> None:
        for name, weight in self.weights.items():
            weight.copy_(self.masters[name])

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but for the master weights: torch's own state dicts."""
        return {str(index): optimizer.state_dict() for index, optimizer in enumerate(self.optimizers)}

    def restore(self, masters: dict[str, Tensor], state: dict[str, dict[int, dict[str, Tensor]]]) -> None:
        """Takes up where `masters` and `state` were saved.

        Args:
            state: by optimizer's number and parameter's number, its tensors.

        Raises:
            KeyError: a weight is missing.
            RuntimeError: a weight has another shape.
        """
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(masters[name])
        for index, optimizer in enumerate(self.optimizers):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state.get(str(index), {}), "param_groups": groups})
        self._write_back()


def _build(masters: dict[str, nn.Parameter], config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    matrices = {n: w for n, w in masters.items() if config.kind == "muon" and w.ndim == 2 and ".layers." in n}
    others = {n: w for n, w in masters.items() if n not in matrices}
    decayed = [w for w in others.values() if w.ndim == 2]
    undecayed = [w for w in others.values() if w.ndim < 2]
    peak = config.learning_rate
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": config.weight_decay, "peak": peak},
                {"params": undecayed, "weight_decay": 0.0, "peak": peak},
            ],
            lr=peak,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
    ]
    if matrices:
        groups: Iterable[dict[str, Any]] = [{"params": list(matrices.values()), "peak": config.matrix_learning_rate}]
        optimizers.append(
            torch.optim.Muon(groups, lr=config.matrix_learning_rate, weight_decay=config.weight_decay, nesterov=True)
        )
    return optimizers
