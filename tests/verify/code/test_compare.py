"""Comparing outputs."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.verify.code.compare import output_difference


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ("7", "7\n"),
        ("\n7  \n\n", "7"),
        ("1 2\n3", "1 2 \r\n3\n"),
        ("1  2", "1 2"),
        ("a\tb", "a b"),
        ("2", "2.0"),  # as decimals, so far LiveCodeBench agrees
        ("2.50", "2.5"),
        ("1e3", "1000"),
        ("-0", "0"),
        ("007", "7"),
        ("0.3333333333", "0.333333"),
        ("1000000.0", "1000000.4"),
        ("1e-9", "0.0"),
        ("3.1415926535 2", "3.14159265 2"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("", "\n"),
        ("예", "예"),
        ("9" * 100_000, "9" * 100_000),
    ],
)
def test_the_same_output(got: str, expected: str) -> None:
    assert output_difference(got, expected) is None


@pytest.mark.parametrize(
    ("got", "expected", "difference"),
    [
        ("8", "7\n", "expected '7', got '8'"),
        ("", "7", "expected '7', got ''"),
        ("1\n3", "1\n2", "line 2: expected '2', got '3'"),
        ("1 2 3", "1\n2\n3", "line 1: expected '1', got '1 2 3'"),
        ("1\n2", "1\n2\n3", "expected 3 lines, got 2 lines"),
        ("1\n\n2", "1\n2", "line 2: expected '2', got ''"),
        ("7\n7", "7", "expected 1 line, got 2 lines"),
        ("yes", "YES", "expected 'YES', got 'yes'"),
        ("3", "2.9999999999", "expected '2.9999999999', got '3'"),  # an integer is exact
        ("2.9999999999", "3", "expected '3', got '2.9999999999'"),
        ("0.33334", "0.33333", "expected '0.33333', got '0.33334'"),
        ("50000000000000001", "50000000000000000", "expected '50000000000000000', got '50000000000000001'"),
        ("1_000", "1000", "expected '1000', got '1_000'"),
        ("٧", "7", "expected '7', got '٧'"),
        ("1e999", "1e998", "expected '1e998', got '1e999'"),
        ("1e99999999999999999999", "5", "expected '5', got '1e99999999999999999999'"),  # more than Decimal takes
        ("0e99999999999999999999", "0", "expected '0', got '0e99999999999999999999'"),
        ("1.0e99999999999999999999", "1.0", "expected '1.0', got '1.0e99999999999999999999'"),
        ("7", "1e-99999999999999999999", "expected '1e-99999999999999999999', got '7'"),
        ("nan", "0.0", "expected '0.0', got 'nan'"),
        ("0x10", "16", "expected '16', got '0x10'"),
    ],
)
def test_another_output_says_where(got: str, expected: str, difference: str) -> None:
    assert output_difference(got, expected) == difference


@given(st.floats(-1e300, 1e300), st.integers(7, 17))
def test_a_float_is_right_however_many_digits_it_has(value: float, num_digits: int) -> None:
    text = f"{value:.{num_digits}e}"
    assert output_difference(text, repr(value)) is None


@given(st.integers(), st.integers())
def test_integers_are_exact(one: int, other: int) -> None:
    assert (output_difference(str(one), str(other)) is None) == (one == other)


@given(*[st.from_regex(r"[+-]?[0-9]{0,2}(\.[0-9]{0,2})?(e[+-]?[0-9]{0,30})?", fullmatch=True)] * 2)
def test_no_number_makes_it_raise(one: str, other: str) -> None:
    output_difference(one, other)


@given(st.text(), st.text())
def test_no_output_makes_it_raise_and_the_order_does_not_matter(one: str, other: str) -> None:
    assert (output_difference(one, other) is None) == (output_difference(other, one) is None)
    assert output_difference(one, one) is None


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ("1.0 " * 1_000_000, "1.00 " * 1_000_000),
        ("1\n" * 4_000_000, "1\n" * 3_999_999 + "2\n"),
        ("9" * 8_000_000, "9" * 7_999_999 + "8"),
        ("1e999999999", "1e999999998"),
        (" " * 8_000_000 + "1", "2"),
        ("x" * 8_000_000, "7"),
    ],
)
def test_large_outputs_take_linear_time(got: str, expected: str) -> None:
    start = time.process_time()
    difference = output_difference(got, expected)
    assert time.process_time() - start < 20.0
    assert difference is None or len(difference) < 150
