"""Responses that a later request may go on with."""

import json
from collections import OrderedDict
from typing import Any

from open_exaone.serve.errors import ApiError

MOST_BYTES = 64 << 20  # of conversations that are remembered, the latest
_ENTRY_BYTES = 400  # what one takes besides its text: its id, its place in the order


class Responses:
    """The latest conversations, by the ids of their responses."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._num_bytes, self._most_bytes = 0, most_bytes

    def keep(self, id: str, turns: list[dict[str, Any]]) -> None:
        """Remembers a conversation, the response included."""
        self._kept[id] = text = json.dumps(turns)
        self._num_bytes += len(text) + _ENTRY_BYTES
        while self._num_bytes > self._most_bytes:
            self._num_bytes -= len(self._kept.popitem(last=False)[1]) + _ENTRY_BYTES

    def turns(self, id: str | None) -> list[dict[str, Any]]:
        """The turns of a conversation; none where no response is named.

        Raises:
            ApiError: it is not remembered.
        """
        if id is None:
            return []
        if id not in self._kept:
            raise ApiError(
                404,
                f"previous_response_id: {id[:100]!r} is not remembered; send the conversation itself",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        turns: list[dict[str, Any]] = json.loads(self._kept[id])
        return turns
