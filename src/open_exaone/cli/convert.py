"""`exaone convert`: a model in another layout or dtype."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from open_exaone.base.output import say
from open_exaone.base.text import count
from open_exaone.cli.flags import Model


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ConvertArguments:
    """The flags of `exaone convert`."""

    to: Literal["exaone", "exaone4", "llama", "qwen2", "qwen3", "gguf"] | None = None
    """The layout to write; the model's own if left out. gguf is llama.cpp's; exaone and llama name the same layers."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """The number format of the weights that are written; the model's own if left out."""
    adapter: Path | None = None
    """A folder of LoRA adapters in PEFT's format, which are merged into the weights."""
    response_template: bool = True
    """Write into the copy's tokenizer_config.json how a reply is split into thought, answer and tool calls, for vLLM,
    SGLang and transformers; for models that speak EXAONE Deep's or 4.0's chat format."""


def convert(
    source: Model,
    target: Annotated[Path, Parameter(help="A new folder; with --to gguf also a new file that ends in .gguf.")],
    /,
    *,
    args: ConvertArguments = ConvertArguments(),
) -> int:
    """Rewrite a model in another layout or dtype, with its tokenizer and its licence."""
    from open_exaone.checkpoint.convert import convert
    from open_exaone.pipeline.card import record_conversion
    from open_exaone.pipeline.source import resolve_model

    model = resolve_model(source)
    config = convert(
        model,
        target,
        to=args.to,
        dtype=args.dtype,
        adapter=args.adapter,
        response_template=args.response_template,
    )
    if args.to != "gguf" and args.adapter is None:
        record_conversion(model, target)
    layout = "GGUF" if args.to == "gguf" else config.family
    say(f"{target}: {config.num_parameters:,} parameters in {count(config.num_layers, 'layer')}, as {layout}")
    return 0
