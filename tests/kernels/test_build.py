"""Compiling the kernels: once, for whoever asks, in a folder of the user's own; and plain torch where that fails."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from open_exaone.kernels import build

SOURCE = """
extern "C" int answer(int threads) {
    int n = 0;
#pragma omp parallel num_threads(threads) reduction(+ : n)
    n += 1;
    return n > 0 ? 42 : 0;
}
"""
LOAD = """
import sys
from pathlib import Path
from open_exaone.kernels import build
build.HERE, build.SOURCES = Path(sys.argv[1]), ("answer.cpp",)
print(build.library().answer(2))
"""


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A tiny source to compile, and an empty cache."""
    if build.library() is None:
        pytest.skip(build.status())
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "answer.cpp").write_text(SOURCE)
    monkeypatch.setattr(build, "HERE", tmp_path / "source")
    monkeypatch.setattr(build, "SOURCES", ("answer.cpp",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def loaded() -> tuple[int | None, str]:
    """The answer of a library loaded anew, and what its status says."""
    kernels, said = build._load.__wrapped__()
    return (None if kernels is None else kernels.answer(2)), said


def test_the_kernels_compile_here() -> None:
    has_compiler = any(shutil.which(name) for name in build.COMPILERS)
    if not (has_compiler and build.cpu_flags() >= build.NEEDED_CPU_FLAGS) or os.environ.get(build.SWITCH) == "0":
        pytest.skip(build.status())
    assert build.status().startswith("native kernels"), build.status()


def test_compiled_once_into_a_folder_of_ones_own(workshop) -> None:
    assert loaded()[0] == 42
    (built,) = (workshop / "cache").rglob("*.so")
    assert stat.S_IMODE(built.parent.stat().st_mode) == 0o700
    made = built.stat().st_mtime_ns
    assert loaded()[0] == 42 and built.stat().st_mtime_ns == made
    assert [file.name for file in built.parent.iterdir()] == [built.name]


def test_a_changed_source_is_compiled_anew(workshop) -> None:
    assert loaded()[0] == 42
    (workshop / "source" / "answer.cpp").write_text(SOURCE.replace("42", "43"))
    assert loaded()[0] == 43


def test_two_processes_at_once(workshop) -> None:
    command = [sys.executable, "-c", LOAD, str(workshop / "source")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert [process.communicate(timeout=120)[0] for process in running] == ["42\n", "42\n"]
    assert len(list((workshop / "cache").rglob("*.so"))) == 1


def test_one_pool_of_threads(workshop) -> None:
    """The kernels use the OpenMP library that torch has loaded, where torch brings one."""
    loaded()
    beside_torch = list((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    with open("/proc/self/maps", encoding="utf-8") as maps:
        pools = {line.split()[-1] for line in maps if "libgomp" in line}
    assert not beside_torch or len(pools) == 1, pools


@pytest.mark.parametrize("broken", ["int answer() {", "int not_there(); int answer() { return not_there(); }"])
def test_a_source_that_does_not_compile_is_told(workshop, broken) -> None:
    (workshop / "source" / "answer.cpp").write_text(f'extern "C" {broken}')
    answer, said = loaded()
    assert answer is None and said.startswith("plain torch: ") and "failed: " in said
    assert not list((workshop / "cache").rglob("*.so"))


def test_no_compiler_is_told(workshop, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(workshop))
    assert loaded() == (None, "plain torch: no C++ compiler (g++) is on the path; with one, training is faster")


def test_a_compiler_that_hangs_is_left(workshop, monkeypatch) -> None:
    (workshop / "g++").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    (workshop / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(workshop))
    monkeypatch.setattr(build, "COMPILE_TIME_S", 0.5)
    answer, said = loaded()
    assert answer is None and "took longer" in said


def test_an_old_processor_is_told(workshop, monkeypatch) -> None:
    monkeypatch.setattr(build, "cpu_flags", lambda: frozenset({"avx2"}))
    answer, said = loaded()
    assert answer is None and "processor" in said and "avx512f" in said


def test_a_cache_of_somebody_else_is_not_trusted(workshop, monkeypatch) -> None:
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    answer, said = loaded()
    assert answer is None and "another user" in said


def test_a_cache_open_to_others_is_closed(workshop) -> None:
    folder = workshop / "cache" / "open-exaone" / "kernels"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert loaded()[0] == 42
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_switched_off_everything_is_plain_torch() -> None:
    code = """
import torch
from open_exaone.kernels import attention, build, reference, swiglu
print(build.status())
q = torch.randn(5, 2, 16)
starts = torch.tensor([0, 2, 5], dtype=torch.int32)
assert torch.equal(attention(q, q, q, starts), reference.attention(q, q, q, starts, None))
assert torch.equal(swiglu(q, q), reference.swiglu(q, q))
"""
    environment = {**os.environ, "OPEN_EXAONE_KERNELS": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert (ran.stdout, ran.returncode) == ("plain torch: OPEN_EXAONE_KERNELS=0\n", 0), ran.stderr
