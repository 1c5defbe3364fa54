"""What stands before a program: such as the imports that judges of contests make for it."""

import importlib
import re
from functools import cache

# LiveCodeBench imports everything from these, and then the modules themselves, before it runs a program.
_MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json", "typing"),
)
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_FUTURE = re.compile(r"^from __future__ import[ \t]*(?:\([^()]{0,1000}\)[^\n]*|(?:[^\n\\]|\\\n)*)\n", re.MULTILINE)


def with_prelude(program: str) -> str:
    """The program, with the imports of every name in it that LiveCodeBench's judge would have imported."""
    offered = _offered()
    words = sorted(set(_WORD.findall(program)) & offered.keys())
    return with_header(program, "; ".join(["import sys; sys.setrecursionlimit(50000)", *(offered[w] for w in words)]))


def with_header(program: str, header: str) -> str:
    """The program with lines before it, though after what it imports from the future: that must come first."""
    future = list(_FUTURE.finditer(program))
    start = future[-1].end() if future else 0
    return f"{program[:start]}{header}\n{program[start:]}"


@cache
def _offered() -> dict[str, str]:
    """How each name is imported. The last module that has it wins, a module's own name over them all."""
    import builtins

    offered = {}
    for name in _MODULES:
        module = importlib.import_module(name)
        public = getattr(module, "__all__", [key for key in vars(module) if not key.startswith("_")])
        offered.update({key: f"from {name} import {key}" for key in public})
    offered.update({name: f"import {name}" for name in _MODULES})
    return {key: line for key, line in offered.items() if not hasattr(builtins, key)}
