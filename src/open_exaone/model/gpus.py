"""GPUs that a run can be planned for: what their makers' data sheets say."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from open_exaone.base.config import did_you_mean
from open_exaone.base.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Bytes and FLOP are decimal, as data sheets count them."""

    name: str
    memory_bytes: float
    flops: float  # a second, dense bfloat16 with float32 sums; sheets print twice as much, with sparsity
    memory_bandwidth: float  # bytes a second
    link_bandwidth: float  # bytes a second to other GPUs of its machine, each way; sheets print both ways together
    power_w: float  # of the board at most
    source: str


GPUS: Mapping[str, Gpu] = MappingProxyType(
    {
        "a100-80": Gpu("NVIDIA A100 80GB SXM", 80e9, 312e12, 2.039e12, 300e9, 400, "NVIDIA A100 data sheet"),
        "b200": Gpu("NVIDIA B200 (DGX)", 180e9, 2250e12, 8e12, 900e9, 1000, "NVIDIA DGX B200 data sheet, an eighth"),
        "h100": Gpu("NVIDIA H100 SXM", 80e9, 989e12, 3.35e12, 450e9, 700, "NVIDIA H100 data sheet"),
        "h100-pcie": Gpu("NVIDIA H100 PCIe", 80e9, 756e12, 2e12, 64e9, 350, "NVIDIA H100 PCIe product brief"),
        "h200": Gpu("NVIDIA H200 SXM", 141e9, 989e12, 4.8e12, 450e9, 700, "NVIDIA H200 data sheet"),
        "l40s": Gpu("NVIDIA L40S", 48e9, 362e12, 864e9, 32e9, 350, "NVIDIA L40S data sheet"),
        "mi300x": Gpu("AMD Instinct MI300X", 192e9, 1307e12, 5.3e12, 448e9, 750, "AMD Instinct MI300X data sheet"),
        "rtx-4090": Gpu(
            "NVIDIA GeForce RTX 4090", 24e9, 165e12, 1.008e12, 32e9, 450, "NVIDIA Ada architecture paper, appendix A"
        ),
    }
)


def gpu_by_name(name: str) -> Gpu:
    """Raises:
    ConfigError: there is no such one; lists those that there are.
    """
    if (gpu := GPUS.get(name.lower())) is None:
        raise ConfigError(f"--gpu {name}: is not known{did_you_mean(name, GPUS)} There are {', '.join(GPUS)}")
    return gpu
