"""`exaone leaderboard`: models side by side, as a static site."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from open_exaone.base.output import say
from open_exaone.base.text import count

MAX_PAGE_BYTES = 300_000


def leaderboard(
    folders: Annotated[
        tuple[Path, ...],
        Parameter(
            help="Runs, models, evaluations, or folders with a card.json, which are set beside the published models; "
            "none shows the published ones alone."
        ),
    ] = (),
    /,
    *,
    out: Annotated[Path, Parameter(help="The site's folder.")] = Path("runs/leaderboard"),
) -> int:
    """Write a site that ranks your models beside the published ones, in English and Korean, to be opened from disk."""
    from open_exaone.pipeline.leaderboard import build_leaderboard

    models, pages = build_leaderboard(folders, out, lambda note: say(f"note: {note}"))
    own = sum(model.is_own for model in models)
    say(f"{count(len(models), 'model')}, {own} of them measured here: {count(len(pages), 'page')}")
    for page in pages:
        if (size := page.stat().st_size) > MAX_PAGE_BYTES:
            say(f"note: {page} has {size:,} bytes and opens slowly: show fewer models at once")
    say(f"Open {pages[0]} in a browser.")
    return 0
