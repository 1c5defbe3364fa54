"""Compiling the kernels: once, for whoever asks, in a folder of the user's own; and plain torch where that fails."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from open_exaone.kernels import build, compiler

SOURCE = """
#define EXPORT extern "C"
EXPORT int answer(int threads) {
    int n = 0;
#pragma omp parallel num_threads(threads) reduction(+ : n)
    n += 1;
    return n > 0 ? 42 : 0;
}
"""
LOAD = """
import sys
from pathlib import Path
from open_exaone.kernels import build, compiler
compiler.HERE, compiler.SOURCES = Path(sys.argv[1]), ("answer.cpp",)
print(build.library().answer(2))
"""


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """A tiny source to compile, and an empty cache."""
    if build.library() is None:
        pytest.skip(build.status())
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "answer.cpp").write_text(SOURCE)
    monkeypatch.setattr(compiler, "HERE", tmp_path / "source")
    monkeypatch.setattr(compiler, "SOURCES", ("answer.cpp",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def loaded() -> tuple[int | None, str]:
    """The answer of a library loaded anew, and what its status says."""
    kernels, said = build._load.__wrapped__()
    return (None if kernels is None else kernels.answer(2)), said


def test_the_kernels_compile_here() -> None:
    has_compiler = any(shutil.which(name) for name in compiler.COMPILERS)
    if not (has_compiler and build.cpu_flags() >= build.NEEDED_CPU_FLAGS) or os.environ.get(build.SWITCH) == "0":
        pytest.skip(build.status())
    assert build.library() is not None, build.status()


def test_compiled_once_into_a_folder_of_ones_own(workshop) -> None:
    assert loaded()[0] == 42
    (built,) = (workshop / "cache").rglob("*.so")
    assert stat.S_IMODE(built.parent.stat().st_mode) == 0o700
    made = built.stat().st_mtime_ns
    assert loaded()[0] == 42 and built.stat().st_mtime_ns == made
    assert [file.name for file in built.parent.iterdir()] == [built.name]


def test_who_waits_at_a_terminal_for_the_compiler_is_told(workshop, monkeypatch, capsys) -> None:
    assert loaded()[0] == 42 and capsys.readouterr().err == ""  # a pipe or a file
    (workshop / "source" / "answer.cpp").write_text(SOURCE.replace("n > 0", "n > -1"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert loaded()[0] == 42 and capsys.readouterr().err.startswith("Compiling the native kernels")
    assert loaded()[0] == 42 and capsys.readouterr().err == ""


def test_a_changed_source_is_compiled_anew(workshop) -> None:
    assert loaded()[0] == 42
    (workshop / "source" / "answer.cpp").write_text(SOURCE.replace("42", "43"))
    assert loaded()[0] == 43


def test_two_processes_at_once(workshop) -> None:
    command = [sys.executable, "-c", LOAD, str(workshop / "source")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    assert [process.communicate(timeout=1200)[0] for process in running] == ["42\n", "42\n"]
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
    assert answer is None and said.startswith("plain torch: ") and ("failed: " in said or "undefined symbol" in said)


def test_no_compiler_is_told(workshop, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(workshop))
    assert loaded() == (
        None,
        "plain torch: no C++ compiler (g++) is on the path; with one, training and generation are faster",
    )


def test_a_compiler_that_hangs_is_left(workshop, monkeypatch) -> None:
    (workshop / "g++").write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    (workshop / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(workshop))
    monkeypatch.setattr(compiler, "COMPILE_TIME_S", 0.5)
    answer, said = loaded()
    assert answer is None and "took longer" in said


def test_an_old_processor_is_told(workshop, monkeypatch) -> None:
    monkeypatch.setattr(build, "cpu_flags", lambda: frozenset({"sse4_2"}))
    answer, said = loaded()
    assert answer is None and "processor" in said and "avx2, fma" in said


@pytest.mark.parametrize("variant", compiler.VARIANTS, ids=lambda variant: variant.name)
@pytest.mark.parametrize("grants_tiles", [True, False])
def test_the_status_names_the_instructions(workshop, monkeypatch, variant, grants_tiles) -> None:
    monkeypatch.setattr(build, "cpu_flags", lambda: variant.cpu_flags)
    monkeypatch.setattr(build, "_may_use_tiles", lambda: grants_tiles)
    answer, status = loaded()
    expected = variant if grants_tiles or variant.name != "x86-64-v4-amx" else compiler.VARIANTS[2]
    assert answer == 42 and status.startswith(f"{expected.instructions}, compiled into "), status


@pytest.mark.parametrize("variant", compiler.VARIANTS, ids=lambda variant: variant.name)
def test_the_best_variant_of_which_the_processor_lacks_nothing(variant) -> None:
    place = compiler.VARIANTS.index(variant)
    assert compiler.best_variant(variant.cpu_flags | {"sha_ni"}) is variant
    before = compiler.VARIANTS[place - 1] if place else None
    for flag in variant.cpu_flags - (before.cpu_flags if before else set()):
        assert compiler.best_variant(variant.cpu_flags - {flag}) is before


def test_the_compiler_needs_no_installed_package() -> None:
    """A wheel is built where only hatchling is."""
    subprocess.run([sys.executable, "-I", "-S", compiler.__file__], check=True)


def build_into_the_package(variant):
    """What hatch_build.py does, for one variant."""
    path = compiler.HERE / "built" / compiler.file_name(variant)
    path.parent.mkdir()
    compiler.compile_library(compiler.find_compiler(), variant.options, path)
    return path


def test_a_built_library_is_taken_where_nothing_can_be_compiled(workshop, monkeypatch) -> None:
    """And where something could, without waiting for it; the better variants are for other processors."""
    built = build_into_the_package(compiler.VARIANTS[0])
    for variant in compiler.VARIANTS[1:]:
        (built.parent / compiler.file_name(variant)).write_bytes(b"for another processor")
    monkeypatch.setattr(build, "cpu_flags", lambda: compiler.VARIANTS[0].cpu_flags)
    expected = 42, "AVX2, built into the package for x86-64-v3, for training and generation"
    assert loaded() == expected and not (workshop / "cache").exists()
    monkeypatch.setenv("PATH", str(workshop))
    assert loaded() == expected


def test_a_built_library_of_other_sources_is_not_taken(workshop, monkeypatch) -> None:
    monkeypatch.setattr(build, "cpu_flags", lambda: compiler.VARIANTS[0].cpu_flags)
    build_into_the_package(compiler.VARIANTS[0])
    assert "built into" in loaded()[1]
    (compiler.HERE / "answer.cpp").write_text(SOURCE.replace("42", "43"))
    answer, status = loaded()
    assert answer == 43 and "compiled into" in status


def test_a_built_library_that_cannot_be_loaded_makes_way(workshop, monkeypatch) -> None:
    monkeypatch.setattr(build, "cpu_flags", lambda: compiler.VARIANTS[0].cpu_flags)
    built = build_into_the_package(compiler.VARIANTS[0])
    built.write_bytes(b"of another system")
    answer, status = loaded()
    assert answer == 42 and "compiled into" in status
    monkeypatch.setenv("PATH", str(workshop))
    answer, status = loaded()
    assert answer is None and str(built) in status and "no C++ compiler" in status


def test_a_cache_of_somebody_else_is_not_trusted(workshop, monkeypatch) -> None:
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    answer, said = loaded()
    assert answer is None and "another user" in said


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_cache_that_others_can_write_is_not_trusted(workshop, mode) -> None:
    """Whatever lies there already: here the very library that would be compiled."""
    assert loaded()[0] == 42
    folder = workshop / "cache" / "open-exaone" / "kernels"
    folder.chmod(mode)
    answer, said = loaded()
    assert answer is None and f"others can write into {folder}" in said and "remove it" in said
    folder.chmod(0o755)
    folder.parent.chmod(0o777)
    assert loaded()[0] == 42
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o755  # so that nobody exchanges the folder


def test_a_cache_that_is_a_link_is_not_followed(workshop) -> None:
    place = workshop / "cache" / "open-exaone"
    (workshop / "elsewhere").mkdir(mode=0o700)
    place.mkdir(parents=True)
    (place / "kernels").symlink_to(workshop / "elsewhere")
    answer, said = loaded()
    assert answer is None and "is a link" in said and not list((workshop / "elsewhere").iterdir())


def planted(workshop, source):
    """Compiles `source` to evil.so: the path that our own library will have, not loaded in this process yet."""
    (workshop / "evil.cpp").write_text(source)
    command = ["g++", "-shared", "-fPIC", "-fopenmp", str(workshop / "evil.cpp"), "-o", str(workshop / "evil.so")]
    subprocess.run(command, check=True)
    flags = build._usable_flags()
    return build._cached_path(compiler.find_compiler(), build._options(flags), flags)


@pytest.mark.parametrize("kind", ["link", "open to others", "of another user", "pipe", "folder"])
def test_a_planted_library_is_not_loaded_but_replaced_where_that_can_be(workshop, kind, monkeypatch) -> None:
    built = planted(workshop, SOURCE.replace("42", "666"))
    if kind == "link":
        built.symlink_to(workshop / "evil.so")
    elif kind == "folder":
        built.mkdir()
    elif kind == "pipe":  # opening it would wait for ever
        os.mkfifo(built, 0o700)
    else:
        shutil.copy(workshop / "evil.so", built)
        built.chmod(0o777 if kind == "open to others" else 0o700)
    if kind == "of another user":
        real = Path.lstat
        other, number = os.getuid() + 1, built.stat().st_ino

        def lstat(path):
            found = real(path)
            return os.stat_result((*found[:4], other, *found[5:10])) if found.st_ino == number else found

        monkeypatch.setattr(Path, "lstat", lstat)
    answer, said = loaded()
    assert answer == (None if kind == "folder" else 42), said
    assert kind == "folder" or (stat.S_ISREG(built.lstat().st_mode) and stat.S_IMODE(built.stat().st_mode) == 0o700)


@pytest.mark.parametrize("broken", ["cut", "lacks a function"])
def test_a_library_that_is_not_whole_is_compiled_once_more(workshop, broken, monkeypatch) -> None:
    built = planted(workshop, SOURCE.replace("answer", "another"))
    shutil.copy(workshop / "evil.so", built)
    if broken == "cut":
        built.write_bytes(b"")
    assert loaded()[0] == 42
    compiled, real = [], compiler.compile_library
    monkeypatch.setattr(compiler, "compile_library", lambda *how: (compiled.append(1), real(*how)))
    (workshop / "source" / "answer.cpp").write_text("#define EXPORT static\nEXPORT int answer(int n) { return n; }\n")
    answer, said = loaded()
    assert answer is None and "undefined symbol: answer" in said and len(compiled) == 2


def test_every_function_that_is_called_is_looked_up_where_the_library_is_loaded() -> None:
    sources = "".join((compiler.HERE / name).read_text() for name in compiler.SOURCES)
    exported = {name.decode() for name in build.EXPORTED.findall(sources.encode())}
    rooms = "".join(file.read_text() for file in compiler.HERE.glob("*.py"))
    called = re.findall(r'call\("(\w+)"', rooms) + re.findall(r"kernels\.(decoder_\w+)", rooms)
    assert exported == set(called) and len(exported) == sources.count("EXPORT ")


def test_the_newest_libraries_are_kept(workshop) -> None:
    for number in range(6):
        (workshop / "source" / "answer.cpp").write_text(SOURCE.replace("42", str(number)))
        assert loaded()[0] == number
        newest = max((workshop / "cache").rglob("*.so"), key=lambda file: file.stat().st_mtime_ns)
        os.utime(newest, ns=(number * 10**9, number * 10**9))
    kept = list((workshop / "cache").rglob("*.so"))
    assert sorted(file.stat().st_mtime_ns // 10**9 for file in kept) == [2, 3, 4, 5]


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
