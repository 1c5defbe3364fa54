"""Lengths, shown: every number lands where it belongs, and no name can break the page."""

import io
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.errors import ConfigError
from open_exaone.base.terminal import Console
from open_exaone.data.lengths import ExampleLength, lengths
from open_exaone.present import lengths as shown

HOSTILE = '\x1b[3m\u202e\n[red]<u></style><script>alert(1)</script>"'
EXAMPLES = [
    *(ExampleLength("math", "reasoning", 1000 + index, 800, 100) for index in range(50)),
    *(ExampleLength("math", "non_reasoning", 60 + index, 0, 30) for index in range(20)),
    *(ExampleLength("code", "reasoning", 9000, 7000, 500) for _ in range(10)),
]
SVG = "{http://www.w3.org/2000/svg}"


def printed(stats, width=200):
    console = Console(width=width, record=True, file=io.StringIO(), highlight=False)
    shown.print_lengths(stats, console)
    return console.export_text()


def rows_of(text):
    return {line.split("  ")[0].strip(): line for line in text.splitlines()}


def test_the_table_tells_each_group_once_modes_below_their_domain():
    titles, rows = shown.table(lengths(EXAMPLES))
    cells = [dict(zip(titles, row, strict=True)) for row in rows]
    assert [row["domain"] for row in cells] == [
        *("code", "· reasoning", "math", "· reasoning", "· non-reasoning", "all", "· reasoning", "· non-reasoning")
    ]
    math = cells[4]
    assert (math["examples"], math["tokens"], math["mean"], math["longest"]) == ("20", "1,390", "70", "79")
    assert (math["thought mean"], math["answer mean"]) == ("–", "30")
    assert cells[0]["share"] == "63.1%" and cells[5]["share"] == "100.0%"  # 90,000 of 142,615


def test_columns_and_rows_that_tell_nothing_are_left_out():
    stats = lengths([ExampleLength("web", "text", 10), ExampleLength("books", "text", 20)])
    titles, rows = shown.table(stats)
    assert [row[0] for row in rows] == ["books", "web", "all"]
    assert not [title for title in titles if "thought" in title or "answer" in title]
    assert shown.notes(stats) == ["All of them: text."]
    assert shown.notes(lengths(EXAMPLES)) == [
        "Tokens, reasoning : non-reasoning = 101.60 : 1 (EXAONE 4.0's SFT set: 1.5 : 1)."
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_the_terminal_shows_whole_cells_at_any_width(width):
    text = printed(lengths(EXAMPLES), width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    assert rows_of(text)["math"].split()[1] == "70"


def test_no_examples_are_said_to_be_none(tmp_path):
    stats = lengths([])
    assert "No examples" in printed(stats)
    for ending in ("html", "svg", "json"):
        shown.write_lengths(stats, tmp_path / f"of.{ending}")
    assert "no examples" in (tmp_path / "of.html").read_text()


@given(st.dictionaries(st.integers(0, 200_000), st.integers(1, 50), min_size=1, max_size=40))
def test_a_distribution_is_drawn_whole_within_its_frame(counts):
    examples = [ExampleLength("d", "text", length) for length, number in counts.items() for _ in range(number)]
    bins = shown.histogram(counts)
    assert sum(bins.values()) == len(examples)
    for index in bins:
        assert any(
            2 ** (index / 4) <= max(1, length) * (1 + 1e-9) and max(1, length) <= 2 ** ((index + 1) / 4)
            for length in counts
        )
    svg = ElementTree.fromstring(shown.plot(lengths(examples)))
    [ridge] = [path.attrib["d"] for path in svg.iter("path") if path.attrib["class"] == "ridge"]
    points = [tuple(map(float, point.split())) for point in ridge.removeprefix("M").split("L")]
    xs, ys = zip(*points, strict=True)
    base = shown.TOP + shown.ROW
    assert shown.LEFT - 0.1 <= min(xs) and max(xs) <= shown.RIGHT + 0.1 and list(xs) == sorted(xs)
    assert min(ys) == pytest.approx(base - shown.RISE) and max(ys) == base
    marks = [float(dot.attrib["cx"]) for dot in svg.iter("circle")]
    marks += [
        float(re.findall(r"M([\d.]+)", path.attrib["d"])[0])
        for path in svg.iter("path")
        if path.attrib["class"] == "bar"
    ]
    assert len(marks) == 2 and all(min(xs) - 0.2 <= mark <= max(xs) + 0.2 for mark in marks)


def test_domains_are_drawn_one_below_the_other_the_longest_first():
    longer = [ExampleLength("sums", "text", 20_000)]
    svg = ElementTree.fromstring(shown.plot(lengths([*EXAMPLES, *longer])))
    names = [(float(text.attrib["y"]), text.text) for text in svg.iter("text") if text.attrib["class"] == "name"]
    assert [name for _, name in sorted(names)] == ["sums", "code", "math"]
    assert "code: 10 examples, median 9,000, mean 9,000, longest 9,000" in svg.attrib["aria-label"]


def test_many_domains_are_cut_in_the_plot_only(tmp_path):
    stats = lengths(ExampleLength(f"d{n:02d}", "text", 10 + n) for n in range(40))
    shown.write_lengths(stats, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('class="ridge"') == shown.MAX_DOMAINS
    assert "16 more are in the table only" in page and "d00" in page


def test_no_name_breaks_the_page_the_plot_or_the_terminal(tmp_path):
    stats = lengths([ExampleLength(HOSTILE, HOSTILE, 5), ExampleLength("한국어 자료입니다 " * 9, "reasoning", 6)])
    for ending in ("html", "svg"):
        shown.write_lengths(stats, tmp_path / f"of.{ending}")
        text = (tmp_path / f"of.{ending}").read_text(encoding="utf-8")
        assert "<script" not in text and "<u>" not in text and "\x1b" not in text and "\u202e" not in text
        assert text.count("</style>") == 1
    ElementTree.fromstring((tmp_path / "of.svg").read_text(encoding="utf-8"))
    assert "\x1b" not in printed(stats)
    assert all(len(line) < 200 for line in printed(stats).splitlines())


def test_the_page_loads_and_runs_nothing(tmp_path):
    shown.write_lengths(lengths(EXAMPLES), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|\son\w+=", page)
    assert "default-src 'none'" in page
    assert shown.render(lengths(EXAMPLES)) == shown.render(lengths(EXAMPLES[::-1])) == page


def test_the_plot_alone_is_an_image_of_its_own(tmp_path):
    shown.write_lengths(lengths(EXAMPLES), tmp_path / "plot.svg")
    svg = ElementTree.fromstring((tmp_path / "plot.svg").read_text(encoding="utf-8"))
    assert svg.tag == f"{SVG}svg" and svg.find(f"{SVG}rect") is not None
    [style] = [element.text for element in svg.iter(f"{SVG}style")]
    assert "var(" not in style
    drawn = {element.attrib["class"] for element in svg.iter() if "class" in element.attrib}
    styled = {name for rule in style.splitlines() for name in re.findall(r"\.([a-z]+)", rule.partition("{")[0])}
    assert drawn <= styled | {"tick"}  # ticks look as any text


def test_the_numbers_are_written_and_other_endings_refused(tmp_path):
    stats = lengths(EXAMPLES)
    shown.write_lengths(stats, tmp_path / "numbers.json")
    assert json.loads((tmp_path / "numbers.json").read_text()) == json.loads(json.dumps(stats.as_json()))
    with pytest.raises(ConfigError, match=r"plot\.png: ends in none of \.html"):
        shown.write_lengths(stats, tmp_path / "plot.png")


@pytest.mark.parametrize(("power", "name"), [(0, "1"), (9, "512"), (10, "1K"), (17, "128K"), (20, "1M")])
def test_powers_are_named(power, name):
    assert shown.power_name(power) == name
