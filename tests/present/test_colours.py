"""What the pages tell apart by colour can be told apart with every kind of colour vision, or by a second cue."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from colour_vision import KINDS, Colour, ciede2000, difference, mixed, read, tokens
from open_exaone.present.page_parts import TEMPLATES

STYLE = (TEMPLATES / "report.css").read_text(encoding="utf-8")
LEAST = 9.0  # CIEDE2000 between two areas of one plot, and between an area and the page
LEAST_LINES = 20.0  # below that, lines must differ by dashes too


def areas(scheme: dict[str, str]) -> dict[int, Colour]:
    """The fills of `.area.of-1` to `.area.of-8`, as the style sheet mixes them."""
    colours, found = {name: read(value) for name, value in scheme.items()}, {}
    for number, body in re.findall(r"\.of-(\d) { (--tone[^}]*)}", STYLE):
        names = re.findall(r"var\(--(\w+)\)", body)
        tone = colours[names[0]] if len(names) == 1 else mixed(colours[names[0]], colours[names[1]], 0.5)
        fill = re.search(r"--fill: (\d+)%", body)
        found[int(number)] = mixed(tone, colours["paper"], int(fill[1]) / 100 if fill else 1.0)
    return found


@pytest.mark.parametrize(  # of the paper that defines it
    ("first", "second", "wanted"),
    [
        ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
        ((50.0, 2.5, 0.0), (58.0, 24.0, 15.0), 19.4535),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_measure(first: Colour, second: Colour, wanted: float) -> None:
    assert ciede2000(first, second) == pytest.approx(wanted, abs=5e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_areas_differ_from_one_another_and_from_the_page(kind: str) -> None:
    for name, scheme in tokens(STYLE).items():
        fills = {**areas(scheme), 0: read(scheme["paper"])}
        assert len(fills) == 9
        near = {pair: difference(*(fills[one] for one in pair), kind) for pair in combinations(sorted(fills), 2)}
        assert {pair: value for pair, value in near.items() if value < LEAST} == {}, name


def test_lines_and_outlines_that_look_alike_differ_by_dashes_in_the_plot_and_in_its_legend() -> None:
    dashes = dict(re.findall(r"\.line\.of-(\d) { stroke-dasharray: ([\d ]+);", STYLE))
    keys = set(re.findall(r"\.key-of\.of-(\d)::before { background: repeating", STYLE))
    alike = set()
    for scheme in tokens(STYLE).values():
        lines = {str(n): read(scheme[name]) for n, name in enumerate(("accent", "two", "three", "four"), start=1)}
        for one, other in combinations(lines, 2):
            if min(difference(lines[one], lines[other], kind) for kind in KINDS) < LEAST_LINES:
                alike.add((one, other))
    assert ("2", "4") in alike and len(set(dashes.values())) == len(dashes)
    assert all(dashes.get(one) != dashes.get(other) for one, other in alike) and keys == dashes.keys()
    evaluation = Path(TEMPLATES / "evaluation.css").read_text(encoding="utf-8")
    assert re.search(r"\.outline\.wrong {[^}]*stroke-dasharray", evaluation)
