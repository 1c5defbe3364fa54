"""Tests that call a program: the tests in one sandbox, the program in another, one socket between them."""

import json
import secrets
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from open_exaone.sandbox.programs import Limits, ProgramResult, run_pair

_MAX_REPORT_CHARS = 10_000


def run_with_tests(
    program: str, spec: Mapping[str, object], limits: Limits, *, unsafe: bool
) -> tuple[dict[str, Any] | None, ProgramResult, ProgramResult]:
    """Runs a program and its tests.

    Args:
        program: run as the module `solution`; what it defines can be called.
        spec: what `harness_tester.run_tests` takes, but for its token; the program has "limit_s", too.

    Returns:
        The report of the tests, or None where they did not reach their end; what became of the tests, and of the
        program.
    """
    token = secrets.token_hex(16)
    setup = json.dumps({**spec, "token": token})
    tests, solution = run_pair(
        f"{_harness('tester')}\nrun_tests(json.loads({setup!r}))\n",
        f"{_harness('candidate')}\nserve({program!a}, {spec.get('limit_s')})\n",
        limits,
        unsafe=unsafe,
    )
    reports = [line for line in tests.stdout[-_MAX_REPORT_CHARS:].split("\n") if line.startswith(token)]
    return (json.loads(reports[-1].removeprefix(token)) if reports else None), tests, solution


@cache
def _harness(side: str) -> str:
    """The source of one side, the wire first; there is no package to import where it runs."""
    folder = Path(__file__).parents[2] / "sandbox"
    sources = [(folder / f"harness_{name}.py").read_text(encoding="utf-8") for name in ("wire", side)]
    lines = [line for source in sources for line in source.split("\n")]
    return "\n".join(line for line in lines if not line.startswith("from open_exaone."))
