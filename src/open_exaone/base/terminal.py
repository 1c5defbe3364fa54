"""Rich's console for foreign text; the command line and every room that draws print through it."""

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.segment import Segment

from open_exaone.base.printable import as_written, printable


class Console(rich.console.Console):
    """No markup, no emoji codes, no highlighting, and all text passes `printable`.

    Colours and cursor movements are rich's own alone: they come as styles and control segments.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"highlight": False, "markup": False, "emoji": False, **options})

    def render(
        self, renderable: rich.console.RenderableType, options: rich.console.ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else as_written(printable(segment.text), self.encoding)
            yield segment if segment.control else Segment(text, segment.style)
