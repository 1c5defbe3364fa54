"""Measures a model by name: a run's own measurement repeated, another split, or a user's own problems."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.base import interrupt
from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.files import explain_os_errors
from open_exaone.base.records import Completion, Problem, Sampling
from open_exaone.evaluation.config import EvaluationConfig
from open_exaone.evaluation.run import evaluate_problems
from open_exaone.rollout.run import Generate
from open_exaone.story.folder import RunFolder, is_run, resolve_model
from open_exaone.tasks.own import own_problems
from open_exaone.verify.own import is_own
from open_exaone.verify.settings import JudgeSettings

if TYPE_CHECKING:
    from open_exaone.engine.engine import Engine

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Machine:
    """Where tensors are computed and programs run; not part of any recipe."""

    device: str = "auto"  # "auto", "cpu", "cuda"
    dtype: str = "auto"  # "auto", "float32", "bfloat16"
    unsafe_code_execution: bool = False  # run generated programs even where they cannot be isolated

    def judge(self, settings: JudgeSettings) -> JudgeSettings:
        """A recipe's settings on this machine."""
        return settings.model_copy(update={"unsafe_code_execution": self.unsafe_code_execution})


def measure(
    source: Path,
    *,
    suite: str | None = None,
    stage: str | None = None,
    num_samples: int | None = None,
    out: Path,
    machine: Machine | None = None,
    settings: JudgeSettings | None = None,
    on_event: OnEvent = lambda event: None,
) -> dict[str, Any]:
    """Measures a model and writes `out/samples.jsonl`, `out/greedy.jsonl` and `out/report.json`.

    Args:
        source: a run's folder, which brings its problems and its sampling, or a model's folder.
        suite: a set of the run's problems, a `.jsonl` file of problems, or a function that gives them ("FILE.py:name");
            the recipe's own if left out.
        stage: which stage's model of the run; the last finished one if left out.
        num_samples: samples of each problem; the recipe's number if left out.
        settings: what judging may cost; the recipe's if left out.

    Returns:
        what `evaluation.score.summarise` gives, with `mode` and `split`.

    Raises:
        ConfigError: there is no such model, stage or suite.
        DataError: a line of the problems' file is wrong.
    """
    from open_exaone.checkpoint.folder import load_model, load_tokenizer, resolve_device
    from open_exaone.checkpoint.licence import licence_of, model_name, tell_before_generating
    from open_exaone.engine.engine import Engine

    folder, thinking = find_model(source, stage)
    config = evaluation_of(source)
    suite = suite or config.split
    changes = {"split": suite} | ({"num_samples": num_samples} if num_samples is not None else {})
    config = validate(EvaluationConfig, config.model_dump() | changes, "evaluation")
    with explain_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    recipe = RunFolder(source).recipe() if is_run(source) else None
    machine = machine or Machine()
    settings = machine.judge(settings or (recipe.judge if recipe else JudgeSettings()))
    problems = find_problems(source, suite, settings)
    tokenizer = load_tokenizer(folder)
    tell_before_generating(licence_of(folder), model_name(folder))
    num_slots = recipe.num_slots if recipe else 128
    model = load_model(folder, dtype=machine.dtype, device=resolve_device(machine.device))
    engine = Engine(model, tokenizer, num_slots=num_slots)
    generate = watched(engine, on_event, "measure")
    return evaluate_problems(problems, generate, tokenizer, config, settings, thinking=thinking, folder=out)


def watched(engine: "Engine", on_event: OnEvent, label: str | None) -> Generate:
    """The engine as a callable that tells its progress under `label` and heeds Ctrl-C midway.

    Without a label it does neither: a training step is finished first, and the loop saves its state.
    """

    def generate(prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Completion]]:
        total, done, tokens = len(prompts) * sampling.num_samples, 0, 0
        started = time.perf_counter()
        name = f"{label}, greedy" if sampling.temperature == 0 else label

        def on_step(num_tokens: int, num_done: int) -> None:
            nonlocal done, tokens
            interrupt.check()
            done, tokens = done + num_done, tokens + num_tokens
            if num_done:
                speed = tokens / (time.perf_counter() - started)
                on_event({"stage": name, "step": done, "num_steps": total, "tokens_per_second": speed})

        return engine.generate(prompts, sampling, on_step if label else None)

    return generate


def find_model(source: Path, stage: str | None = None) -> tuple[Path, bool]:
    """The model's folder, and whether it is to be asked in reasoning mode.

    Raises:
        ConfigError: there is no such model or stage.
    """
    if not is_run(source):
        if stage is not None:
            raise ConfigError(f"--stage {stage}: {source} is not a run's folder, and only a run has stages")
        return resolve_model(source), True
    run = RunFolder(source)
    folders = {config.name: run.stage(index, config.name) / "model" for index, config in enumerate(run.recipe().stages)}
    if stage is not None and stage not in folders:
        raise ConfigError(f"--stage {stage}: must be one of {', '.join(folders)}")
    folder = folders[stage] if stage is not None else resolve_model(source)
    if not folder.is_dir():
        raise ConfigError(f"--stage {stage}: has not finished yet: run `exaone story --out {source}`")
    thinking = {folders[config.name]: config.thinking for config in run.recipe().stages}
    return folder, thinking[folder]


def evaluation_of(source: Path) -> EvaluationConfig:
    """The run's own way of measuring, or the reports' sampling for a model without a run."""
    return RunFolder(source).recipe().evaluation if is_run(source) else EvaluationConfig(max_new_tokens=160)


def find_problems(source: Path, suite: str, settings: JudgeSettings | None = None) -> list[Problem]:
    """A set of the run's problems, or the user's own.

    Raises:
        ConfigError: there is no such set.
        DataError: a line of the file is wrong.
    """
    if suite.endswith(".jsonl") or is_own(suite):
        return own_problems(suite, settings)
    if not is_run(source):
        raise ConfigError(f"{source}: is not a run's folder: name a file of problems with --suite FILE.jsonl")
    known = sorted(path.stem for path in (source / "problems").glob("*.jsonl"))
    if suite not in known:
        raise ConfigError(f"--suite {suite}: must be one of {', '.join(known)}, a .jsonl file, or FILE.py:function")
    return RunFolder(source).problems(suite)
