"""The published models as a table: shape, size, and what the whole context costs in keys and values; our own model."""

from rich.table import Table

from open_exaone.checkpoint.shipped import shipped_facts
from open_exaone.model.registry import PUBLISHED
from open_exaone.present import formatting

COLUMNS = ("LGAI-EXAONE/…", "layers", "parameters", "tokens", "context", "KV cache", "of full")


def published_table() -> Table:
    """One row a model.

    Layers are G (global) or L (local), repeated; tokens are those of pretraining. "KV cache" is the memory of one
    sequence's keys and values over the whole context, in bfloat16; "of full" compares it with global layers only.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:2] else "right", no_wrap=True)
    for name, published in PUBLISHED.items():
        config = published.config
        kept = config.kv_cache_bytes(config.max_positions)
        full = config.model_copy(update={"pattern": "G"}).kv_cache_bytes(config.max_positions)
        table.add_row(
            name,
            f"{config.num_layers} {config.pattern}",
            f"{config.num_parameters:,}",
            f"{published.training_tokens / 1e12:g}T",
            f"{config.max_positions:,}",
            formatting.size(kept),
            formatting.percent(kept / full),
        )
    return table


def shipped_line() -> str:
    """The model that comes with the package, in a sentence.

    Raises:
        CheckpointError: it is damaged.
    """
    facts = shipped_facts()
    return (
        f"{facts['name']} comes with Open-EXAONE, under {facts['license'].title()}: {facts['num_parameters']:,} "
        f"parameters, trained from random weights by `exaone run {facts['recipe']}`."
    )
