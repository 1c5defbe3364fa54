"""What crosses between a program and its tests."""

import copy
import json
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.sandbox.harness_wire import KINDS, TREE, Graph, is_changed, parts_of

NUMBERS = st.integers() | st.floats(allow_nan=False) | st.complex_numbers(allow_nan=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text() | st.binary()
FIXED_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
VALUES = st.recursive(
    SCALARS | FIXED_VALUES | st.sets(FIXED_VALUES) | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(inner, max_size=4).map(deque)
        | st.dictionaries(FIXED_VALUES, inner, max_size=4)
    ),
    max_leaves=20,
)


def refuse(value: object) -> Any:
    raise TypeError(type(value).__name__)


def sent(*values: Any) -> tuple[Graph, Any]:
    """What arrives on the other side, through JSON; and the graph there."""
    here, there = Graph(refuse, refuse), Graph(refuse, refuse)
    nodes = here.pack(*values)
    frame = json.loads(json.dumps([nodes, [here.closed(value) for value in values]]))
    there.unpack(frame[0])
    return there, tuple(there.opened(value) for value in frame[1])


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, list | tuple | deque):
        return all(map(same, one, other))
    return not isinstance(one, dict) or all(same(one[key], other[key]) for key in one)


@given(VALUES)
def test_plain_data_arrive_as_they_are(value: Any) -> None:
    assert same(sent(value)[1][0], value)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, x=[1]), {"x": [1]}),
        (namedtuple("P", "x y")(1, [2]), (1, [2])),
        (type("L", (list,), {"__iter__": lambda self: iter([9])})([1]), [9]),
        (type("I", (int,), {"__eq__": lambda *args: True})(7), 7),
        (type("S", (str,), {"__str__": lambda self: "no"})("yes"), "yes"),
        (type("F", (float,), {})(0.5), 0.5),
        (range(1, 10**30, 3), range(1, 10**30, 3)),
        (Fraction(1, 3), Fraction(1, 3)),
        (Decimal("1.50"), Decimal("1.50")),
        (-(2**63), -(2**63)),
        (float("inf"), float("inf")),
        ("\ud800", "\ud800"),
        (dict, dict),
    ],
)
def test_subclasses_and_numbers_arrive_as_plain_data(value: Any, plain: Any) -> None:
    assert same(sent(value)[1][0], plain)


def test_minus_zero_and_nan_arrive() -> None:
    assert [repr(value) for value in sent(-0.0, float("nan"))[1]] == ["-0.0", "nan"]


def test_an_integer_of_any_length_arrives() -> None:
    assert sent([10**5000])[1][0] == [10**5000]


def test_identity_arrives() -> None:
    shared: list[Any] = [1]
    one, other, (third,) = sent(shared, {"x": shared}, (shared,))[1]
    assert one is other["x"] and one is third


def test_a_ring_arrives() -> None:
    ring: list[Any] = []
    ring.append({"ring": (ring,)})
    (arrived,) = sent(ring)[1]
    assert arrived[0]["ring"][0] is arrived


def test_depth_and_shared_parts_cost_nothing_extra() -> None:
    deep: list[Any] = []
    for _ in range(20_000):
        deep = [deep]
    wide: list[Any] = []
    for _ in range(200):
        wide = [wide, wide]
    arrived = sent(deep, wide)[1]
    depth = 0
    while arrived[0]:
        arrived, depth = (arrived[0][0], arrived[1]), depth + 1
    assert depth == 20_000
    assert arrived[1][0] is arrived[1][1]


@given(VALUES, VALUES)
def test_changes_come_back_in_place(before: Any, after: Any) -> None:
    mine: list[Any] = [before, {"x": before}]
    here, there = Graph(refuse, refuse), Graph(refuse, refuse)
    nodes = here.pack(mine)
    there.unpack(copy.deepcopy(nodes))
    theirs = there.opened(here.closed(mine))
    contents = there.contents()
    theirs[1]["x"] = after
    theirs.append(theirs[1])
    targets = [(value, kind) for value, kind, parts in contents if is_changed(value, kind, parts)]
    new = there.pack(*(part for value, kind in targets for part in parts_of(value, kind)))
    changed = [there.node(value, kind) for value, kind in targets]
    assert len(changed) <= 2
    inner = mine[1]
    here.unpack(json.loads(json.dumps(new)))
    here.change(json.loads(json.dumps(changed)))
    assert same(mine, [before, {"x": after}, {"x": after}])
    assert mine[1] is inner and mine[2] is inner


def test_a_tree_is_one_node_and_only_what_changes_in_it_comes_back() -> None:
    pairs = [[i, {"i": [i]}] for i in range(1000)]
    here, there = Graph(refuse, refuse), Graph(refuse, refuse)
    nodes = here.pack(pairs)
    assert len(nodes) == 1 and nodes[0][1] == TREE
    there.unpack(json.loads(json.dumps(nodes)))
    theirs = there.opened(here.closed(pairs))
    contents = there.contents()
    theirs.reverse()
    theirs[0][1]["i"].append((7,))
    targets = [(value, kind) for value, kind, parts in contents if is_changed(value, kind, parts)]
    assert [value is theirs or value is theirs[0][1]["i"] for value, _ in targets] == [True, True]
    inner = pairs[999][1]["i"]
    here.unpack(json.loads(json.dumps(there.pack((7,), theirs[0][1]["i"][1]))))
    here.change(json.loads(json.dumps([there.node(value, kind) for value, kind in targets])))
    assert pairs[0][1]["i"] is inner and inner == [999, (7,)] and pairs[999] == [0, {"i": [0]}]


@pytest.mark.parametrize(
    "value",
    [[[1], (2,)], [{1: 2}], [[7 << 70]], [{3}], [Counter("a")], [[[1]], b"x"], [type("L", (list,), {})([1]), [2]]],
)
def test_what_json_would_change_is_no_tree(value: Any) -> None:
    assert TREE not in [kind for _, kind, _ in Graph(refuse, refuse).pack(value)]
    assert sent(value)[1][0] == value


@pytest.mark.parametrize("node", [[0, TREE, 7], [0, TREE, [7 << 70]], [1, TREE, [[]]], [0, TREE, None]])
def test_a_tree_that_is_none_is_refused(node: Any) -> None:
    with pytest.raises(ValueError, match="tree|numbers"):
        Graph(refuse, refuse).unpack([node])


@pytest.mark.parametrize("value", [[1], (1,), {1}, {1: 1}])
def test_a_change_is_refused_where_the_container_is_another(value: Any) -> None:
    there, _ = sent(value)
    for kind in {"l", "t", "s", "d", "q"} - {next(k for k, plain in KINDS.items() if type(value) is plain)}:
        with pytest.raises(ValueError, match="another kind"):
            there.change([[0, kind, []]])
    assert there.objects[0] == value


def test_what_is_no_plain_data_does_not_cross() -> None:
    for value in (object(), print, (x for x in ()), type("C", (), {})):
        with pytest.raises(TypeError):
            sent([value])
