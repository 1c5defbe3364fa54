"""Compiles the native kernels on first use, keeps them in the user's cache and loads them.

Where they are not available (no compiler, an old processor, OPEN_EXAONE_KERNELS=0) `library` gives None, and every
function of this room computes its plain torch reference.
"""

import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from open_exaone.base.machine import cpu_flags

SWITCH = "OPEN_EXAONE_KERNELS"  # 0: plain torch; 1 or nothing: native where it can be had
HERE = Path(__file__).parent
SOURCES = ("attention.cpp", "decode/decoder.cpp", "elementwise.cpp", "softmax_loss.cpp")
COMPILERS = ("g++", "c++")  # clang's OpenMP is not the one that torch brings
FLAGS = ("-std=c++20", "-O3", "-march=native", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
COMPILE_TIME_S = 1800.0  # of the clock: a compiler that hangs; a busy machine takes its time
EXPORTED = re.compile(rb"^EXPORT \w+ (\w+)\(", re.MULTILINE)
NUM_KEPT = 4  # compiled libraries: of other versions, compilers or processors that share the home
NEEDED_CPU_FLAGS = frozenset({"avx2", "fma"})


class _Unavailable(Exception):
    """The kernels are not available here; says why."""


def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where the plain reference has to do."""
    return _load()[0]


def status() -> str:
    """One sentence for a person: whether the native kernels run here, and why if they do not."""
    return _load()[1]


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    try:
        compiler, openmp = _tools()
        path = _cache_folder() / f"kernels-{_digest(compiler, openmp)}.so"
        if not os.path.lexists(path):
            _compile(compiler, openmp, path)
        try:
            kernels = _opened(path, str(path))
        except (_Unavailable, AttributeError, OSError):  # another's, a link, cut by a full disk, or not all of it
            _compile(compiler, openmp, path)
            # By the name that it knows, the loader would give the first library once more.
            kernels = _opened(path, f"{path.parent}/./{path.name}")
        return kernels, f"native kernels with {_instructions()}, compiled into {path.parent}"
    except (_Unavailable, AttributeError, OSError, RuntimeError) as error:  # RuntimeError: the user has no home
        return None, f"plain torch: {error}"


def _opened(path: Path, name: str) -> ctypes.CDLL:
    """Loads the library at `path` under the loader's name `name`, and looks up all of its functions.

    Raises:
        _Unavailable: it is not a file of the user's own.
        AttributeError: it has not all functions; names the first.
        OSError: it is not a library.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise _Unavailable(f"{path} is not a file that this user alone can write; remove it")
    kernels = ctypes.CDLL(name)
    for source in SOURCES:
        for function in EXPORTED.findall((HERE / source).read_bytes()):
            getattr(kernels, function.decode())
    return kernels


def _tools() -> tuple[str, Path | None]:
    """The compiler, and the OpenMP library to link.

    Raises:
        _Unavailable: native kernels are switched off, or cannot be made or run here.
    """
    if os.environ.get(SWITCH, "1") == "0":
        raise _Unavailable(f"{SWITCH}=0")
    flags = cpu_flags()
    if not flags >= NEEDED_CPU_FLAGS:
        raise _Unavailable(f"this processor has no {', '.join(sorted(NEEDED_CPU_FLAGS - flags))}")
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise _Unavailable("no C++ compiler (g++) is on the path; with one, training is faster")
    return compiler, _openmp()


def _instructions() -> str:
    """The processor's instructions that the compiler chooses among the variants of native.h."""
    flags = cpu_flags()
    if "avx512f" not in flags:
        return "AVX2"
    return "AVX-512 and bfloat16 products" if "avx512_bf16" in flags else "AVX-512"


def _digest(compiler: str, openmp: Path | None) -> str:
    """Of all that a compiled library follows from."""
    sources = sorted(file for file in HERE.rglob("*") if file.suffix in (".cpp", ".h"))
    digest = hashlib.sha256(repr((compiler, FLAGS, str(openmp), sorted(cpu_flags()), platform.machine())).encode())
    for file in sources:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:24]


def _cache_folder() -> Path:
    """The user's own folder for compiled kernels, as what lies there is run.

    Raises:
        _Unavailable: somebody else may write there, or could have.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "open-exaone" / "kernels"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for place in (folder, folder.parent):
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise _Unavailable(f"{place} belongs to another user, or is a link; remove it, or set XDG_CACHE_HOME")
    if folder.stat().st_mode & 0o022:
        raise _Unavailable(f"others can write into {folder}, and what lies there would be run; remove it")
    if folder.parent.stat().st_mode & 0o022:  # else the folder could be exchanged for another
        folder.parent.chmod(stat.S_IMODE(folder.parent.stat().st_mode) & ~0o022)
    return folder


def _openmp() -> Path | None:
    """The OpenMP library that comes with torch, if one does: two pools of threads in a process fight for the cores."""
    spec = importlib.util.find_spec("torch")
    folders = list(spec.submodule_search_locations or []) if spec else []
    places = [Path(folder) / "lib" for folder in folders] + [Path(folder).parent / "torch.libs" for folder in folders]
    return next((file for place in places for file in sorted(place.glob("lib*gomp*.so*"))), None)


def _compile(compiler: str, openmp: Path | None, path: Path) -> None:
    """Compiles every source side by side, links them and renames the result to `path`."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".building-") as folder:
        objects = [Path(folder) / f"{Path(name).stem}.o" for name in SOURCES]
        _run_all(
            [
                [compiler, *FLAGS, "-fopenmp", "-pthread", "-c", str(HERE / name), "-o", str(target)]
                for name, target in zip(SOURCES, objects, strict=True)
            ]
        )
        linked = Path(folder) / path.name
        # -fopenmp at the link would ask for the compiler's own OpenMP beside torch's.
        with_openmp = [str(openmp), f"-Wl,-rpath,{openmp.parent}"] if openmp else ["-fopenmp"]
        _run_all([[compiler, "-shared", "-Wl,--no-undefined", *map(str, objects), *with_openmp, "-o", str(linked)]])
        linked.chmod(0o700)  # whatever the umask
        os.replace(linked, path)
    _remove_old(path)


def _remove_old(newest: Path) -> None:
    """Keeps the NUM_KEPT libraries that were compiled last."""
    with contextlib.suppress(OSError):  # another process removes them too
        made = {file: file.lstat().st_mtime_ns for file in newest.parent.glob("kernels-*.so") if file != newest}
        for file in sorted(made, key=lambda file: made[file], reverse=True)[NUM_KEPT - 1 :]:
            file.unlink()


def _run_all(commands: list[list[str]]) -> None:
    """Runs the commands at the same time.

    Raises:
        _Unavailable: one failed; says its first error.
    """
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for command in commands]
    try:
        outputs = [process.communicate(timeout=COMPILE_TIME_S)[1] for process in running]
    except subprocess.TimeoutExpired as error:
        raise _Unavailable(f"{error.cmd[0]} took longer than {COMPILE_TIME_S:.0f} s") from error
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
    for process, text in zip(running, outputs, strict=True):
        if process.returncode:
            lines = text.decode(errors="replace").splitlines()
            first = next((line for line in lines if "error" in line), "no message")
            raise _Unavailable(f"{Path(str(process.args[0])).name} failed: {first.strip()}")  # type: ignore[index]
