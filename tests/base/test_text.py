"""Counts are written with the noun in its right form."""

from open_exaone.base.text import count


def test_one_is_singular_and_everything_else_is_plural() -> None:
    numbers = (0, 1, 2, 1234)
    assert [count(n, "example") for n in numbers] == ["0 examples", "1 example", "2 examples", "1,234 examples"]
    assert [count(n, "row of pairs", "rows of pairs") for n in (1, 2)] == ["1 row of pairs", "2 rows of pairs"]
