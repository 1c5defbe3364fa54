"""The fast parser of rows gives what `json` gives, or leaves the text to it."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from open_exaone.base.streams import _parsed_fast, parse_json

keys = st.sampled_from(["a", "b", 'q":', "é", "", ":", " :"]) | st.text(max_size=3)
numbers = st.integers() | st.integers(-(10**40), 10**40) | st.floats() | st.sampled_from([2**63, 2**64, -(2**63) - 1])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
TOKENS = [
    *(
        '{"a":',
        '{"a" :',
        '{"a"\t:',
        '{"a"\r\n:',
        ',"a":',
        ',"b":',
        "{",
        "}",
        "[",
        "]",
        ",",
        '"x"',
        '"\\":"',
        '"\\ud800"',
    ),
    *(
        '"\\ud83d\\ude00"',
        '"\\u0061"',
        "NaN",
        "-Infinity",
        "Infinity",
        "1e999",
        "-1e999",
        "-0",
        "-0.0",
        "01",
        "1.",
        "1E5",
    ),
    *(
        ".5",
        "+1",
        "1e-400",
        "9" * 30,
        "0.1" + "1" * 30,
        "9" * 4400,
        "null",
        "true",
        "tru",
        "nan",
        "\ufeff",
        '"\t"',
        '"\x7f"',
    ),
    *(" ", "\n", "\x00", "//", '"\\x"', "'a'", '"\\u00"', '"\\/"', "1_0", "５"),
]


def outcome(parse: Any, text: bytes) -> str:
    """What a parser makes of a text; a NaN is equal to no other, so that values are compared as they are written."""
    try:
        value = parse(text)
    except (ValueError, RecursionError) as error:
        return f"error: {error}"
    return f"{type(value)} {value!r}"


def slowly(text: bytes) -> Any:
    """As `json` reads it: the fast parser takes bytes alone."""
    return parse_json(text.decode("utf-8-sig"), unique_keys=True)


@given(value=values, spaces=st.sampled_from([None, (", ", ": "), (",", ":"), (" , ", " : ")]), ascii=st.booleans())
def test_values_are_those_of_json(value: Any, spaces: Any, ascii: bool) -> None:
    text = json.dumps({"v": value}, separators=spaces, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    assert outcome(lambda text: parse_json(text, unique_keys=True), text) == outcome(slowly, text)


@given(parts=st.lists(st.sampled_from(TOKENS), max_size=9))
@example(parts=['{"a":', "1", ',"a":', "2", "}"])
@example(parts=['{"a" :', "1", ',"a":', "2", "}"])
@example(parts=['{"b":', '{"a":', "1", ',"a":', "2", "}", "}"])
@example(parts=['{"a":', "[", '{"a":', "1", "}", '{"a":', "1", "}", "]", ',"a":', '"\\":"', "}"])
def test_whatever_the_text_is(parts: list[str]) -> None:
    for text in ("".join(parts).encode(), ('{"a":' + "".join(parts) + "}").encode()):
        assert outcome(lambda text: parse_json(text, unique_keys=True), text) == outcome(slowly, text)


@pytest.mark.parametrize(
    "number", [1e22, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, math.pi, 1e23, 8.5e-5]
)
def test_numbers_are_read_to_the_last_bit(number: float) -> None:
    assert parse_json(b'{"a": %a}' % number, unique_keys=True) == {"a": number}


def test_usual_rows_are_parsed_fast_and_doubtful_ones_are_not() -> None:
    usual = {
        "messages": [{"role": "user", "content": "A: b?"}, {"role": "assistant", "content": "é\\n"}],
        "n": [1, None],
    }
    assert _parsed_fast(json.dumps(usual).encode()) == usual
    for doubtful in (
        b'{"a":1,"a":2}',
        b'{"a" :":"}',
        b'{"a" :1,"a":2}',
        b'{"a":"\\":"}',
        b"[1]",
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
    ):
        assert _parsed_fast(doubtful) is None
    deep = b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(deep, unique_keys=True)
