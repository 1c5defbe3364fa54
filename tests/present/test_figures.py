"""Numbers as people read them."""

import pytest

from open_exaone.present import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0, "0"), (71.23, "71.2"), (1000, "1,000"), (5881.92, "5,882"), (12345, "12.3k"), (5_400_000, "5.4M")],
        *[(2.1e9, "2.1G"), (3e13, "30.0T"), (0.5, "0.5"), (1.2345, "1.23"), (2e-5, "2.0e-05"), (-0.25, "-0.25")],
        *[(None, "–"), (float("nan"), "nan"), (float("inf"), "inf")],
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2, "4.2 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (1010.2, "16 min 50 s"), (3720, "1 h 02 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


def test_shares_intervals_and_sizes() -> None:
    assert formatting.percent(0.613) == "61.3%"
    assert formatting.interval([0.59, 0.6304]) == "59.0–63.0"
    assert formatting.size(1_912_340_480) == "1.9 GB"
    assert formatting.size(5_000_000) == "5 MB"
    assert (
        formatting.percent(None)
        == formatting.interval(None)
        == formatting.size(None)
        == formatting.duration(None)
        == "–"
    )


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("seconds", 1010.2, "16 min 50 s"),
        ("peak_rss_bytes", 1_912_340_480, "1.9 GB"),
        ("num_parameters", 3_412_224, "3.4M (3,412,224)"),
        ("width", 192, "192"),
        ("tied", True, "yes"),
    ],
)
def test_settings(name: str, value: object, text: str) -> None:
    assert formatting.setting(name, value) == text
