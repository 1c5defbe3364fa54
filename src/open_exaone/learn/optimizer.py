"""Optimizers with float32 master weights."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from open_exaone.base.machine import trim_heap
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.muon import Muon, Ranks
from open_exaone.model.sharding import shared_like, whole
from open_exaone.model.threads import ALONE, Workers

# How many gradient values are held in float32 at once where gradients are kept in bfloat16, or one weight's; and how
# many for their norm.
PORTION, NORM_PORTION = 2**24, 2**20
EMBEDDINGS = ("embed_tokens", "lm_head")


class MasterOptimizer:
    """Keeps float32 copies of a model's weights, moves them, and writes them back in the model's dtype.

    The update itself is torch's AdamW, and Muon batched by shape. Frozen weights (`requires_grad` False) have no
    master, no gradient and no state.

    Gradients are added up in float32 micro-batch by micro-batch, so a bfloat16 model loses nothing to accumulation.
    With `gradient_dtype="bfloat16"` they stay where the backward pass puts them, and a step takes them to float32 and
    frees them portion by portion. Bytes a weight, in a model that computes in bfloat16:

                                    weight  master  gradient        state     together
        Muon's, gradients float32      2       4      4 or 6    momentum    4   14 or 16
        Muon's, gradients bfloat16     2       4      2         momentum    4   12
        AdamW's, gradients float32     2       4      4 or 6    two moments 8   18 or 20
        AdamW's, gradients bfloat16    2       4      2         two moments 8   16
        frozen                         2                                         2

    (6 where a step has several micro-batches: the next one's gradient stands beside the sum.)
    """

    def __init__(self, model: nn.Module, masters: Mapping[str, Tensor] | None, config: OptimizerConfig) -> None:
        """Args:
        masters: weights by name, in any dtype, read one at a time; the model's own are set to them. None takes the
            model's own. Names of frozen weights may be missing.

        Raises:
            ValueError: every weight is frozen.
            KeyError: a weight to be trained is missing.
        """
        self.config = config
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        if not self.weights:
            raise ValueError("every weight of the model is frozen: there is nothing to train")
        self.masters = {
            name: nn.Parameter(
                shared_like((weight if masters is None else masters[name]).detach(), weight).to(
                    weight.device, torch.float32, copy=True
                )
            )
            for name, weight in self.weights.items()
        }
        self.optimizers = _build(self.masters, config)
        self._keeps_gradients = config.gradient_dtype == "bfloat16"
        self._portions = _portions(self.masters) if self._keeps_gradients else [list(self.masters)]
        self._write_back(self.weights)

    @property
    def peaks(self) -> dict[str, float]:
        """The peak rates in use, by the names of their settings."""
        peaks = {"learning_rate": self.config.learning_rate}
        if len(self.optimizers) > 1:  # Muon's
            peaks["matrix_learning_rate"] = self.config.matrix_learning_rate
        return peaks

    def accumulate(self) -> None:
        """Takes the model's gradients in after a backward pass: adds them to the masters' and clears them.

        Where gradients are kept in bfloat16 they stay in the model, and the next backward pass adds to them there.
        """
        if self._keeps_gradients:
            return
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            gradient = weight.grad.float()
            master = self.masters[name]
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            weight.grad = None

    def add(self, gradients: Sequence[Tensor | None]) -> None:
        """Adds gradients to those of the step so far, as `accumulate` does, in one call of torch for all weights.

        Args:
            gradients: of each weight, in the order of `weights`; None where there is none. Where they have the dtype
                in which they are added up, the first ones are kept as they are.
        """
        owners = self.weights if self._keeps_gradients else self.masters
        sums, added = [], []
        for owner, gradient in zip(owners.values(), gradients, strict=True):
            if gradient is None:
                continue
            if owner.grad is None:
                owner.grad = gradient.to(owner.dtype)
            else:
                sums.append(owner.grad)
                added.append(gradient)
        if sums:
            torch._foreach_add_(sums, added)

    def gradients(self) -> list[Tensor]:
        """What was accumulated, of every weight in one order; 0 where nothing was, so that ranks can add them up."""
        owners = self.weights if self._keeps_gradients else self.masters
        for weight in owners.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in owners.values() if weight.grad is not None]

    def step(
        self,
        rate: float,
        *,
        skip_above: float | None = None,
        workers: Workers = ALONE,
        ranks: Ranks | None = None,
    ) -> float:
        """Moves the weights, and clears the gradients.

        Args:
            rate: this step's share of the peak learning rates.
            skip_above: nothing moves if the gradient's norm is greater than this.
            workers: share out what Muon computes.
            ranks: likewise; they call this at the same time, with the same gradients.

        Returns:
            the gradient's norm before clipping. If it is not finite, or zero, nothing moves and no state changes:
            momentum and decay would move weights where nothing was learned.
        """
        norm = self._norm()
        value = float(whole(norm))
        moves = 0 < value < math.inf and (skip_above is None or value <= skip_above)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
        for names in self._portions:
            if self._keeps_gradients:
                trim_heap()
            if moves:
                self._move(names, norm, workers, ranks)
            self._clear(names)
        if self._keeps_gradients:
            trim_heap()
        return value

    def clear(self) -> None:
        """Forgets what was accumulated: the step that was begun is given up."""
        self._clear(self.weights)

    def _clear(self, names: Iterable[str]) -> None:
        for name in names:
            self.masters[name].grad = self.weights[name].grad = None

    def _norm(self) -> Tensor:
        """Of all gradients together."""
        if not self._keeps_gradients:
            return nn.utils.get_total_norm([w.grad for w in self.masters.values() if w.grad is not None])
        gradients = [weight.grad for weight in self.weights.values() if weight.grad is not None]
        parts = [part for gradient in gradients for part in torch.split(gradient.flatten(), NORM_PORTION)]
        norms = [torch.linalg.vector_norm(part, dtype=torch.float32) for part in parts]
        return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.tensor(0.0)

    def _move(self, names: Iterable[str], norm: Tensor, workers: Workers, ranks: Ranks | None = None) -> None:
        masters = [self.masters[name] for name in names]
        if self._keeps_gradients:
            for name, master in zip(names, masters, strict=True):
                weight = self.weights[name]
                master.grad = None if weight.grad is None else weight.grad.float()
                weight.grad = None
        if self.config.max_gradient_norm is not None:
            nn.utils.clip_grads_with_norm_(masters, self.config.max_gradient_norm, norm)
        for optimizer in self.optimizers:
            if isinstance(optimizer, Muon):
                optimizer.step(workers=workers, ranks=ranks)
            else:
                optimizer.step()
        self._write_back(names)

    @torch.no_grad()
    def _write_back(self, names: Iterable[str]) -> None:
        for name in names:
            self.weights[name].copy_(self.masters[name])

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but for the master weights: torch's own state dicts."""
        return {str(index): optimizer.state_dict() for index, optimizer in enumerate(self.optimizers)}

    def numbered(self) -> dict[str, Tensor]:
        """The master weights as `state` numbers them: by optimizer's and weight's number, "0/3"."""
        return {
            f"{index}/{number}": weight
            for index, optimizer in enumerate(self.optimizers)
            for number, weight in enumerate(w for group in optimizer.param_groups for w in group["params"])
        }

    def restore(self, masters: Mapping[str, Tensor], state: dict[str, dict[int, dict[str, Tensor]]]) -> None:
        """Takes up where `masters` and `state` were saved.

        Args:
            state: by optimizer's number and parameter's number, its tensors.

        Raises:
            KeyError: a weight is missing.
            RuntimeError: a weight or its state has another shape.
        """
        for index, optimizer in enumerate(self.optimizers):
            _check_shapes(optimizer, state.get(str(index), {}))
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(shared_like(masters[name], master))
        for index, optimizer in enumerate(self.optimizers):
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            own = {
                number: {key: shared_like(x, weights[number]) if x.ndim else x for key, x in values.items()}
                for number, values in state.get(str(index), {}).items()
            }
            optimizer.load_state_dict({"state": own, "param_groups": optimizer.state_dict()["param_groups"]})
        self._write_back(self.weights)


def _portions(masters: Mapping[str, Tensor]) -> list[list[str]]:
    """Names whose weights have at most PORTION values together, or one name; the largest last.

    The largest, the embedding, is taken to float32 when all other gradients are gone.
    """
    portions: list[list[str]] = []
    filled = PORTION
    for name in sorted(masters, key=lambda name: masters[name].numel()):
        if filled + masters[name].numel() > PORTION:
            portions.append([])
            filled = 0
        portions[-1].append(name)
        filled += masters[name].numel()
    return portions


def _check_shapes(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Torch takes a state of any shape, and fails steps later."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, values in state.items():
        for key, value in values.items():
            if value.ndim and (number >= len(weights) or value.shape != weights[number].shape):
                raise RuntimeError(f"the optimizer's state {number}/{key} of shape {tuple(value.shape)} fits no weight")


def _build(masters: Mapping[str, nn.Parameter], config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    matrices = {n: w for n, w in masters.items() if config.kind == "muon" and _is_muons(n, w)}
    others = {n: w for n, w in masters.items() if n not in matrices}
    embeddings = [w for n, w in others.items() if w.ndim == 2 and any(part in n for part in EMBEDDINGS)]
    decayed = [w for n, w in others.items() if w.ndim == 2 and not any(part in n for part in EMBEDDINGS)]
    undecayed = [w for w in others.values() if w.ndim < 2]
    peak = config.learning_rate
    decay = config.weight_decay
    embedding_decay = decay if config.embedding_weight_decay is None else config.embedding_weight_decay
    pairs = ((embeddings, embedding_decay), (decayed, decay), (undecayed, 0.0))
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [{"params": weights, "weight_decay": share, "peak": peak} for weights, share in pairs],
            lr=peak,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
    ]
    if matrices:
        groups: Iterable[dict[str, Any]] = [{"params": list(matrices.values()), "peak": config.matrix_learning_rate}]
        optimizers.append(Muon(groups, lr=config.matrix_learning_rate, weight_decay=decay, nesterov=True))
    return optimizers


def _is_muons(name: str, weight: Tensor) -> bool:
    """A layer's own matrices; LoRA's factors are thin, and AdamW moves them as everywhere."""
    return weight.ndim == 2 and ".layers." in name and ".lora_" not in name
