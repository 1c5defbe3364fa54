"""The published models as a table: shape, size, and what the whole context costs in keys and values; our own model."""

from rich.table import Table

from open_exaone.checkpoint.shipped import shipped_facts
from open_exaone.model.registry import PUBLISHED
from open_exaone.present import formatting

COLUMNS_EXPLAINED = (
    "Open one by its name, such as LGAI-EXAONE/EXAONE-4.0-1.2B. Layers: G see the whole context, L a window of it "
    "(LLLG: three of four). Tokens: of pretraining. KV cache: keys and values of one sequence over the whole context, "
    "in bfloat16, and their share of what layers that all see the whole context would take."
)
COLUMNS = ("LGAI-EXAONE/…", "layers", "parameters", "tokens", "context", "KV cache", "of all G")


def published_table() -> Table:
    """One row a model; `COLUMNS_EXPLAINED` says what the columns hold."""
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
