"""Numbers as people read them."""

import math
from collections.abc import Sequence

from open_exaone.base.printable import printable

NONE = "–"  # where there is no number
MAX_CELLS = 20  # of a name in a table; Korean takes two for a syllable
UNITS = ((1e12, 1e12, "T"), (1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))  # from where, the unit, its sign


def percent(fraction: float | None) -> str:
    """0.613 as `61.3%`."""
    return NONE if fraction is None else f"{100 * fraction:.1f}%"


def points(difference: float) -> str:
    """0.034 as `+3.4`, -0.004 as `−0.4`: a difference of two fractions in percentage points; one of none as `0.0`."""
    text = f"{abs(100 * difference):.1f}"
    return text if text == "0.0" else f"{'−' if difference < 0 else '+'}{text}"


def tokens(value: float | None) -> str:
    """A mean number of tokens with one decimal, so that a column's digits stand below each other: 0.0, 27.7, 1834.2."""
    return NONE if value is None else f"{value:.1f}" if abs(value) < UNITS[-1][0] else number(value)


def interval(bounds: Sequence[float] | None) -> str:
    """[0.59, 0.63] as `59.0–63.0`, in percent."""
    return NONE if bounds is None else f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}"


def number(value: float | None) -> str:
    """A quantity in four characters or so: 71.2, 5,882, 5.4M, 0.0031, 2.0e-05."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    for least, unit, sign in UNITS:
        if size >= least:
            return f"{value / unit:.1f}{sign}"
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    if size >= 10:
        return f"{value:,.0f}" if size >= 1000 else f"{value:.1f}"
    return f"{value:.3g}" if size >= 1e-3 else f"{value:.1e}"


def billions(value: float | None) -> str:
    """A number of parameters or tokens as `number` writes it, with B for billions, as models are named: 32.0B."""
    return number(value).replace("G", "B")


def duration(seconds: float | None) -> str:
    """70.4 as `1 min 10 s`."""
    if seconds is None:
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size(num_bytes: float | None) -> str:
    """Bytes as `1.9 GB` (decimal units)."""
    if num_bytes is None:
        return NONE
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def setting(name: str, value: object) -> str:
    """A recorded value: seconds and bytes with their unit, a million and more also short, none and yes in words."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("seconds") and isinstance(value, int | float):
        return duration(value)
    if name.endswith("bytes") and isinstance(value, int):
        return size(value)
    if isinstance(value, int) and 10_000 <= value < 1_000_000:
        return f"{value:,}"
    if isinstance(value, int) and value >= 1_000_000:
        return f"{number(value)} ({value:,})"
    return str(value)


LABELS = {
    "peak_rss_bytes": "memory at most",
    "seconds": "time in all",
    "config_hash": "hash of the recipe",
    "window": "attention window (tokens)",
    "max_positions": "context (tokens)",
    "vocab_size": "vocabulary (tokens)",
    "num_parameters": "parameters",
    "num_layers": "layers",
    "num_heads": "attention heads",
    "num_kv_heads": "key and value heads",
    "num_examples": "training examples",
    "num_problems": "problems",
}


def label(name: str) -> str:
    """What a recorded value is, in words; its unit stands beside the value."""
    return LABELS.get(name) or words(name.removesuffix("_bytes").replace("_seconds", " time"))


def words(name: str) -> str:
    """`chain_sum` as `chain sum`."""
    return name.replace("_", " ")


def short_name(name: str) -> str:
    """A domain's or a mode's name, on one line, cut in the middle to the cells there are."""
    from rich.cells import cell_len, set_cell_size

    text = " ".join(printable(name).split()) or NONE
    if cell_len(text) <= MAX_CELLS:
        return text
    tail = set_cell_size(text[::-1], MAX_CELLS // 2).rstrip()[::-1]
    return f"{set_cell_size(text, MAX_CELLS - 1 - MAX_CELLS // 2).rstrip()}…{tail}"
