"""What the parts of `verify-real` share: a check, a part's file, memory, and texts that may be shared."""

import gc
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.base.errors import ConfigError, DataError, OpenExaoneError
from open_exaone.base.files import read_json, write_json
from open_exaone.base.log import logger
from open_exaone.base.machine import peak_rss_bytes
from open_exaone.pipeline.measure import Machine, OnEvent

if TYPE_CHECKING:
    import torch

    from open_exaone.model.config import ModelConfig

_PATH = re.compile(r"(?<![\w/.<~…])(?:~[\w.-]*|\.{1,2})?/(?:[\w.@+~ -]*[\w.@+~-]/)*([\w.@+~-]+)/?")


@dataclass(frozen=True, slots=True)
class Check:
    """One question with its answer."""

    name: str
    passed: bool | None  # None: not decided; `detail` says for what reason
    detail: str  # one sentence: what was found, and what is tolerated


@dataclass(frozen=True, slots=True)
class Found:
    """What a part found."""

    checks: tuple[Check, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """What all parts are about."""

    folder: Path  # the model's
    name: str  # what the model is called
    sha256: str  # of its files
    config: "ModelConfig"
    out: Path
    machine: Machine
    on_event: OnEvent

    @property
    def device(self) -> "torch.device":
        from open_exaone.checkpoint.folder import resolve_device

        return resolve_device(self.machine.device)

    def say(self, text: str) -> None:
        self.on_event({"message": text})


def run_part(trial: Trial, name: str, settings: Mapping[str, Any], work: Callable[[], Found]) -> dict[str, Any]:
    """Runs a part, or takes what its file holds.

    A part is finished once its checks are answered, passed or not; one that could not be done is tried again.

    Args:
        settings: what decides the outcome, as JSON.

    Returns:
        {"status", "why", "checks", "figures", "seconds", "peak_memory_bytes", "settings"}; status is "passed", "failed"
        (a check did not pass) or "error" (it could not be done; `why` says how to fix it).
    """
    file = trial.out / f"{name}.json"
    if (before := _finished(file, settings)) is not None:
        trial.say(f"{name}: finished before")
        return before
    started = time.perf_counter()
    _forget_peak(trial)
    try:
        found = work()
        wrong = [check.name for check in found.checks if check.passed is False]
        status, why = ("failed", f"did not pass: {', '.join(wrong)}") if wrong else ("passed", "")
    except OpenExaoneError as error:
        found, status, why = Found(()), "error", str(error)
    except Exception as error:  # the border of a part: one that breaks must not take the others with it
        logger.exception("%s: broke", name)
        found, status, why = Found(()), "error", _explain(error)
    finally:
        free_memory()
    result = {
        "status": status,
        "why": why,
        "checks": [asdict(check) for check in found.checks],
        "figures": dict(found.figures),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_bytes": _peak(trial),
        "settings": dict(settings),
    }
    write_json(file, result)
    trial.say(f"{name}: {status}{f': {why}' if why else ''}")
    return result


def _finished(file: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = read_json(file)
        is_same = found["settings"] == settings and found["status"] in ("passed", "failed")
    except (DataError, KeyError, TypeError):  # not there, or no longer a part's
        return None
    return found if is_same else None


def clean_folder(folder: Path, settings: Mapping[str, Any]) -> Path:
    """A folder for what a part leaves half done; what was done there under other settings is removed first."""
    marker = folder.with_name(f"{folder.name}-settings.json")
    try:
        is_same = read_json(marker) == settings
    except DataError:
        is_same = False
    if not is_same:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(marker, dict(settings))
    folder.mkdir(exist_ok=True)
    return folder


def _explain(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0][:300]
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "out of memory" in text:
        return f"the memory was not enough ({text}): stop other programs that use it, or take a smaller model"
    return f"{type(error).__name__}: {text}: the log has the rest; please report it"


# Memory


def free_memory() -> None:
    """Gives back what a model that is no longer used held, on a GPU too."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _forget_peak(trial: Trial) -> None:
    import torch

    if trial.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trial.device)


def _peak(trial: Trial) -> int:
    """The GPU's peak during this part, or on a CPU the process's so far."""
    import torch

    return torch.cuda.max_memory_allocated(trial.device) if trial.device.type == "cuda" else peak_rss_bytes()


# Sharing


def shareable(value: Any, private: Sequence[str] = ()) -> Any:
    """The value without paths: of each, its last name stays.

    Args:
        private: paths that may stand in it as they are, relative ones too; a home's last name goes as well.
    """
    if isinstance(value, str):
        for path in sorted((path for path in private if len(Path(path).parts) > 1), key=len, reverse=True):
            value = value.replace(path, "…" if Path(path) == Path.home() else f"…/{Path(path).name}")
        return _PATH.sub(r"…/\1", value)
    if isinstance(value, Mapping):
        return {key: shareable(item, private) for key, item in value.items()}
    return [shareable(item, private) for item in value] if isinstance(value, list | tuple) else value


def plain_name(name: str) -> str:
    """A model's name as it is shared: `owner/name` as on the hub, of any other path its last part.

    >>> plain_name("/home/someone/EXAONE-Deep-2.4B"), plain_name("LGAI-EXAONE/EXAONE-Deep-2.4B")
    ('EXAONE-Deep-2.4B', 'LGAI-EXAONE/EXAONE-Deep-2.4B')
    """
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..", "~")]
    is_hub_name = len(parts) == 2 and name == "/".join(parts)
    return name if is_hub_name else (parts or ["model"])[-1]


def need_transformers() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            'transformers is not installed, and this part compares with it: pip install "transformers>=5.0"'
        ) from error
    return transformers
