"""The processor that a figure was measured on: its instructions, its memory bandwidth, and who else used it."""

import ctypes
import functools
import mmap
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from open_exaone.base.machine import cpu_flags, num_cores

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")
READ_BYTES = 512 << 20  # more than any cache holds
READ = """
#include <cstdint>
extern "C" uint64_t read_all(const uint64_t* p, int64_t n) {
    uint64_t sum = 0;  // four streams: more than one of memory's channels at work
    const int64_t q = n / 4;
    for (int64_t i = 0; i < q; ++i) sum += p[i] ^ p[i + q] ^ p[i + 2 * q] ^ p[i + 3 * q];
    return sum;
}
"""


def describe() -> str:
    """One line: the model's name, its cores and the instruction sets that matter here."""
    held = [f"{name}={os.environ[name]}" for name in ("ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS") if name in os.environ]
    found = [name for name in FEATURES if name in cpu_flags()]
    missing = [name for name in ("avx512f", "amx_bf16") if name not in found]
    parts = [_name(), f"{num_cores()} cores", "has " + " ".join(found), "lacks " + " ".join(missing or ["nothing"])]
    return "; ".join(parts + held)


def _name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown processor"


def bandwidth(num_threads: int, *, num_bytes: int = READ_BYTES, huge_pages: bool = True, rounds: int = 5) -> float:
    """Bytes a second that threads read together from memory; the best of a few rounds, as it is a limit.

    Args:
        huge_pages: ask for pages of 2 MiB, which spare the processor most of its page tables.
    """
    read = _reader()
    with mmap.mmap(-1, num_bytes) as memory:
        if huge_pages and hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        words = np.frombuffer(memory, np.uint64)
        words[:] = 1  # so that there are pages behind it
        parts = np.array_split(words, num_threads)
        seconds = []
        with ThreadPoolExecutor(num_threads) as pool:
            for _ in range(rounds):
                started = time.perf_counter()
                list(pool.map(read, parts))
                seconds.append(time.perf_counter() - started)
        del words, parts
    return num_bytes / min(seconds)


@functools.cache
def _reader():
    """A function that reads an array of 64-bit words once: compiled where there is a compiler, else numpy's sum."""
    compiler = shutil.which("g++")
    if compiler is None:
        return np.add.reduce
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "read.cpp"), Path(folder, "read.so")
        source.write_text(READ, encoding="ascii")
        flags = ["-O3", "-march=native", "-funroll-loops", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        read_all = ctypes.CDLL(str(library)).read_all  # stays mapped when the file goes
    read_all.restype = ctypes.c_uint64
    return lambda words: read_all(ctypes.c_void_p(words.ctypes.data), ctypes.c_int64(len(words)))


class Others:
    """How many cores other processes keep busy, from when it is made."""

    def __init__(self) -> None:
        self.begun, self.busy = time.perf_counter(), _busy_seconds()

    def cores(self, own_cpu_seconds: float) -> float:
        """Cores that others used since then, beside what the measured process used itself."""
        return max(0.0, (_busy_seconds() - self.busy - own_cpu_seconds) / (time.perf_counter() - self.begun))


def _busy_seconds() -> float:
    """Processor time that the machine has spent on anything, a virtual machine's stolen time included."""
    try:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    except (OSError, ValueError):  # no Linux
        return 0.0
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
