"""The last box of a reply, whatever the reply."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.verify.extract import last_boxed


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"The total is \boxed{46}.", "46"),
        (r"답은 \boxed{46}입니다.", "46"),
        (r"\boxed{1} or \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\}}", r"\}"),
        (r"\boxed{\boxed{5}}", "5"),
        ("\\boxed {\n 7 }", "7"),
        (r"\boxed{}", ""),
        ("", None),
        ("46", None),
        (r"boxed{46}", None),
        (r"\boxed 46", None),
        (r"\boxed{46", None),
        (r"\boxed{1} and then \boxed{2", None),
        (r"\boxed{1\}", None),
        ("\\boxed{1\\", None),
    ],
)
def test_table(text: str, box: str | None) -> None:
    assert last_boxed(text) == box


@given(before=st.text(), content=st.text(alphabet=st.characters(exclude_characters="{}\\")))
def test_what_was_boxed_last_is_found(before: str, content: str) -> None:
    assert last_boxed(f"{before} \\boxed{{{content}}}.") == content.strip()


@given(st.text(alphabet="\\boxed{} "))
def test_no_text_makes_it_raise(text: str) -> None:
    last_boxed(text)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" + "{" * 1_000_000,
        "\\boxed{" + "{" * 500_000 + "}" * 500_000,
        "\\boxed{" * 150_000,
        "\\boxed{1}" * 110_000,
        "\\boxed" + " " * 1_000_000,
        "\\boxed{" + "\\" * 1_000_000,
        "\\boxed " * 140_000,
        "}" * 1_000_000,
    ],
    ids=["open", "deep", "unclosed", "many", "spaces", "escapes", "names", "closed"],
)
def test_a_million_hostile_characters_cost_linear_time(text: str) -> None:
    start = time.process_time()
    last_boxed(text)
    assert time.process_time() - start < 2.0  # quadratic would take minutes
