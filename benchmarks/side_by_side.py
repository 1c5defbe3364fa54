"""Times several ways of doing the same work in turn, A B A B …, and prints medians and spread."""

import statistics
import time
from collections.abc import Callable, Mapping


def compare(title: str, ways: Mapping[str, Callable[[], float]], rounds: int = 5) -> None:
    """Runs every way once to warm up, then `rounds` times in turn.

    Args:
        ways: name -> a function that does the work and returns how many units (tokens, say) it did.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, work in ways.items():
            started = time.perf_counter()
            units = work()
            if number:
                rates[name].append(units / (time.perf_counter() - started))
    print(f"\n{title} ({rounds} rounds in turn)")
    first = statistics.median(next(iter(rates.values())))
    for name, values in rates.items():
        median = statistics.median(values)
        spread = f"[{min(values):,.0f} … {max(values):,.0f}]"
        print(f"  {name:<44} {median:>10,.0f} /s  {spread:<22} {median / first:5.2f}x")
