"""Compiles the native kernels, for this processor or for a wheel.

Imports the standard library alone, as hatch_build.py loads this file where nothing else is installed.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("attention.cpp", "decode/decoder.cpp", "elementwise.cpp", "softmax_loss.cpp")
COMPILERS = ("g++", "c++")
FLAGS = ("-std=c++20", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fopenmp")
COMPILE_TIME_S = 1800.0  # of the clock: a compiler that hangs; a busy machine takes its time


class Unavailable(Exception):
    """The kernels are not available here; says why."""


@dataclass(frozen=True, slots=True)
class Variant:
    """Processors that share a library of a wheel."""

    name: str
    instructions: str  # for a person
    cpu_flags: frozenset[str]  # what such a processor has, as Linux names it
    options: tuple[str, ...]  # for the compiler


_V3 = frozenset(
    (
        *("pni", "ssse3", "sse4_1", "sse4_2", "cx16", "lahf_lm", "popcnt"),
        *("avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"),  # abm: LZCNT
    )
)
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_PRODUCTS = _V4 | {"avx512_vnni", "avx512_bf16"}
_PRODUCTS_OPTIONS = ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16")
VARIANTS = (  # of a wheel, the best last
    Variant("x86-64-v3", "AVX2", _V3, ("-march=x86-64-v3",)),
    Variant("x86-64-v4", "AVX-512", _V4, ("-march=x86-64-v4",)),
    Variant("x86-64-v4-bf16", "AVX-512 and bfloat16 products", _PRODUCTS, _PRODUCTS_OPTIONS),
    Variant(
        "x86-64-v4-amx",
        "AMX",
        _PRODUCTS | {"amx_tile", "amx_bf16", "amx_int8"},
        (*_PRODUCTS_OPTIONS, "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
    ),
)


def best_variant(cpu_flags: frozenset[str]) -> Variant | None:
    """The best that a processor has all instructions for; None where even the first wants more."""
    return next((variant for variant in reversed(VARIANTS) if cpu_flags >= variant.cpu_flags), None)


def file_name(variant: Variant) -> str:
    """What a wheel calls a variant's library: other sources give another name."""
    return f"kernels-{variant.name}-{digest(variant.options)}.so"


def digest(*others: object) -> str:
    """Of the sources, the compiler's flags and whatever else a library follows from."""
    found = hashlib.sha256(repr((FLAGS, others)).encode())
    for file in sorted(file for file in HERE.rglob("*") if file.suffix in (".cpp", ".h")):
        found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()[:24]


def find_compiler() -> str:
    """The path of the C++ compiler.

    Raises:
        Unavailable: there is none.
    """
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise Unavailable("no C++ compiler (g++) is on the path; with one, training and generation are faster")
    return compiler


def compile_library(compiler: str, options: Sequence[str], path: Path) -> None:
    """Compiles every source side by side, links them and renames the result to `path`.

    OpenMP's functions stay undefined in it: whoever loads it loads torch's OpenMP library before, as two of them in a
    process would fight for the cores.

    Raises:
        Unavailable: the compiler fails.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-") as folder:
        objects = [str(Path(folder) / f"{Path(name).stem}.o") for name in SOURCES]
        _run_all(
            [
                [compiler, *FLAGS, *options, "-c", str(HERE / name), "-o", target]
                for name, target in zip(SOURCES, objects, strict=True)
            ]
        )
        linked = Path(folder) / path.name
        _run_all([[compiler, "-shared", "-pthread", *objects, "-o", str(linked)]])
        linked.chmod(0o700)  # whatever the umask
        os.replace(linked, path)


def _run_all(commands: list[list[str]]) -> None:
    """Runs the commands at the same time.

    Raises:
        Unavailable: one failed; says its first error.
    """
    compiler = Path(commands[0][0]).name
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for command in commands]
    try:
        outputs = [process.communicate(timeout=COMPILE_TIME_S)[1] for process in running]
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{error.cmd[0]} took longer than {COMPILE_TIME_S:.0f} s") from error
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    for process, text in zip(running, outputs, strict=True):
        if process.returncode < 0:
            raise Unavailable(f"{compiler} was stopped by {signal.Signals(-process.returncode).name}")
        if process.returncode:
            lines = text.decode(errors="replace").splitlines()
            first = next((line for line in lines if "error" in line), "no message")
            raise Unavailable(f"{compiler} failed: {first.strip()}")
