"""What this machine can do, as a list of findings."""

import importlib.util
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal

from open_exaone.base.errors import CheckpointError
from open_exaone.base.machine import cpu_flags, free_memory_bytes, has_fast_cpu_bfloat16, num_cores
from open_exaone.present import formatting
from open_exaone.sandbox.isolation import findings

Finding = tuple[Literal["ok", "missing", "note"], str, str]

NEEDED_MEMORY_BYTES = 4 * 2**30
NEEDED_DISK_BYTES = 10**9
NEEDED = (
    "torch",
    "tokenizers",
    "safetensors",
    "reasoning-gym",
    "numpy",
    "pydantic",
    "rich",
    "cyclopts",
    "jinja2",
    "math-verify",
    "langdetect",
)


def checks(folder: Path = Path()) -> list[Finding]:
    """Looks at what `exaone run` and the judges need; "missing" is what keeps `exaone run` from running."""
    machine = [_python(), *_libraries(), *_processor(), _kernels(), _memory(), _disk(folder), _gpu()]
    return [*machine, _shipped(), *findings()]


def _python() -> Finding:
    return ("ok" if sys.version_info >= (3, 11) else "missing"), "Python", sys.version.split()[0]


def _libraries() -> list[Finding]:
    findings: list[Finding] = []
    for name in NEEDED:
        try:
            findings.append(("ok", name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            findings.append(("missing", name, f"not installed: pip install {name}"))
    return findings


def _processor() -> list[Finding]:
    cores = num_cores()
    findings: list[Finding] = [
        (
            "ok" if cores >= 2 else "note",
            "processor",
            f"{cores} cores" + ("" if cores >= 2 else ": the default recipe is slow on one"),
        )
    ]
    if has_fast_cpu_bfloat16():
        units = "matrix units (AMX)" if "amx_bf16" in cpu_flags() else "vector units"
        findings.append(("ok", "bfloat16", f"fast on this processor, by its {units}: used"))
    else:
        findings.append(("note", "bfloat16", "not fast on this processor: float32 is used, about twice as slow"))
    return findings


def _kernels() -> Finding:
    from open_exaone.kernels.build import library, status

    return "ok" if library() is not None else "note", "native kernels", status()


def _memory() -> Finding:
    if (free := free_memory_bytes()) is None:
        return "note", "memory", "cannot be read here; the default recipe needs up to 4 GB"
    text = f"{formatting.size(free)} free"
    return (
        ("ok", "memory", text)
        if free >= NEEDED_MEMORY_BYTES
        else ("note", "memory", f"{text}: the default recipe needs up to 4 GB")
    )


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    text = f"{formatting.size(free)} free here"
    return ("ok", "disk", text) if free >= NEEDED_DISK_BYTES else ("missing", "disk", f"{text}: a run needs up to 1 GB")


def _gpu() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return "note", "GPU", "unknown without torch"
    import torch

    if not torch.cuda.is_available():
        return "note", "GPU", "none that torch can use: the nano recipes need none"
    properties = torch.cuda.get_device_properties(0)
    return "ok", "GPU", f"{properties.name}, {formatting.size(properties.total_memory)}"


def _shipped() -> Finding:
    from open_exaone.checkpoint.shipped import SHIPPED, shipped_model

    try:
        shipped_model()
    except CheckpointError as error:
        return "note", "shipped model", str(error)
    return "ok", "shipped model", f"{SHIPPED}: for `exaone chat` and `exaone serve` without a model"
