"""Loads the native kernels: a wheel's own, or those compiled on first use and kept in the user's cache.

Where they are not available (no compiler, an old processor, OPEN_EXAONE_KERNELS=0) `library` gives None, and every
function of this room computes its plain torch reference.
"""

import contextlib
import ctypes
import functools
import importlib.util
import os
import platform
import re
import stat
import sys
from pathlib import Path

from open_exaone.base.machine import cpu_flags
from open_exaone.base.output import say_aside
from open_exaone.kernels import compiler
from open_exaone.kernels.compiler import Unavailable

SWITCH = "OPEN_EXAONE_KERNELS"  # 0: plain torch; 1 or nothing: native where it can be had
EXPORTED = re.compile(rb"^EXPORT \w+ (\w+)\(", re.MULTILINE)
NUM_KEPT = 4  # compiled libraries: of other versions, compilers or processors that share the home
NEEDED_CPU_FLAGS = frozenset({"avx2", "fma"})
AMX = frozenset({"amx_tile", "amx_bf16", "amx_int8"})


def library() -> ctypes.CDLL | None:
    """The native kernels, or None where the plain reference has to do."""
    return _load()[0]


def status() -> str:
    """One line for a person: whether the native kernels run here, and why if they do not."""
    return _load()[1]


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    reasons = []
    for load in (_built, _compiled):
        try:
            flags = _usable_flags()
            _load_openmp()
            kernels, source = load(flags)
        except (Unavailable, AttributeError, OSError, RuntimeError) as error:  # RuntimeError: the user has no home
            reasons.append(str(error))
            continue
        variant = compiler.best_variant(flags) or compiler.VARIANTS[0]
        return kernels, f"{variant.instructions}, {source}, for training and generation"
    return None, f"plain torch: {'; '.join(dict.fromkeys(filter(None, reasons)))}"


def _usable_flags() -> frozenset[str]:
    """The processor's instructions, less those that the system does not grant.

    Raises:
        Unavailable: native kernels are switched off, or the processor is too old for them.
    """
    if os.environ.get(SWITCH, "1") == "0":
        raise Unavailable(f"{SWITCH}=0")
    flags = cpu_flags()
    if not flags >= NEEDED_CPU_FLAGS:
        raise Unavailable(f"this processor has no {', '.join(sorted(NEEDED_CPU_FLAGS - flags))}")
    return flags if flags >= AMX and _may_use_tiles() else flags - AMX


def _may_use_tiles() -> bool:
    """Asks Linux for AMX's tiles, which it grants to a process once and for all."""
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0


def _load_openmp() -> None:
    """Loads the OpenMP library that the kernels find their functions in: torch's, or the system's where it has none.

    Raises:
        OSError: neither is there.
    """
    spec = importlib.util.find_spec("torch")
    folders = list(spec.submodule_search_locations or []) if spec else []
    places = [Path(folder) / "lib" for folder in folders] + [Path(folder).parent / "torch.libs" for folder in folders]
    file = next((file for place in places for file in sorted(place.glob("lib*gomp*.so*"))), "libgomp.so.1")
    ctypes.CDLL(str(file), ctypes.RTLD_GLOBAL)


def _built(flags: frozenset[str]) -> tuple[ctypes.CDLL, str]:
    """The library that the wheel brings for such a processor, and where it is from.

    Raises:
        Unavailable: there is none of these very sources; without a message, as a plain wheel has none.
        AttributeError, OSError: it cannot be loaded here.
    """
    variant = compiler.best_variant(flags)
    if variant is None or not (path := compiler.HERE / "built" / compiler.file_name(variant)).is_file():
        raise Unavailable
    return _opened(str(path)), f"built into the package for {variant.name}"


def _compiled(flags: frozenset[str]) -> tuple[ctypes.CDLL, str]:
    """The library in the user's cache, compiled now if need be, and where it is from.

    Raises:
        Unavailable, AttributeError, OSError: there is none, and none can be made.
        RuntimeError: the user has no home.
    """
    program, options = compiler.find_compiler(), _options(flags)
    path = _cached_path(program, options, flags)
    if not os.path.lexists(path):
        _compile(program, options, path)
    try:
        _check_owner(path)
        kernels = _opened(str(path))
    except (Unavailable, AttributeError, OSError):  # another's, a link, cut by a full disk, or not all of it
        _compile(program, options, path)
        _check_owner(path)
        # By the name that it knows, the loader would give the first library once more.
        kernels = _opened(f"{path.parent}/./{path.name}")
    return kernels, f"compiled into {path.parent}"


def _options(flags: frozenset[str]) -> tuple[str, ...]:
    """The compiler's, for this processor with these instructions."""
    return "-march=native", *(() if flags >= AMX else (f"-mno-{name.replace('_', '-')}" for name in sorted(AMX)))


def _cached_path(program: str, options: tuple[str, ...], flags: frozenset[str]) -> Path:
    return _cache_folder() / f"kernels-{compiler.digest(program, options, sorted(flags), platform.machine())}.so"


def _opened(name: str) -> ctypes.CDLL:
    """Loads a library and looks up all of its functions.

    Raises:
        AttributeError: it has not all functions; names the first.
        OSError: it is not a library.
    """
    kernels = ctypes.CDLL(name)
    for source in compiler.SOURCES:
        for function in EXPORTED.findall((compiler.HERE / source).read_bytes()):
            getattr(kernels, function.decode())
    return kernels


def _check_owner(path: Path) -> None:
    """Refuses a library of the cache that is not a file of the user's own.

    Raises:
        Unavailable: says what to do.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise Unavailable(f"{path} is not a file that this user alone can write; remove it")


def _cache_folder() -> Path:
    """The user's own folder for compiled kernels, as what lies there is run.

    Raises:
        Unavailable: somebody else may write there, or could have.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "open-exaone" / "kernels"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for place in (folder, folder.parent):
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise Unavailable(f"{place} belongs to another user, or is a link; remove it, or set XDG_CACHE_HOME")
    if folder.stat().st_mode & 0o022:
        raise Unavailable(f"others can write into {folder}, and what lies there would be run; remove it")
    if folder.parent.stat().st_mode & 0o022:  # else the folder could be exchanged for another
        folder.parent.chmod(stat.S_IMODE(folder.parent.stat().st_mode) & ~0o022)
    return folder


def _compile(program: str, options: tuple[str, ...], path: Path) -> None:
    if sys.stderr is not None and sys.stderr.isatty():
        say_aside("Compiling the native kernels for this processor, once; this takes about 20 seconds ...")
    compiler.compile_library(program, options, path)
    _remove_old(path)


def _remove_old(newest: Path) -> None:
    """Keeps the NUM_KEPT libraries that were compiled last."""
    with contextlib.suppress(OSError):  # another process removes them too
        made = {file: file.lstat().st_mtime_ns for file in newest.parent.glob("kernels-*.so") if file != newest}
        for file in sorted(made, key=lambda file: made[file], reverse=True)[NUM_KEPT - 1 :]:
            file.unlink()
