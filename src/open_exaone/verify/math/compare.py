"""Whether two answers are the same: True, False where both are fully understood and differ, None where not."""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

from open_exaone.verify.math import algebra, intervals, numeric
from open_exaone.verify.math.algebra import TooLarge, Unknown
from open_exaone.verify.math.structure import (
    TURNED,
    Congruence,
    Matrix,
    Number,
    Other,
    Relation,
    Sequence,
    Value,
    Words,
)

DEFAULT_PRECISION = 6  # decimals that a decimal number must have to stand for what it rounds
_TRUSTED_DECIMALS = 12  # those beyond are a float's noise
_NOISE = Fraction(1, 2 * 10**_TRUSTED_DECIMALS)
_TINY = Fraction(1, 10**4)  # below it, the zeros behind the point are no decimals that count
_LISTS = ("", "⦃⦄", "±")  # in any order
_VARIABLES = frozenset({"x)", "y)", "z)", "t)", "n)", "m)", "k)"})  # of functions


@dataclass(frozen=True, slots=True)
class Rule:
    """How values are compared: `numerically` computes what the exact way leaves open, which takes a worker process."""

    precision: int
    numerically: bool


def same(gold: Value, found: Value, precision: int = DEFAULT_PRECISION, *, numerically: bool = False) -> bool | None:
    """Whether `found` is the answer `gold`; the gold answer's form decides whether order matters."""
    return _same(gold, found, Rule(precision, numerically))


def _same(gold: Value, found: Value, rule: Rule) -> bool | None:
    if isinstance(gold, Congruence) or isinstance(found, Congruence):
        return _same_congruence(gold, found, rule)
    if isinstance(found, Sequence) and found.brackets and (wanted := intervals.of(gold)):
        return _same_sequence(wanted, found, rule) if found.brackets in intervals.BRACKETS else False
    if isinstance(gold, Relation) or isinstance(found, Relation):
        return _same_relation(gold, found, rule)
    if isinstance(gold, Words) or isinstance(found, Words):
        return gold == found
    if isinstance(gold, Other) or isinstance(found, Other):
        return None
    if isinstance(gold, Number) and isinstance(found, Number):
        return _same_number(gold, found, rule)
    if isinstance(gold, Sequence) or isinstance(found, Sequence):
        return _same_sequence(gold, found, rule)
    if isinstance(gold, Matrix) and isinstance(found, Matrix):
        return _same_shape(gold, found) and _all(_cells(gold), _cells(found), rule)
    return gold == found  # infinities, or values of different kinds


def _same_number(gold: Number, found: Number, rule: Rule) -> bool | None:
    equal = _equal(gold, found, rule)
    if equal is False and gold.is_percent != found.is_percent:  # 28% may be written as 28, and as 0.28
        share, other = (gold, found) if gold.is_percent else (found, gold)
        return _equal(Number(algebra.divide(share.value, algebra.constant(100)), share.places), other, rule)
    return equal


def _equal(gold: Number, found: Number, rule: Rule) -> bool | None:
    try:
        equal = algebra.same(gold.value, found.value)
    except TooLarge:
        return None
    if equal is None and rule.numerically:
        equal = numeric.equal(gold.value, found.value)
    if equal or max(_decimals(gold), _decimals(found)) < rule.precision:
        return equal
    left, right = _approximate(gold), _approximate(found)
    if left is None or right is None:
        return equal or None
    margin = max(_NOISE * min(Fraction(1), abs(left)), abs(left) / 10**14)
    if gold.places is None or found.places is None:
        margin = max(margin, Fraction(500_001, 10 ** (6 + (gold.places or found.places or 0))))
    elif max(_decimals(gold), _decimals(found)) <= _TRUSTED_DECIMALS:
        return equal
    return True if abs(left - right) <= margin else equal


def _decimals(number: Number) -> int:
    """The decimals of a decimal number that tell it from others: of tiny ones, the significant digits."""
    value = algebra.rational(number.value)
    if number.places is None or not value:
        return 0
    if abs(value) >= _TINY:
        return number.places
    return len(str(abs(value.numerator) * 10**number.places // value.denominator))


def _approximate(number: Number) -> Fraction | None:
    value = algebra.rational(number.value)
    if value is None and (approximate := algebra.approximate(number.value)) is not None and isfinite(approximate):
        return Fraction(approximate)
    return value


def _same_congruence(gold: Value, found: Value, rule: Rule) -> bool | None:
    """x ≡ 2 is x ≡ 7 (mod 5); a number is a residue as it stands, "2023 ≡ 4 (mod 7)" for 4."""
    if not isinstance(found, Congruence):
        return False
    if not isinstance(gold, Congruence):
        if len(found.residues) != 1:
            return False
        return _same(gold, found.residues[0] if found.left else _residue(found.residues[0], found.modulus), rule)
    if (gold.left, gold.modulus) != (found.left, found.modulus):
        return False
    wanted, residues = ([_residue(item, gold.modulus) for item in each.residues] for each in (gold, found))
    return _one_another(wanted, residues, rule)


def _residue(value: Value, modulus: str) -> Value:
    number = algebra.rational(value.value) if isinstance(value, Number) else None
    if number is None or number.denominator != 1 or not modulus.isdigit() or not int(modulus):
        return value
    return Number(algebra.constant(number % int(modulus)))


def _same_sequence(gold: Value, found: Value, rule: Rule) -> bool | None:
    if not isinstance(gold, Sequence) or not isinstance(found, Sequence):
        return _same_single(gold, found, rule)
    kinds = (gold.brackets, found.brackets)
    if ":" in kinds or "∪" in kinds:
        if kinds[0] != kinds[1]:
            return None
        return _same_ratio(gold, found, rule) if kinds[0] == ":" else _any_order(gold.items, found.items, rule) or None
    if kinds == ("⦃⦄", "⦃⦄"):
        return _one_another(gold.items, found.items, rule)
    if gold.decimal and found.decimal and _same(gold.decimal, found.decimal, rule):
        return True
    if len(gold.items) != len(found.items):
        return None if "Sequence" in {type(item).__name__ for item in gold.items + found.items} else False
    if "±" in kinds and not set(kinds) <= set(_LISTS):
        return False
    if gold.brackets in _LISTS:
        if found.brackets in _LISTS:
            return _any_order(gold.items, found.items, rule)
        if found.brackets in ("[)", "(]") or (gold.brackets == "⦃⦄" and len(gold.items) == 2):
            return False  # an interval
        return _all(gold.items, found.items, rule) or None
    if found.brackets in _LISTS:
        equal = _all(gold.items, found.items, rule)
        return (equal or None) if gold.brackets == "()" else (False if equal is False else None)
    if len(gold.items) == 2 and gold.brackets != found.brackets:
        return False  # an end of the interval is in the one and not in the other
    return _all(gold.items, found.items, rule)


def _same_single(gold: Value, found: Value, rule: Rule) -> bool | None:
    """A list beside what is none."""
    sequence, single = (gold, found) if isinstance(gold, Sequence) else (found, gold)
    assert isinstance(sequence, Sequence)
    if isinstance(single, Matrix):
        return _same_vector(gold, found, rule)
    if sequence.decimal and isinstance(single, Number):
        return _same(sequence.decimal, single, rule)
    if sequence.brackets == ":":
        return None
    if sequence.brackets == "" and sequence.items and all(_same(single, item, rule) for item in sequence.items):
        return True  # one value, written in several ways: "x + 11 or 11 + x"
    return _same(sequence.items[0], single, rule) if len(sequence.items) == 1 else False


def _same_ratio(gold: Sequence, found: Sequence, rule: Rule) -> bool | None:
    """3:4 is 6:8; but what can be a time of day, 5:10, is no other time, 10:20."""
    if len(gold.items) != len(found.items):
        return False
    pairs = [
        (left.value, right.value)
        for left, right in zip(gold.items, found.items, strict=True)
        if isinstance(left, Number) and isinstance(right, Number)
    ]
    if len(pairs) < len(gold.items) or (gold.is_time and found.is_time):
        return _all(gold.items, found.items, rule)
    one, other = pairs[0]
    try:
        crossed = [(algebra.multiply(left, other), algebra.multiply(right, one)) for left, right in pairs]
    except TooLarge:
        return None
    return _all([Number(left) for left, _ in crossed], [Number(right) for _, right in crossed], rule)


def _same_vector(gold: Value, found: Value, rule: Rule) -> bool | None:
    """A column or a row of numbers beside (1,2), which may be that vector; [1,2] in the gold answer's place may not."""
    sequence, matrix = (gold, found) if isinstance(gold, Sequence) else (found, gold)
    assert isinstance(sequence, Sequence) and isinstance(matrix, Matrix)
    is_vector = not matrix.is_determinant and (len(matrix.rows) == 1 or all(len(row) == 1 for row in matrix.rows))
    is_interval = sequence is gold and sequence.brackets == "[]" and len(sequence.items) == 2
    if not is_vector or is_interval or sequence.brackets not in ("()", "[]"):
        return False
    cells = _cells(matrix)
    return _all(sequence.items, cells, rule) if sequence is gold else _all(cells, sequence.items, rule)


def _same_shape(gold: Matrix, found: Matrix) -> bool:
    shapes = [[len(row) for row in each.rows] for each in (gold, found)]
    return gold.is_determinant == found.is_determinant and shapes[0] == shapes[1]


def _cells(matrix: Matrix) -> list[Value]:
    return [cell for row in matrix.rows for cell in row]


def _all(gold: Items[Value], found: Items[Value], rule: Rule) -> bool | None:
    if len(gold) != len(found):
        return False
    result: bool | None = True
    for left, right in zip(gold, found, strict=True):
        equal = _same(left, right, rule)
        if equal is False:
            return False
        result = result and equal
    return result


def _one_another(gold: Items[Value], found: Items[Value], rule: Rule) -> bool | None:
    """Whether each of the one is one of the other, and the other way round: {1, 2, 2} is {1, 2}."""
    if len(gold) == len(found) and (equal := _any_order(gold, found, rule)) is not False:
        return equal
    verdicts = [
        [_same(*(left, right) if items is gold else (right, left), rule) for right in others]
        for items, others in ((gold, found), (found, gold))
        for left in items
    ]
    if any(set(row) <= {False} for row in verdicts):
        return False
    return True if all(True in row for row in verdicts) else None


def _any_order(gold: Items[Value], found: Items[Value], rule: Rule) -> bool | None:
    """Whether each of the one is one of the other; exact values are the same or not, so the first match will do."""
    if len(gold) != len(found):
        return False
    rest = list(found)
    is_certain = True
    for left in gold:
        verdicts = [_same(left, right, rule) for right in rest]
        if True in verdicts:
            rest.pop(verdicts.index(True))
        elif None in verdicts:
            is_certain = False
        else:
            return False
    return True if is_certain else None


def _same_relation(gold: Value, found: Value, rule: Rule) -> bool | None:
    if not isinstance(gold, Relation):
        assert isinstance(found, Relation)
        if set(found.operators) != {"="}:
            return False if isinstance(gold, Number | Words) else None
        return _same(gold, found.sides[-1], rule)
    if not isinstance(found, Relation):
        if gold.name is None and not (set(gold.operators) == {"="} and all(map(_is_constant, gold.sides))):
            return False if isinstance(found, Number | Words) else None
        return _same(gold.sides[-1], found, rule)
    if gold.name is not None and found.name is not None:
        is_constant = _is_constant(gold.sides[-1]) and _is_constant(found.sides[-1])
        if _may_name_one(gold.name, found.name, is_constant=is_constant):
            return _same(gold.sides[-1], found.sides[-1], rule)
        if "(" in gold.name and "(" in found.name:  # f(2) is not f(3)
            return False
    if len({all(map(_is_constant, each.sides)) for each in (gold, found)}) > 1:  # 1=1 says nothing of lim sin(x)/x
        return False
    if len(gold.sides) == len(found.sides) == 2:
        return _same_equation(gold, found, rule)
    if gold.operators == found.operators:
        return _all(gold.sides, found.sides, rule) or None
    return None


def _may_name_one(gold: str, found: str, *, is_constant: bool) -> bool:
    """Whether two names are one: f(x), f and, of a function's value, y; f(n) too, where both functions are constant."""
    if gold == found:
        return True
    (name, bracket, argument), (other, other_bracket, other_argument) = gold.partition("("), found.partition("(")
    if is_constant and name == other and {argument, other_argument} <= _VARIABLES:
        return True
    is_one_applied = bool(bracket) != bool(other_bracket) and (argument or other_argument)[:-1].isalpha()
    return bool(name and other) and is_one_applied and (name == other or "y" in (gold, found))


def _is_constant(value: Value) -> bool:
    return isinstance(value, Number) and not numeric.symbols(value.value)


def _same_equation(gold: Relation, found: Relation, rule: Rule) -> bool | None:
    """One relation is the other, sides exchanged or multiplied by a number; without variables, side by side."""
    left, right = _standard(gold), _standard(found)
    if left is None or right is None:
        return _side_by_side(gold, found, rule)
    (operator, one), (other_operator, other) = left, right
    variables = [numeric.symbols(one), numeric.symbols(other)]
    if not all(variables):
        return _side_by_side(gold, found, rule) if variables[0] == variables[1] else False
    try:
        factor: Fraction | int | None = _proportion(one, other)
        if factor is None and rule.numerically:
            factor = numeric.factor(one, other)
    except (Unknown, TooLarge):
        return None
    if factor and operator == other_operator and (factor > 0 or operator in "=≠"):
        return True
    names = algebra.atoms(one) | algebra.atoms(other)
    is_linear = all(sum(power for _, power in monomial) <= 1 for poly in (one.num, other.num) for monomial in poly)
    is_clear = is_linear and not any(name.startswith(("?", "f:")) for name in names)
    return False if is_clear and "≠" not in (operator, other_operator) else None


def _side_by_side(gold: Relation, found: Relation, rule: Rule) -> bool | None:
    if gold.operators != found.operators:
        return None
    straight = _all(gold.sides, found.sides, rule)
    if straight or set(gold.operators) - set("=≠"):
        return straight
    turned = _all(gold.sides[::-1], found.sides, rule)
    return turned if turned or straight is False else None


def _proportion(one: algebra.Ratio, other: algebra.Ratio) -> Fraction | None:
    """The number that the one is times the other, term by term."""
    if one.den != other.den or one.num.keys() != other.num.keys():
        return None
    factors = {one.num[monomial] / other.num[monomial] for monomial in one.num}
    return factors.pop() if len(factors) == 1 else None


def _standard(relation: Relation) -> tuple[str, algebra.Ratio] | None:
    """`difference < 0` for any of the operators."""
    left, right = relation.sides
    if not isinstance(left, Number) or not isinstance(right, Number):
        return None
    operator = relation.operators[0]
    if operator in ">≥":
        left, right, operator = right, left, TURNED[operator]
    try:
        return operator, algebra.add(left.value, algebra.negative(right.value))
    except TooLarge:
        return None
