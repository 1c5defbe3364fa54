"""What the terminal says of a decontamination."""

import io

import pytest

from open_exaone.base.terminal import Console
from open_exaone.data.decontaminate import DecontaminationReport, Dropped, Overlap, Reason
from open_exaone.present.decontamination import print_decontamination


def dropped(item, reason, number):
    return Dropped("a.jsonl", "line", number, Overlap(item, reason, "x" * 50, 50, 90))


@pytest.mark.parametrize(("samples", "said"), [(10, "10 random windows of each"), (None, "all windows of each")])
def test_counts_reasons_and_benchmarks_are_said(samples, said):
    rows = (
        dropped("math_500:1", Reason.EQUAL, 3),
        *(dropped("math_500:[red]2", Reason.WINDOW, line) for line in range(4, 7)),
        dropped("[red]aime\x1b[31m:1", Reason.WINDOW, 9),
    )
    out = io.StringIO()
    console = Console(width=200, file=out, highlight=False)
    print_decontamination(DecontaminationReport(530, 2, 60_658, samples, 0, 12_000, rows), console)
    text = out.getvalue()
    assert "12,000 examples, 5 left out, 11,995 kept" in text
    assert said in text and "60,658 windows of 530 benchmark items" in text
    assert "2 items shorter than a window" in text
    assert "1 equal an item" in text and "4 share 50 characters with one" in text
    assert "4 of math_500\n" in text and "1 of [red]aime\N{REPLACEMENT CHARACTER}[31m\n" in text


def test_nothing_is_said_of_what_there_is_not():
    out = io.StringIO()
    print_decontamination(DecontaminationReport(5, 0, 900, 10, 0, 7, ()), Console(width=200, file=out))
    assert len(out.getvalue().splitlines()) == 1
