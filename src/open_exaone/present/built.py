"""What `exaone data build` kept and dropped, shown: a sentence and two tables."""

from collections.abc import Mapping
from typing import Any

from open_exaone.base.printable import printable
from open_exaone.base.records import mode_label
from open_exaone.base.terminal import Console
from open_exaone.base.text import count
from open_exaone.data.lengths import LengthStatistics
from open_exaone.present import formatting
from open_exaone.present.lengths import print_lengths
from open_exaone.present.terminal import rich_table

Found = Mapping[str, Any]  # what build.json holds
Table = tuple[list[str], list[list[str]]]
ALL = "all"
TOP = 3  # reasons of a domain that are named
MAX_EXAMPLE = 120  # characters


def sentence(found: Found) -> str:
    """How many responses are kept, and of how many problems."""
    return (
        f"{found['num_kept']:,} of {count(found['num_responses'], 'response')} kept, for "
        f"{found['num_problems_kept']:,} of {count(found['num_problems'], 'problem')}"
    )


def reasons(found: Found) -> Table:
    """Why responses were dropped: how many, and an example."""
    rows = []
    for reason, number in found["dropped"].items():
        example = found["examples"][reason]
        named = f"{example['problem']} #{example['response']}: {example['why']}"
        text = " ".join(printable(named).split())
        cut = text if len(text) <= MAX_EXAMPLE else text[: MAX_EXAMPLE - 1] + "…"
        rows.append([formatting.words(reason), f"{number:,}", cut])
    return ["dropped", "responses", "such as"], rows


def domains(found: Found) -> Table:
    """By domain, and by mode where there are two."""
    parts = [(formatting.short_name(formatting.words(name)), part) for name, part in found["per_domain"].items()]
    parts += [(mode_label(mode), part) for mode, part in found["per_mode"].items() if len(found["per_mode"]) > 1]
    titles = ["domain", "problems", "with a response", "responses", "kept", "most dropped"]
    return titles, [_row(name, part) for name, part in [*parts, (ALL, found)]]


def print_build(found: Found, stats: LengthStatistics, console: Console) -> None:
    """Prints the tables, which `sentence` stands above as an event, and the teacher's licence."""
    for table in (domains(found), reasons(found)):
        if table[1]:
            shown = rich_table(*table, console.width, ("such as", "most dropped"))
            shown.columns[0].justify = "left"
            console.print(shown)
    print_lengths(stats, console)
    if text := licence_text(found):
        console.print(text, soft_wrap=True)


def licence_text(found: Found) -> str:
    """What the teacher's licence asks of those who train on its responses; "" where it is no EXAONE model."""
    licence = found["licence"]
    if licence is None:
        return ""
    name = " ".join(printable(found["teacher"]["model"]).split())
    return (
        f"{name} is under the {licence['name']}: {licence['use']}. It {licence['training_data']}. Read it before you "
        "train on these responses."
    )


def _row(name: str, part: Found) -> list[str]:
    most = sorted(part["dropped"].items(), key=lambda item: -item[1])[:TOP]
    return [
        name,
        *(f"{part[key]:,}" for key in ("num_problems", "num_problems_kept", "num_responses", "num_kept")),
        ", ".join(f"{formatting.words(reason)} {number:,}" for reason, number in most) or formatting.NONE,
    ]
