"""A path of the server."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Route:
    """A path, and what answers it."""

    method: str
    path: str  # a part in braces matches anything without a slash, the last one anything
    function: Callable[..., Awaitable[Any]]  # (service, body, **what stands at the braces)
    summary: str
    record: type[BaseModel] | None = None  # the body's

    def match(self, path: str) -> dict[str, str] | None:
        """What stands at the braces; None where the path is another."""
        if "{" not in self.path:
            return {} if self.path == path else None
        own = self.path.split("/")
        given = path.split("/", len(own) - 1 if own[-1].startswith("{") else -1)
        if len(own) != len(given):
            return None
        if any(not name.startswith("{") and name != value for name, value in zip(own, given, strict=True)):
            return None
        return {name[1:-1]: value for name, value in zip(own, given, strict=True) if name.startswith("{")}
