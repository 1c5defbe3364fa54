"""What a server has done so far, in Prometheus' text format."""

from bisect import bisect_left
from collections import Counter

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_HELP = {
    "requests_total": "Requests by path and status.",
    "prompt_tokens_total": "Tokens of prompts.",
    "cached_prompt_tokens_total": "Prompt tokens that were cached from earlier requests.",
    "reply_tokens_total": "Tokens of replies.",
    "thought_tokens_total": "Tokens of thoughts, which are part of replies.",
    "cancelled_total": "Requests that were cancelled, such as by a client that left.",
    "engine_steps_total": "Steps of the engine.",
    "engine_tokens_total": "Tokens that the engine sampled.",
    "replies_running": "Replies that are being generated.",
    "replies_waiting": "Replies that wait for a free slot.",
    "first_token_seconds": "From a request's arrival to its first token.",
    "request_seconds": "From a request's arrival to the end of its answer.",
}


class Metrics:
    """Counters and histograms; the event loop alone writes them."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()  # by name and labels
        self._buckets = {name: [0] * (len(_BUCKETS_S) + 1) for name in _HELP if name.endswith("_seconds")}
        self._sums = dict.fromkeys(self._buckets, 0.0)

    def count(self, name: str, number: int = 1, labels: str = "") -> None:
        """Adds to a counter."""
        self._counts[name, labels] += number

    def time(self, name: str, seconds: float) -> None:
        """Adds a duration to a histogram."""
        self._buckets[name][bisect_left(_BUCKETS_S, seconds)] += 1
        self._sums[name] += seconds

    def text(self, gauges: dict[str, int]) -> str:
        """All of it.

        Args:
            gauges: what is counted elsewhere, by name.
        """
        values: dict[str, list[tuple[str, float]]] = {name: [("", value)] for name, value in gauges.items()}
        for (name, labels), number in sorted(self._counts.items()):
            values.setdefault(name, []).append((f"{{{labels}}}" if labels else "", number))
        lines = []
        for name, help_text in _HELP.items():
            if name in self._buckets:
                lines += [*_head(name, help_text, "histogram"), *self._histogram(name)]
            else:
                kind = "counter" if name.endswith("_total") else "gauge"
                lines += _head(name, help_text, kind)
                lines += [f"open_exaone_{name}{labels} {number}" for labels, number in values.get(name, [("", 0)])]
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str) -> list[str]:
        lines, so_far = [], 0
        for limit, number in zip([*map(str, _BUCKETS_S), "+Inf"], self._buckets[name], strict=True):
            so_far += number
            lines.append(f'open_exaone_{name}_bucket{{le="{limit}"}} {so_far}')
        return [*lines, f"open_exaone_{name}_sum {self._sums[name]}", f"open_exaone_{name}_count {so_far}"]


def _head(name: str, help_text: str, kind: str) -> list[str]:
    return [f"# HELP open_exaone_{name} {help_text}", f"# TYPE open_exaone_{name} {kind}"]
