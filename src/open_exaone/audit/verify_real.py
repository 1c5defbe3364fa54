"""`exaone verify-real MODEL`: whether this package computes, measures and trains a published model as it should.

For whoever has weights and one GPU. Three parts, each by itself, and one report that may be shared.
"""

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

from open_exaone.audit import logits, math, rl
from open_exaone.audit.math import MeasureSuite
from open_exaone.audit.part import Trial, plain_name, run_part, shareable
from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, RunFolderError
from open_exaone.base.files import explain_os_errors, locked, read_json, write_json
from open_exaone.base.links import own_folder
from open_exaone.base.version import code_version
from open_exaone.pipeline.measure import Machine, OnEvent, find_model
from open_exaone.pipeline.report import versions
from open_exaone.present.verify_real import write_pages
from open_exaone.rollout.providers.local import weights_hash

SCHEMA_VERSION = 1
REPORT = "verify-real.json"
LOCK = ".verify-real.lock"
SKIPPED: dict[str, Any] = {
    "status": "skipped",
    "why": "left out with --rl-steps 0",
    "checks": [],
    "figures": {},
    "seconds": 0.0,
    "peak_memory_bytes": 0,
}
NO_ROWS: Mapping[str, str] = MappingProxyType({})


def verify_real(
    source: Path,
    out: Path,
    *,
    machine: Machine | None = None,
    rows: Mapping[str, str] = NO_ROWS,
    num_problems: int | None = None,
    num_samples: int = 8,
    num_rl_steps: int = 50,
    on_event: OnEvent = lambda event: None,
    measure_suite: MeasureSuite,
) -> dict[str, Any]:
    """Compares a model's logits with transformers', measures MATH-500, and trains some steps of RL.

    A part that was finished in `out` is not repeated, and one that was cut continues; a part that cannot be done says
    why, and the others still run.

    Args:
        source: a model's folder, a run's, or a name on the hub.
        out: gets `logits.json`, `math_500.json` and `rl.json`, what they need meanwhile, and `verify-real.json`, `.md`
            and `.html`: the report, which holds no paths.
        rows: benchmark -> file, folder or hub name: "math_500", and "gsm8k" for the RL's problems.
        num_problems: of MATH-500; all if left out.
        num_samples: k of MATH-500.
        num_rl_steps: 0 leaves the RL out.
        measure_suite: (source, suite=, num_samples=, limit=, rows=, out=, machine=, on_event=) -> an evaluation's
            report.

    Returns:
        the report. `passed` is whether no check failed and every part could be done; those left out do not count.

    Raises:
        ConfigError: there is no such model, or a number is out of range.
        CheckpointError: the model cannot be opened.
        RunFolderError: `out` holds something else, or another process works there.
        Interrupted: after Ctrl-C or SIGTERM; what was done is kept.
    """
    for name, number in (("--samples", num_samples), ("--problems", num_problems)):
        if number is not None and number < 1:
            raise ConfigError(f"{name} {number}: must be at least 1")
    if num_rl_steps < 0:
        raise ConfigError(f"--rl-steps {num_rl_steps}: must be at least 1, or 0 to leave that part out")
    started, clock = datetime.now(UTC), time.perf_counter()
    folder, _ = find_model(source)
    with _claimed(out), interrupt.deferred_interrupts():
        trial = _trial(folder, out, machine or Machine(), on_event)
        order = _Order(source, rows, num_problems, num_samples, num_rl_steps, measure_suite)
        report = {
            **_about(trial),
            "settings": {"num_problems": num_problems, "num_samples": num_samples, "num_rl_steps": num_rl_steps},
            "started": started.isoformat(timespec="seconds"),
            "parts": _run_parts(trial, order),
        }
        report["passed"] = all(part["status"] in ("passed", "skipped") for part in report["parts"].values())
        report["seconds"] = round(time.perf_counter() - clock, 1)
        places = [folder, folder.resolve(), out, out.resolve(), Path.home(), *([source] if source.exists() else [])]
        shared: dict[str, Any] = shareable(report, [*map(str, places), *rows.values()])
        write_json(out / REPORT, shared)
        write_pages(out)
    return shared


@dataclass(frozen=True, slots=True)
class _Order:
    """What the parts are asked to do."""

    source: Path
    rows: Mapping[str, str]
    num_problems: int | None
    num_samples: int
    num_rl_steps: int
    measure_suite: MeasureSuite


def _run_parts(trial: Trial, order: _Order) -> dict[str, Any]:
    """Every part's result, in order; without its settings, which hold paths and stay in its own file."""
    common = {"sha256": trial.sha256, "code": code_version(), "device": str(trial.device), "dtype": trial.machine.dtype}
    rows, k, limit, num_steps = order.rows, order.num_samples, order.num_problems, order.num_rl_steps
    math_500 = {**common, "rows": rows.get("math_500"), "num_problems": limit, "num_samples": k}
    for_logits, for_rl = {**common, **logits.settings_of()}, {**common, **rl.settings_of(rows, num_steps)}
    measure = order.measure_suite
    parts = {
        "logits": run_part(trial, "logits", for_logits, lambda: logits.compare_logits(trial, for_logits)),
        "math_500": run_part(
            trial, "math_500", math_500, lambda: math.measure_math(trial, order.source, rows, limit, k, measure)
        ),
        "rl": SKIPPED,
    }
    if num_steps:
        parts["rl"] = run_part(trial, "rl", for_rl, lambda: rl.train_steps(trial, rows, num_steps, for_rl))
        if parts["rl"]["status"] != "error":
            rl.clear_weights(trial.out)
    return {name: {key: part[key] for key in part if key != "settings"} for name, part in parts.items()}


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Makes the folder ours, and keeps other processes out.

    Raises:
        RunFolderError: it holds something else, or another process works there.
    """
    with explain_os_errors(out):
        if out.is_dir() and any(out.iterdir()) and not (out / LOCK).is_file():
            raise RunFolderError(
                f"{out}: is not empty and holds no run of verify-real: choose another folder with --out"
            )
        out.mkdir(parents=True, exist_ok=True)
    own_folder(out, RunFolderError)
    with locked(out / LOCK, f"{out}: another process verifies a model there: wait for it or stop it"):
        yield


def _trial(folder: Path, out: Path, machine: Machine, on_event: OnEvent) -> Trial:
    """What the parts are about.

    Raises:
        CheckpointError: the folder's config is wrong.
        RunFolderError: `out` holds the check of another model.
    """
    from open_exaone.checkpoint.folder import load_config
    from open_exaone.checkpoint.licence import model_name

    config = load_config(folder)
    on_event({"message": "reading the model's files …"})
    sha256 = weights_hash(folder)
    marker = out / "model.json"
    if marker.is_file() and read_json(marker).get("sha256") != sha256:
        raise RunFolderError(f"{out}: holds the check of another model: choose another folder with --out")
    name = plain_name(model_name(folder))
    write_json(marker, {"name": name, "sha256": sha256})
    return Trial(folder, name, sha256, config, out, machine, on_event)


def _about(trial: Trial) -> dict[str, Any]:
    """The report's head: what was checked, with what, on what."""
    from open_exaone.checkpoint.licence import licence_of

    config, licence = trial.config, licence_of(trial.folder)
    found = {**versions(), "code": code_version()}
    try:
        found["transformers"] = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        found["transformers"] = "not installed"
    return {
        "schema_version": SCHEMA_VERSION,
        "model": {
            "name": trial.name,
            "sha256": trial.sha256,
            "num_parameters": config.num_parameters,
            "shape": config.model_dump(mode="json"),
            "licence": licence and f"{licence.name}: {licence.use}",
        },
        "machine": _machine(trial),
        "versions": found,
    }


def _machine(trial: Trial) -> dict[str, Any]:
    import torch

    about: dict[str, Any] = {
        "device": trial.device.type,
        "dtype": trial.machine.dtype,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processor": platform.processor() or platform.machine(),
    }
    if trial.device.type == "cuda":
        properties = torch.cuda.get_device_properties(trial.device)
        about |= {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}
    return about
