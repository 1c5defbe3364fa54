"""The part of the public Python API that computes; `open_exaone` offers these names, and they stay."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Sampling
from open_exaone.checkpoint import folder as _folder
from open_exaone.checkpoint.convert import convert as _convert
from open_exaone.engine.engine import Engine
from open_exaone.model.config import ModelConfig
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.card import record_conversion
from open_exaone.pipeline.evaluate import Choices
from open_exaone.pipeline.evaluate import evaluate as _evaluate
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import DEFAULT_RECIPE, check_one_stage, load_recipe
from open_exaone.pipeline.run import run_recipe as _run_recipe
from open_exaone.pipeline.source import resolve_model
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.settings import JudgeSettings

__all__ = ["Engine", "Sampling", "convert", "evaluate", "load_model", "load_tokenizer", "run_recipe", "run_training"]


def load_model(
    source: str | Path, dtype: str = "auto", device: str = "cpu", *, revision: str | None = None
) -> LanguageModel:
    """Opens a model: `model(ids_BT)` gives `logits_BTV`, float32.

    Args:
        source: a model's folder of family exaone, exaone4, llama, qwen2 or qwen3; a run's folder, which stands for its
            last model; a name on the Hugging Face hub, such as "LGAI-EXAONE/EXAONE-4.0-1.2B"; or "pebble-0.9m", the
            small model that comes with Open-EXAONE.
        dtype: "float32", "bfloat16", "float16", or "auto": bfloat16 where the device is fast at it.
        revision: of a model on the hub: a branch, a tag or a commit.

    Raises:
        CheckpointError: a file is missing or broken, or the hub has no such model or cannot be reached.
        ConfigError: `source` is none of these.
    """
    folder = _resolve(source, revision)
    return _folder.load_model(folder, dtype=dtype, device=_folder.resolve_device(device))


def load_tokenizer(source: str | Path, *, chat_format: str | None = None, revision: str | None = None) -> Tokenizer:
    """Opens the tokenizer of a model's folder, of a run's folder, or of a model on the Hugging Face hub.

    Args:
        source: any of these, or a folder with a `tokenizer.json` and no model.
        chat_format: how conversations are rendered: a name such as "exaone-4.0" (a wrong one is answered with all of
            them), or "template", the checkpoint's own chat template; the checkpoint's own way if left out.
        revision: of a model on the hub: a branch, a tag or a commit.

    Raises:
        CheckpointError: a file is missing or broken, or the hub has no such model or cannot be reached.
        ConfigError: `source` is none of these.
    """
    has_one = revision is None and (Path(source) / "tokenizer.json").is_file()
    folder = Path(source) if has_one else _resolve(source, revision)
    return _folder.load_tokenizer(folder, chat_format=chat_format)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str | None = None,
    dtype: str | None = None,
    adapter: str | Path | None = None,
    revision: str | None = None,
) -> ModelConfig:
    """Converts a model into another family's layout, another dtype, or llama.cpp's GGUF; merges LoRA adapters.

    The weights pass through one shard at a time, and `target` appears whole or not at all. The tokenizer's files and
    the licence come along, and how a model of ours was made (`conversion.json`). Without a `dtype` every tensor keeps
    its bits.

    Args:
        source: a model's or a run's folder, or a name on the hub.
        target: a folder that is not there yet or empty, or with `to="gguf"` also a file that ends in `.gguf`.
        to: "exaone" and "llama" name the same computation and may stand for each other; "gguf" is llama.cpp's format;
            any other family only for itself. The source's own family if left out.
        dtype: "float32", "bfloat16" or "float16".
        adapter: a folder of LoRA adapters in PEFT's format, which are added to the weights.
        revision: of a model on the hub: a branch, a tag or a commit.

    Returns:
        the converted model's config.

    Raises:
        ConfigError: the pair is illegal, `target` is in use, or its name is not what the licence asks for.
        CheckpointError: the source is broken, or cannot be written in the target's layout; names the file and why.
    """
    adapters = None if adapter is None else Path(adapter)
    folder = _resolve(source, revision)
    config = _convert(folder, Path(target), to=to, dtype=dtype, adapter=adapters)
    if to != "gguf" and adapters is None:
        record_conversion(folder, Path(target))
    return config


def _resolve(source: str | Path, revision: str | None) -> Path:
    if revision is None:
        return resolve_model(Path(source))
    if "@" in str(source) or Path(source).exists():
        raise ConfigError(f"revision = {revision!r}: is for names on the hub, and given once; {source} needs none")
    return resolve_model(Path(f"{source}@{revision}"))


def evaluate(
    source: str | Path,
    suite: str | None = None,
    *,
    num_samples: int | None = None,
    out: str | Path | None = None,
    engine: str = "local",
    rows: Mapping[str, str] | None = None,
    limit: int | None = None,
    budgets: Sequence[int] | None = None,
    compare: bool = False,
    settings: JudgeSettings | None = None,
    device: str = "auto",
    dtype: str = "auto",
    unsafe_code_execution: bool = False,
    **choices: Any,
) -> dict[str, Any]:
    """Measures a model, or goes on with a measurement that was cut; as `exaone eval` does, but prints nothing.

    Args:
        source: a run's or a model's folder, a name on the hub, or an endpoint's address.
        suite: a suite, a benchmark, a file of problems, or a set of a run's problems; a run's own if left out.
        out: the evaluation's folder; one under runs/eval if left out.
        engine: "local", "vllm", "vllm_server", or an endpoint's address.
        rows: benchmark -> where its rows are.
        choices: see `open_exaone.pipeline.evaluate.Choices`, which has all of them; also fields of `Sampling`, such as
            temperature = 0.

    Returns:
        report.json, with the path of its folder as "folder"; the fields of its first task also stand at the top.

    Raises:
        ConfigError, DataError, RunFolderError: see `open_exaone.pipeline.evaluate.evaluate`.
    """
    own, sampling = ({field.name: None for field in fields(record)} for record in (Choices, Sampling))
    del own["sampling"]
    if unknown := sorted(choices.keys() - own.keys() - sampling.keys()):
        raise ConfigError(f"{unknown[0]}: unknown; known are {', '.join(own | sampling)}")
    asked = Choices(
        suite=suite,
        num_samples=num_samples,
        engine=engine,
        rows=dict(rows or {}),
        limit=limit,
        budgets=None if budgets is None else tuple(budgets),
        sampling={name: value for name, value in choices.items() if name not in own},
        compare=compare,
        **{name: value for name, value in choices.items() if name in own},
    )
    machine = Machine(device, dtype, unsafe_code_execution)
    folder, report = _evaluate(
        str(source), asked, out=None if out is None else Path(out), machine=machine, settings=settings
    )
    values = report.model_dump(mode="json")
    return {**values["tasks"][0], **values, "folder": str(folder)}


def run_recipe(
    recipe: str | Path | Mapping[str, Any] = DEFAULT_RECIPE,
    out: str | Path = "runs/recipe",
    *,
    overrides: Sequence[str] = (),
    quick: bool = False,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
    device: str = "auto",
    dtype: str = "auto",
    unsafe_code_execution: bool = False,
) -> dict[str, Any]:
    """Runs a whole recipe, or resumes it, as `exaone run` does.

    Args:
        recipe: a shipped recipe's name, a TOML file, or what one would hold; see docs/training.md.
        overrides: texts such as "rl.group_size=16".
        quick: the recipe's own short form.
        on_event: called with each step's metrics, {"stage", "step", "num_steps", "loss", …}, and with {"message": …}.

    Returns:
        the report, as in report.json.
    """
    resolved = load_recipe(recipe, overrides, quick=quick)
    return _run_recipe(resolved, Path(out), on_event, Machine(device, dtype, unsafe_code_execution))


def run_training(
    recipe: str | Path | Mapping[str, Any], out: str | Path, *, overrides: Sequence[str] = (), **options: Any
) -> dict[str, Any]:
    """Runs a recipe of one stage, or resumes it, as `exaone train` does.

    Args:
        options: as for `run_recipe`.

    Returns:
        the stage's entry of the report, with the path of the model, or of a filter's kept problems, as "result".

    Raises:
        ConfigError: the recipe has several stages.
    """
    check_one_stage(load_recipe(recipe, overrides))
    report = run_recipe(recipe, out, overrides=overrides, **options)
    [entry] = report["stages"]
    result = "kept.jsonl" if "filter" in entry else "model"
    return {**entry, "result": str(Path(out) / entry["folder"] / result)}
