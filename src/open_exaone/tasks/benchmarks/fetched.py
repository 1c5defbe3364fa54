"""Where benchmarks are kept that were fetched and converted."""

import os
from pathlib import Path


def fetched_file(name: str) -> Path:
    """`$XDG_CACHE_HOME/open-exaone/benchmarks/NAME.jsonl`; `~/.cache` where the variable names no folder."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    root = (
        Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    )  # the standard ignores relative ones
    return root / "open-exaone" / "benchmarks" / f"{name}.jsonl"
