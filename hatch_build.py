"""Builds a wheel with compiled kernels where OPEN_EXAONE_BUILD_KERNELS=1; otherwise wheels are pure Python."""

import importlib.util
import os
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SWITCH = "OPEN_EXAONE_BUILD_KERNELS"


class BuildKernels(BuildHookInterface):
    """Compiles the kernels for each `compiler.Variant` into open_exaone/kernels/built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get(SWITCH) != "1":
            return
        if (platform := sysconfig.get_platform()) != "linux-x86_64":
            raise RuntimeError(f"{SWITCH}=1: the kernels are compiled for linux-x86_64, and this is {platform}")
        compiler = _compiler(Path(self.root))
        program = compiler.find_compiler()
        self.folder = tempfile.TemporaryDirectory(prefix="open-exaone-kernels-")
        for variant in compiler.VARIANTS:
            path = Path(self.folder.name) / compiler.file_name(variant)
            self.app.display_info(f"Compiling {path.name} for {variant.instructions}")
            compiler.compile_library(program, variant.options, path)
            path.chmod(0o755)
            build_data["force_include"][str(path)] = f"open_exaone/kernels/built/{path.name}"
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"  # no Python's own functions are called

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()


def _compiler(root: Path) -> ModuleType:
    """The package's own compiler module, without the package: it would import torch."""
    spec = importlib.util.spec_from_file_location("compiler", root / "src/open_exaone/kernels/compiler.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses looks there
    spec.loader.exec_module(module)
    return module
