"""`exaone models`: the published models."""

from open_exaone.base.terminal import Console


def models() -> int:
    """List the published EXAONE models that open by name, and what their context costs."""
    from open_exaone.present.models import published_table

    console = Console()
    console.print(published_table(), width=max(console.width, 80))
    return 0
