"""Memory and threads that end within the native decoder: an error that says what to do, and the session goes on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from doubles import make_model
from open_exaone.engine import native
from open_exaone.kernels import compiler

HERE = Path(__file__).parent


def test_memory_and_threads_may_end_at_any_point(tmp_path):
    if why := native.why_not(make_model()):
        pytest.skip(why)
    try:
        program = compiler.find_compiler()
    except compiler.Unavailable as error:
        pytest.skip(str(error))
    library = tmp_path / "no_memory.so"
    options = ["-std=c++20", "-O1", "-fPIC", "-shared", "-pthread"]
    subprocess.run([program, *options, str(HERE / "no_memory.cpp"), "-o", str(library), "-ldl"], check=True)
    done = subprocess.run(
        [sys.executable, str(HERE / "native_faults.py")],
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.endswith("fine\n"), done.stdout + done.stderr
