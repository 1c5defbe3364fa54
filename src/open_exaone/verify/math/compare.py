"""Whether two answers are the same: True, False where both are fully understood and differ, None where not."""

from collections.abc import Sequence as Items
from fractions import Fraction

from open_exaone.verify.math import algebra
from open_exaone.verify.math.algebra import TooLarge, Unknown
from open_exaone.verify.math.structure import Infinity, Matrix, Number, Other, Relation, Sequence, Value, Words

DEFAULT_PRECISION = 6  # decimals that a decimal number must have to stand for what it rounds
_TRUSTED_DECIMALS = 12  # those beyond are a float's noise
_LISTS = ("", "⦃⦄", "±")  # in any order
_FLIPPED = {">": "<", "≥": "≤"}


def same(gold: Value, found: Value, precision: int = DEFAULT_PRECISION) -> bool | None:
    """Whether `found` is the answer `gold`; the gold answer's form decides whether order matters."""
    if isinstance(gold, Relation) or isinstance(found, Relation):
        return _same_relation(_ascending(gold), _ascending(found), precision)
    if isinstance(gold, Words) or isinstance(found, Words):
        return _same_words(gold, found)
    if isinstance(gold, Other) or isinstance(found, Other):
        return None
    if isinstance(gold, Number) and isinstance(found, Number):
        return _same_number(gold, found, precision)
    if isinstance(gold, Sequence) or isinstance(found, Sequence):
        return _same_sequence(gold, found, precision)
    if isinstance(gold, Matrix) and isinstance(found, Matrix) and gold.is_determinant == found.is_determinant:
        return _same_matrix(gold, found, precision)
    if isinstance(gold, Infinity) and isinstance(found, Infinity):
        return gold == found
    return False  # of different kinds


def _same_number(gold: Number, found: Number, precision: int) -> bool | None:
    equal = _equal(gold, found, precision)
    if equal is False and gold.is_percent != found.is_percent:  # 28% may be written as 28, and as 0.28
        share, other = (gold, found) if gold.is_percent else (found, gold)
        return _equal(Number(algebra.divide(share.value, algebra.constant(100)), share.places), other, precision)
    return equal


def _equal(gold: Number, found: Number, precision: int) -> bool | None:
    try:
        equal = algebra.same(gold.value, found.value)
    except TooLarge:
        return None
    if equal:
        return True
    places = max(gold.places or 0, found.places or 0)
    if places < precision or (gold.places is not None and found.places is not None and places <= _TRUSTED_DECIMALS):
        return equal
    left, right = algebra.approximate(gold.value), algebra.approximate(found.value)
    if left is None or right is None:
        return equal
    margin = 0.500001 * 10.0 ** -min(places, _TRUSTED_DECIMALS)
    return True if abs(left - right) <= max(margin, 1e-14 * abs(left)) else equal


def _same_words(gold: Value, found: Value) -> bool | None:
    if isinstance(gold, Words) and isinstance(found, Words):
        return gold.text == found.text
    other = found if isinstance(gold, Words) else gold
    is_plain = not isinstance(other, Sequence) or all(isinstance(item, Number | Infinity) for item in other.items)
    return False if is_plain else None


def _same_sequence(gold: Value, found: Value, precision: int) -> bool | None:
    if not isinstance(gold, Sequence) or not isinstance(found, Sequence):
        return _same_single(gold, found, precision)
    kinds = (gold.brackets, found.brackets)
    if ":" in kinds or "∪" in kinds:
        if kinds[0] != kinds[1]:
            return None
        compare = _all if kinds[0] == ":" else _any_order
        return compare(gold.items, found.items, precision) or None
    if gold.decimal and found.decimal and same(gold.decimal, found.decimal, precision):
        return True
    if len(gold.items) != len(found.items):
        return None if "Sequence" in {type(item).__name__ for item in gold.items + found.items} else False
    if "±" in kinds and not set(kinds) <= set(_LISTS):
        return False
    if gold.brackets in _LISTS:
        if found.brackets in _LISTS:
            return _any_order(gold.items, found.items, precision)
        if found.brackets in ("[)", "(]") or (gold.brackets == "⦃⦄" and len(gold.items) == 2):
            return False  # an interval
        return _all(gold.items, found.items, precision) or None
    if found.brackets in _LISTS:
        equal = _all(gold.items, found.items, precision)
        return (equal or None) if gold.brackets == "()" else (False if equal is False else None)
    if len(gold.items) == 2 and gold.brackets != found.brackets:
        return False  # an end of the interval is in the one and not in the other
    return _all(gold.items, found.items, precision)


def _same_single(gold: Value, found: Value, precision: int) -> bool | None:
    """A list beside what is none."""
    sequence, single = (gold, found) if isinstance(gold, Sequence) else (found, gold)
    assert isinstance(sequence, Sequence)
    if isinstance(single, Matrix):
        return False if len(sequence.items) != sum(map(len, single.rows)) else None
    if sequence.decimal and isinstance(single, Number):
        return same(sequence.decimal, single, precision)
    if sequence.brackets == ":":
        return None
    if sequence.brackets == "" and sequence.items and all(same(single, item, precision) for item in sequence.items):
        return True  # one value, written in several ways: "x + 11 or 11 + x"
    return same(sequence.items[0], single, precision) if len(sequence.items) == 1 else False


def _same_matrix(gold: Matrix, found: Matrix, precision: int) -> bool | None:
    if [len(row) for row in gold.rows] != [len(row) for row in found.rows]:
        return False
    return _all([cell for row in gold.rows for cell in row], [cell for row in found.rows for cell in row], precision)


def _all(gold: Items[Value], found: Items[Value], precision: int) -> bool | None:
    if len(gold) != len(found):
        return False
    result: bool | None = True
    for left, right in zip(gold, found, strict=True):
        equal = same(left, right, precision)
        if equal is False:
            return False
        result = result and equal
    return result


def _any_order(gold: Items[Value], found: Items[Value], precision: int) -> bool | None:
    """Whether each of the one is one of the other; exact values are the same or not, so the first match will do."""
    if len(gold) != len(found):
        return False
    rest = list(found)
    is_certain = True
    for left in gold:
        verdicts = [same(left, right, precision) for right in rest]
        if True in verdicts:
            rest.pop(verdicts.index(True))
        elif None in verdicts:
            is_certain = False
        else:
            return False
    return True if is_certain else None


def _same_relation(gold: Value, found: Value, precision: int) -> bool | None:
    if not isinstance(gold, Relation):
        assert isinstance(found, Relation)
        if set(found.operators) != {"="}:
            return False if isinstance(gold, Number | Words) else None
        return same(gold, found.sides[-1], precision)
    if not isinstance(found, Relation):
        if gold.name is None:
            return False if isinstance(found, Number | Words) else None
        return same(gold.sides[-1], found, precision)
    if gold.name is not None and gold.name == found.name and same(gold.sides[-1], found.sides[-1], precision):
        return True
    if len(gold.sides) == len(found.sides) == 2:
        return _same_equation(gold, found)
    if gold.operators == found.operators:
        return _all(gold.sides, found.sides, precision) or None
    return None


def _ascending(value: Value) -> Value:
    """A chain such as 2 > x > 1 turned round."""
    if not isinstance(value, Relation) or len(value.operators) < 2 or not set(value.operators) <= _FLIPPED.keys():
        return value
    operators = tuple(_FLIPPED[operator] for operator in reversed(value.operators))
    return Relation(operators, value.sides[::-1], value.name)


def _same_equation(gold: Relation, found: Relation) -> bool | None:
    """One relation is the other, sides exchanged or multiplied by a number."""
    left, right = _standard(gold), _standard(found)
    if left is None or right is None:
        return None
    (operator, one), (other_operator, other) = left, right
    try:
        factor = _proportion(one, other)
    except (Unknown, TooLarge):
        return None
    if factor and operator == other_operator and (factor > 0 or operator in "=≠"):
        return True
    is_linear = all(sum(power for _, power in monomial) <= 1 for poly in (one.num, other.num) for monomial in poly)
    is_clear = is_linear and not algebra.is_opaque(one) and not algebra.is_opaque(other)
    return False if is_clear and "≠" not in (operator, other_operator) else None


def _proportion(one: algebra.Ratio, other: algebra.Ratio) -> Fraction | None:
    """The number that the one is times the other."""
    quotient = algebra.rational(algebra.divide(one, other))
    if quotient is not None or one.den != other.den or one.num.keys() != other.num.keys():
        return quotient
    factors = {one.num[monomial] / other.num[monomial] for monomial in one.num}
    return factors.pop() if len(factors) == 1 else None


def _standard(relation: Relation) -> tuple[str, algebra.Ratio] | None:
    """`difference < 0` for any of the operators."""
    left, right = relation.sides
    if not isinstance(left, Number) or not isinstance(right, Number):
        return None
    operator = relation.operators[0]
    if operator in _FLIPPED:
        left, right, operator = right, left, _FLIPPED[operator]
    try:
        return operator, algebra.add(left.value, algebra.negative(right.value))
    except TooLarge:
        return None
