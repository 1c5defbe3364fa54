"""`exaone watch`: a run while it goes, as a local page or on one screen."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from open_exaone.base.terminal import Console
from open_exaone.cli.flags import Switch


def watch(
    run: Annotated[Path, Parameter(help="The folder of a run: one that is running, has finished, or will be started.")],
    /,
    *,
    port: Annotated[int, Parameter(help="The port of the page on 127.0.0.1; 0 chooses a free one.")] = 0,
    once: Annotated[Switch, Parameter(help="Print the run's state once, and exit.")] = False,
) -> int:
    """Watch a run in the browser: its stages, curves, samples, warnings and results, refreshed while it goes.

    The page is for this machine alone, and reads the run's folder without changing it.
    """
    from open_exaone.base.config import validate
    from open_exaone.pipeline.watch import Watcher
    from open_exaone.present import watch as shown
    from open_exaone.present.formulas import converter
    from open_exaone.serve.config import ServeConfig
    from open_exaone.serve.server import listen
    from open_exaone.serve.watch import Page, serve_pages

    console, watcher = Console(), Watcher(run)
    if once:
        shown.show(watcher.look(), console)
        return 0

    def page(query: Mapping[str, list[str]]) -> bytes:
        stage = query.get("stage", [""])[0]
        return shown.page(watcher.look(int(stage) if stage.isdecimal() and len(stage) < 4 else None))

    listener = listen(validate(ServeConfig, {"port": port}, "exaone watch"))
    console.print(f"Watching {run} at http://127.0.0.1:{listener.getsockname()[1]}", soft_wrap=True)
    if watcher.look().state == shown.State.WAITING:
        console.print(f"There is no run in {run} yet: the page shows it when it starts.", soft_wrap=True)
    console.print("Ctrl-C ends the page, not the run.")

    def pages() -> dict[str, Page]:
        files = {path: partial(watcher.read, file) for path, file in watcher.pages().items()}
        return {"/": page, "/formulas.js": lambda query: converter().encode(), **files}

    serve_pages(pages, listener)
    return 0
