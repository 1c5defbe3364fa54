"""Responses that a later request may go on with."""

import json
from collections import OrderedDict
from typing import Any, NamedTuple

from open_exaone.serve.errors import ApiError

MOST_BYTES = 8 << 20  # of conversations that are remembered, the latest
_ENTRY_BYTES = 500  # what one takes besides its text: its ids, its place in the order


class _Response(NamedTuple):
    previous: str | None  # the response that it goes on with
    text: bytes  # the turns behind that one's, as JSON


class Responses:
    """The latest conversations, by the ids of their responses. A turn is stored once, however long it goes on."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._kept: OrderedDict[str, _Response] = OrderedDict()  # the longest unused first
        self._num_bytes, self._most_bytes = 0, most_bytes

    def keep(self, id: str, previous: str | None, turns: list[dict[str, Any]]) -> None:
        """Remembers a response.

        Args:
            previous: the response whose conversation it goes on with.
            turns: those behind it, the response included.
        """
        text = json.dumps(turns, ensure_ascii=False).encode(errors="surrogatepass")
        self._kept[id] = _Response(previous, text)
        self._num_bytes += len(text) + _ENTRY_BYTES
        while self._num_bytes > self._most_bytes:
            self._num_bytes -= len(self._kept.popitem(last=False)[1].text) + _ENTRY_BYTES

    def turns(self, id: str | None) -> list[dict[str, Any]]:
        """The turns of a conversation; none where no response is named.

        Raises:
            ApiError: it is not remembered, or not from its beginning on.
        """
        chain: list[str] = []
        while id is not None:
            if id not in self._kept:
                asked = chain[0] if chain else id
                raise ApiError(
                    404,
                    f"previous_response_id: {asked[:100]!r} is not remembered; send the conversation itself",
                    param="previous_response_id",
                    code="previous_response_not_found",
                )
            chain.append(id)
            id = self._kept[id].previous
        turns: list[dict[str, Any]] = []
        for name in reversed(chain):  # the beginning is dropped first, and all behind it then is of no use
            self._kept.move_to_end(name)
            turns += json.loads(self._kept[name].text.decode(errors="surrogatepass"))
        return turns
