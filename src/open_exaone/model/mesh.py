"""How a job's devices are arranged: data x shard x tensor x context."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

from open_exaone.base.errors import ConfigError
from open_exaone.model.config import ModelConfig

AXES = ("data", "shard", "tensor", "context")
MAX_DEVICES = 1_000_000


@dataclass(frozen=True, slots=True)
class Mesh:
    """So many devices along each axis.

    Batches are split over data x shard. Weights, gradients and optimizer state are split over shard x context, as
    FSDP2 does it, and matrices over tensor. A sequence is split over context. On the machines, tensor is the innermost
    axis, then context, shard and data.
    """

    data: int = 1  # replicas of all that is sharded
    shard: int = 1  # shares of weights, gradients and optimizer state
    tensor: int = 1  # parts of each matrix
    context: int = 1  # parts of each sequence

    def __str__(self) -> str:
        return " x ".join(map(str, astuple(self)))

    @property
    def num_devices(self) -> int:
        return self.data * self.shard * self.tensor * self.context

    @property
    def num_batches(self) -> int:
        """Parts of a batch that are computed side by side."""
        return self.data * self.shard

    @property
    def num_shares(self) -> int:
        """Devices that share one copy of a matrix's part."""
        return self.shard * self.context

    @property
    def is_whole(self) -> bool:
        """Whether every device has the whole model."""
        return self.num_shares == self.tensor == 1


ALONE = Mesh()


def why_not(mesh: Mesh, shape: ModelConfig) -> str | None:
    """Why a model cannot be computed on a mesh; None where it can."""
    for what, number in (
        ("num_heads", shape.num_heads),
        ("num_kv_heads", shape.num_kv_heads),
        ("ffn_width", shape.ffn_width),
        ("vocab_size", shape.vocab_size),
    ):
        if number % mesh.tensor:
            return f"tensor = {mesh.tensor}: must divide the model's {what} = {number:,}"
    return None


def meshes(num_devices: int, shape: ModelConfig, most_tensor: int) -> Iterator[Mesh]:
    """Every mesh of so many devices that a model can be computed on.

    Args:
        most_tensor: the devices of a machine: matrices are split inside one alone.
    """
    for tensor in divisors(num_devices):
        if tensor > most_tensor or why_not(Mesh(tensor=tensor), shape):
            continue
        for context in divisors(num_devices // tensor):
            rest = num_devices // tensor // context
            yield from (Mesh(rest // shard, shard, tensor, context) for shard in divisors(rest))


def divisors(number: int) -> list[int]:
    """From 1 up to the number itself."""
    low = [divisor for divisor in range(1, int(number**0.5) + 1) if number % divisor == 0]
    return sorted({*low, *(number // divisor for divisor in low)})


def parse_mesh(text: str, num_devices: int) -> Mesh:
    """ "data=2,shard=4" as a mesh; an axis that is left out is 1.

    Raises:
        ConfigError: it is malformed, or has another number of devices.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, number = (piece.strip() for piece in part.partition("="))
        if axis not in AXES or not _is_size(number):
            raise ConfigError(
                f"--parallel {text}: {part.strip()!r}: write it as data=2,shard=4,tensor=1,context=1: these four "
                "names, whole numbers from 1"
            )
        if axis in sizes:
            raise ConfigError(f"--parallel {text}: {axis} is given twice")
        sizes[axis] = int(number)
    mesh = Mesh(**sizes)
    if mesh.num_devices != num_devices:
        product = _product([sizes[axis] for axis in AXES if axis in sizes])
        raise ConfigError(f"--parallel {text}: {product} = {mesh.num_devices:,} GPUs, and {num_devices:,} train")
    return mesh


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 7 and int(text) > 0


def _product(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))
