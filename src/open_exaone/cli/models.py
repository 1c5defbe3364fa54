"""`exaone models`: the published models."""

from open_exaone.base.terminal import Console


def models() -> int:
    """List the published EXAONE models that open by name, what their context costs, and the model that is shipped."""
    from open_exaone.present.models import COLUMNS_EXPLAINED, published_table, shipped_line

    console = Console()
    console.print(published_table(), width=max(console.width, 80))
    console.print()
    console.print(COLUMNS_EXPLAINED)
    console.print()
    console.print(shipped_line())
    return 0
