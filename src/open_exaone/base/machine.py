"""What this machine can do, and how to ask it nicely. Loads no torch of its own accord."""

import ctypes
import math
import os
import platform
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

# What is limited is processor time; a process that sleeps, or gets no processor, is ended after so many times as long.
CLOCK_FACTOR = 10
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def prepare_process() -> None:
    """Sets the process up for fast tensor work on a CPU; call it before torch is first imported.

    - GOMP_SPINCOUNT, KMP_BLOCKTIME (builds with Intel's OpenMP; ms): torch's threads wait for each other by spinning.
      On a machine that does anything else, a spinning thread keeps the one it waits for off its core, and each
      operation then takes a whole slice of the scheduler (8 ms measured, for 0.1 ms of work). Spinning a fifteenth as
      long costs nothing on an idle machine. A policy that the user has set in OMP_WAIT_POLICY is kept.
    - mallopt: glibc hands each large freed block back to the kernel and asks for it again, page fault by
      page fault. Keeping it halves the time of a training step here; memory stays at its peak.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
        os.environ.setdefault("KMP_BLOCKTIME", "1")
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_mmap_threshold, keep_bytes = -1, -3, 1 << 30
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_threshold, keep_bytes)
        libc.mallopt(m_trim_threshold, keep_bytes)


def num_cores() -> int:
    """How many cores this process may use: by its affinity, and by the quota of processor time of its container."""
    quota = quota_cores()
    return _num_processors() if quota is None else max(1, min(_num_processors(), math.ceil(quota)))


def quota_cores(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """How many cores' time this process's control groups (v2: cpu.max, v1: cpu.cfs_quota_us) leave it.

    A container sees its own group as the root of all; elsewhere groups lie in groups, and the narrowest counts.

    Returns:
        None where there is no limit, or none that can be read.
    """
    found = []
    for _, _, rest in (line.partition(":") for line in _text(own).splitlines()):
        controllers, _, group = rest.partition(":")
        root = cgroups / "cpu" if controllers else cgroups
        place = root / group.strip("/")
        if controllers and "cpu" not in controllers.split(","):
            continue
        for folder in (place, *place.parents[: len(place.parts) - len(root.parts)]):
            found.append(_quota(folder, is_v1=bool(controllers)))
    return min((quota for quota in found if quota is not None), default=None)


def _quota(folder: Path, *, is_v1: bool) -> float | None:
    """A control group's own limit, in cores."""
    if is_v1:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    else:
        quota, _, period = _text(folder / "cpu.max").partition(" ")
    try:
        return int(quota) / int(period) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max", or nothing
        return None


def default_threads() -> frozenset[int] | None:
    """The numbers of threads that torch chooses from where nobody names one, by how it was built.

    Returns:
        how many processors this process may use, how many the machine has, and how many cores those are (a core may be
        two processors); None where the system does not say.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    found = set()
    for processors in (os.sched_getaffinity(0), range(os.cpu_count() or 1)):
        place = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        cores = {_text(Path(place.format(number))) for number in processors}
        found |= {len(processors), len(cores)}
        if "" in cores:
            return None
    return frozenset(found)


def _num_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def has_own_threads(environment: Mapping[str, str]) -> bool:
    """Whether the user says how many threads torch computes with."""
    return any(environment.get(name) for name in THREAD_VARIABLES)


def peak_rss_bytes() -> int:
    """The most memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kibibytes


def rss_bytes() -> int:
    """The memory that this process holds now, in bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return 0


def free_memory_bytes() -> int | None:
    """The memory that a program can still have here, in bytes; None where the system does not say."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free = int(line.split()[1]) * 1024
    except (OSError, ValueError):
        return None
    return free


def trim_heap() -> None:
    """Returns freed memory to the system: glibc keeps it, in holes that a larger tensor does not fit in."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


class HeapTrimmer:
    """Keeps a process's memory from growing step by step as freed tensors of ever other sizes leave holes.

    It trims the heap where memory has grown by an eighth. Memory that is back within `SOON` steps is what the steps
    need, and is left alone: the pages that a trim returns are faulted in again, which costs time.
    """

    SOON = 16

    def __init__(self, rss: Callable[[], int] = rss_bytes, trim: Callable[[], None] = trim_heap) -> None:
        self._rss, self._trim = rss, trim
        self._usual = 0  # bytes at the end of a step
        self._since_trim = 0  # steps

    def after_step(self) -> None:
        """To be called where a step has freed what it took."""
        held = self._rss()
        self._since_trim += 1
        if held <= self._usual + self._usual // 8:
            return
        if self._since_trim <= self.SOON:
            self._usual = held
        else:
            self._trim()
            self._since_trim = 0


def cpu_flags() -> frozenset[str]:
    """The processor's instruction sets as Linux names them; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith(("flags", "Features")):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def processor_name() -> str:
    """The processor as its maker calls it, such as "AMD EPYC 9555"; its architecture where the system has no name."""
    names = [line.partition(":")[2] for line in _text(Path("/proc/cpuinfo")).splitlines() if line[:10] == "model name"]
    return " ".join((names[0] if names else platform.machine()).split()) or "unknown"


def has_fast_cpu_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices faster than float32 ones."""
    return bool(cpu_flags() & {"amx_bf16", "avx512_bf16", "bf16"})
