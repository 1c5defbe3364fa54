"""The intervals that inequalities stand for: "x < -2 or x > 3" is (-∞, -2) ∪ (3, ∞)."""

from itertools import pairwise

from open_exaone.verify.math import algebra
from open_exaone.verify.math.structure import TURNED, Infinity, Number, Relation, Sequence, Value

BRACKETS = ("()", "[]", "[)", "(]", "∪")  # of an interval or a union of them
_LOW, _HIGH = Infinity(is_negative=True), Infinity(is_negative=False)
_OPENING, _CLOSING = {"<": "(", "≤": "["}, {"<": ")", "≤": "]"}


def of(value: Value) -> Sequence | None:
    """The interval or union of an inequality, or of several of one variable; None for anything else.

    Those that have no number in common are alternatives; of others, all hold.
    """
    if isinstance(value, Relation):
        known = _one(value)
        return known[1] if known else None
    if not isinstance(value, Sequence) or value.brackets != "" or len(value.items) < 2:
        return None
    pieces = [_one(item) if isinstance(item, Relation) else None for item in value.items]
    found = [piece for piece in pieces if piece is not None]
    if len(found) < len(pieces) or len({name for name, _ in found}) > 1:
        return None
    return _joined([interval for _, interval in found])


def _joined(pieces: list[Sequence]) -> Sequence | None:
    if any(piece.brackets == "∪" for piece in pieces):
        return None
    ends = [(_end(piece.items[0]), _end(piece.items[1])) for piece in pieces]
    known = [(low, high) for low, high in ends if low is not None and high is not None]
    if len(known) < len(ends):
        return None
    order = sorted(range(len(pieces)), key=known.__getitem__)
    if all(known[left][1] <= known[right][0] for left, right in pairwise(order)):
        return Sequence("∪", tuple(pieces[at] for at in order))
    if len(pieces) != 2:
        return None
    low, high = pieces[order[1]], pieces[min(order, key=lambda at: known[at][1])]
    return Sequence(low.brackets[0] + high.brackets[1], (low.items[0], high.items[1]))


def _end(value: Value) -> float | None:
    if isinstance(value, Infinity):
        return float("-inf") if value.is_negative else float("inf")
    return algebra.approximate(value.value) if isinstance(value, Number) else None


def _one(relation: Relation) -> tuple[str, Sequence] | None:
    """The variable of an inequality, and where it lies."""
    sides, operators = relation.sides, relation.operators
    if len(sides) == 2 and set(operators) <= TURNED.keys():
        if _variable(sides[0]) is None:
            sides, operators = sides[::-1], (TURNED[operators[0]],)
        variable, end = sides
        if operators[0] == "≠":
            union = Sequence("∪", (Sequence("()", (_LOW, end)), Sequence("()", (end, _HIGH))))
            name = _variable(variable)
            return (name, union) if name and _is_end(end, name) else None
        is_above = operators[0] in ">≥"
        sides = (end, variable, _HIGH) if is_above else (_LOW, variable, end)
        operators = (TURNED[operators[0]], "<") if is_above else ("<", *operators)
    if len(sides) != 3 or not set(operators) <= set("<≤"):
        return None
    low, variable, high = sides
    name = _variable(variable)
    if name is None or not _is_end(low, name) or not _is_end(high, name):
        return None
    return name, Sequence(_OPENING[operators[0]] + _CLOSING[operators[1]], (low, high))


def _variable(value: Value) -> str | None:
    """The name of a value that is one variable."""
    names = algebra.atoms(value.value) if isinstance(value, Number) else set()
    name = next(iter(names), "")
    is_name = isinstance(value, Number) and algebra.is_symbol(name) and value.value == algebra.atom(name)
    return name if is_name else None


def _is_end(value: Value, name: str) -> bool:
    return isinstance(value, Infinity) or (isinstance(value, Number) and name not in algebra.atoms(value.value))
