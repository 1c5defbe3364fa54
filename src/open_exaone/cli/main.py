"""`exaone`: every command's flags and help; what it does stands in `cli/commands.py`, imported after parsing."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from open_exaone.base.errors import ConfigError, OpenExaoneError
from open_exaone.base.interrupt import Interrupted
from open_exaone.base.output import guard_output, memory_error, say_error
from open_exaone.cli.asked import Asked, Rows, read_rows
from open_exaone.cli.preparing import data

DONE, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

app = App(
    name="exaone",
    help="Train a language model to reason, measure it, and talk to it.",
    help_format="plaintext",
    version_flags=["--version"],
    suppress_keyboard_interrupt=False,  # `_run` says what was saved
)

app.command(data)

Device = Annotated[
    Literal["auto", "cpu", "cuda"], Parameter(help="Where to compute; auto takes a GPU if there is one.")
]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16"], Parameter(help="How to compute; auto is bfloat16 where that is fast.")
]
Settings = Annotated[
    Path | None, Parameter(help="A TOML file, such as a recipe, whose table [judge] says what judging may cost.")
]
UnsafeCodeExecution = Annotated[
    bool, Parameter(negative="", help="Run generated programs even where this machine cannot isolate them.")
]
Model = Annotated[
    Path,
    Parameter(help="A run's folder (its last finished model), a model's folder, or owner/name[@revision] on the hub."),
]


@app.command
def run(
    recipe: Annotated[str, Parameter(help="A shipped recipe's name, or a TOML file.")] = "nano/exaone-deep",
    /,
    *,
    out: Annotated[Path | None, Parameter(help="The run's folder; runs/<recipe's name> if left out.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", negative="", help="Override a value, such as --set rl.group_size=16; may be repeated."),
    ] = None,
    quick: Annotated[bool, Parameter(negative="", help="The same stages cut down to about two minutes.")] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    unsafe_code_execution: UnsafeCodeExecution = False,
) -> int:
    """Run a whole recipe: train, measure and report every stage. The same command resumes a run that was cut."""
    return _command("run")(recipe, out, set_ or [], quick, device, dtype, unsafe_code_execution)


@app.command
def train(
    file: Annotated[Path, Parameter(help="A TOML file: a model, its data, and what is done with them.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="The run's folder; runs/<its name> if left out.")] = None,
    set_: Annotated[
        list[str] | None,
        Parameter(name="--set", negative="", help="Override a value, such as --set stage.num_epochs=2; repeatable."),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    unsafe_code_execution: UnsafeCodeExecution = False,
) -> int:
    """Train one stage on your own data: pretraining, SFT, preference or online RL. The same command resumes it."""
    return _command("train", "train")(file, out, set_ or [], device, dtype, unsafe_code_execution)


@app.command(name="eval")
def eval_(
    model: Annotated[
        str | None,
        Parameter(
            help="A run's folder, a model's folder, owner/name[@revision] on the hub, an endpoint's address, or with "
            "--engine ADDRESS the model's name there."
        ),
    ] = None,
    /,
    *,
    asked: Annotated[Asked | None, Parameter(name="*")] = None,
    against: Annotated[Path | None, Parameter(help="Another evaluation's folder to compare with.")] = None,
    shared_only: Annotated[
        bool, Parameter(negative="", help="With --against: where questions differ, compare those that both have.")
    ] = False,
    rescore: Annotated[
        Path | None,
        Parameter(help="Generate nothing: judge a folder's samples anew, or a file of replies that others stored."),
    ] = None,
    kind: Annotated[
        str | None,
        Parameter(help="With --rescore FILE: how answers are compared (math); of a folder: your function."),
    ] = None,
    out: Annotated[Path | None, Parameter(help="The evaluation's folder; one under runs/eval if left out.")] = None,
    settings: Settings = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    unsafe_code_execution: UnsafeCodeExecution = False,
) -> int:
    """Measure a model with error bars; the same command goes on where a measurement was cut."""
    run = _command("eval_", "measuring")
    return run(
        model,
        asked or Asked(),
        rescore,
        against,
        shared_only,
        kind,
        out,
        settings,
        device,
        dtype,
        unsafe_code_execution,
    )


@app.command
def suites() -> int:
    """List the suites and benchmarks that `eval` knows."""
    return _command("suites", "measuring")()


@app.command
def fetch(
    benchmark: Annotated[str, Parameter(help="Its name, or a .toml file that describes it.")],
    /,
    *,
    rows: Annotated[
        str | None, Parameter(help="A file, a folder, or owner/name on the hub, instead of its own.")
    ] = None,
    out: Annotated[Path | None, Parameter(help="Where to write; where `eval` looks, if left out.")] = None,
    changed: Annotated[bool, Parameter(negative="", help="Take content that differs from what we know.")] = False,
) -> int:
    """Get a benchmark's rows from the hub or from a file of yours, check every one, and tell the checksum."""
    return _command("fetch", "measuring")(benchmark, rows, out, changed)


@app.command
def verify_real(
    model: Model,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Gets the report; runs/verify-real/NAME if left out.")] = None,
    rows: Rows = None,
    problems: Annotated[int | None, Parameter(help="Only so many of MATH-500.")] = None,
    samples: Annotated[int, Parameter(help="Of each problem.")] = 8,
    rl_steps: Annotated[int, Parameter(help="Steps of online RL; 0 leaves them out.")] = 50,
    device: Device = "auto",
    dtype: Dtype = "auto",
    unsafe_code_execution: UnsafeCodeExecution = False,
) -> int:
    """Check a published model here: logits against transformers, MATH-500 beside the table, and steps of RL."""
    run = _command("verify_real", "measuring")
    return run(model, out, read_rows(rows), problems, samples, rl_steps, device, dtype, unsafe_code_execution)


@app.command
def judge(
    file: Annotated[Path, Parameter(help="One JSON object a line: reply, gold, and what else `ox.judge` takes.")],
    /,
    *,
    kind: Annotated[str, Parameter(help="How answers are compared, where a line does not say.")] = "math",
    out: Annotated[Path | None, Parameter(help="Gets the verdicts; FILE.verdicts.jsonl if left out.")] = None,
    settings: Settings = None,
    unsafe_code_execution: UnsafeCodeExecution = False,
) -> int:
    """Judge recorded replies: math, choice, code, constraints and more."""
    return _command("judge")(file, kind, out, settings, unsafe_code_execution)


@app.command
def chat(
    model: Model,
    /,
    *,
    thinking: Annotated[bool, Parameter(help="Begin in reasoning mode.")] = True,
    temperature: Annotated[float, Parameter(help="Of the samples; 0 is greedy.")] = 0.6,
    max_new_tokens: Annotated[
        int | None, Parameter(help="The longest reply, thought included; the run's own limit, or 4096, if left out.")
    ] = None,
    seed: Annotated[int, Parameter(help="Of the samples.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> int:
    """Talk to a model in the terminal; of a run's folder, it offers problems that the model can do."""
    return _command("chat")(model, thinking, temperature, max_new_tokens, seed, device, dtype)


@app.command
def convert(
    source: Model,
    target: Annotated[Path, Parameter(help="A new folder; with --to gguf also a new file that ends in .gguf.")],
    /,
    *,
    to: Annotated[
        Literal["exaone", "exaone4", "llama", "qwen2", "qwen3", "gguf"] | None,
        Parameter(help="exaone and llama name the same layers; gguf is llama.cpp's format; the same if left out."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        Parameter(help="How to store weights; as they are if left out."),
    ] = None,
    adapter: Annotated[
        Path | None, Parameter(help="Merge this folder's LoRA adapters (PEFT's format) into the weights.")
    ] = None,
) -> int:
    """Rewrite a model's folder in another layout or dtype; its tokenizer and its licence come along."""
    return _command("convert")(source, target, to, dtype, adapter)


@app.command
def models() -> int:
    """List the published EXAONE models that can be opened by name, with what their context costs."""
    return _command("models")()


@app.command
def doctor() -> int:
    """Say what this machine can do, and what is missing."""
    return _command("doctor")()


def _command(name: str, module: str = "commands") -> Callable[..., int]:
    """A command's body, imported once its arguments are known to be good."""
    from open_exaone.base.machine import prepare_process

    prepare_process()
    body: Callable[..., int] = getattr(import_module(f"open_exaone.cli.{module}"), name)
    return body


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 misused, 130 interrupted."""
    guard_output()
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    try:
        result: Any = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return result if isinstance(result, int) else DONE
    except (CycloptsError, ConfigError) as error:
        say_error(error)
        return MISUSED
    except OpenExaoneError as error:
        say_error(error)
        return FAILED
    except Interrupted:
        say_error("interrupted; what was done so far is saved. The same command goes on.")
        return INTERRUPTED
    except KeyboardInterrupt:
        say_error("interrupted. What was saved before is kept.")
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # whoever read the output has left
        return FAILED
    except Exception as error:
        if (why := memory_error(error)) is None:
            raise
        say_error(why)
        return FAILED
