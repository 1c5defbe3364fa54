"""What a device could compute at best: the denominator of MFU."""

import functools
import time

import torch

from open_exaone.model.gpus import GPUS

# Dense bfloat16 FLOP/s with float32 sums, from the makers' data sheets; the first name that the device's holds counts.
BFLOAT16 = (
    ("B200", GPUS["b200"].flops),
    ("H100 PCIe", GPUS["h100-pcie"].flops),
    ("H100 NVL", 835e12),
    ("H200", GPUS["h200"].flops),
    ("H100", GPUS["h100"].flops),
    ("H800", GPUS["h100"].flops),
    ("GH200", GPUS["h200"].flops),
    ("H20", 148e12),
    ("A100", GPUS["a100-80"].flops),
    ("A800", GPUS["a100-80"].flops),
    ("L40S", GPUS["l40s"].flops),
    ("L40", 181e12),
    ("L4", 121e12),
    ("A40", 150e12),
    ("A10", 125e12),
    ("RTX 4090", GPUS["rtx-4090"].flops),
    ("RTX 3090", 71e12),
    ("MI300X", GPUS["mi300x"].flops),
)
MEASURE_S = 0.2
WIDTH = 2048


@functools.cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s: a known GPU's as its maker says; else that of a square matrix product, measured once."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        name = torch.cuda.get_device_name(device)
        known = next((flops for part, flops in BFLOAT16 if part in name), None)
        if known is not None:
            return known
    return _measured(device, dtype)


def _measured(device: torch.device, dtype: torch.dtype) -> float:
    matrix = torch.ones(WIDTH, WIDTH, device=device, dtype=dtype)
    best_s, started = float("inf"), time.perf_counter()
    for tries in range(100):
        before = time.perf_counter()
        torch.mm(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        after = time.perf_counter()
        if tries:  # the first one warms up
            best_s = min(best_s, after - before)
        if tries > 1 and after - started > MEASURE_S:
            break
    return 2 * WIDTH**3 / best_s
