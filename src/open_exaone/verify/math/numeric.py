"""Deciding by computing: two expressions are one where they agree to many digits at several points.

This takes mpmath and time, so it runs in the worker process of the algebra. A variable takes positive and negative
values, but only positive ones where it stands in an odd power alone under a root or a logarithm: √(k/m), ln(a/b). A
point at which one of two real expressions is not real is no point of both. Nothing is random: one pair of answers has
one verdict.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from open_exaone.verify.math.algebra import Applied, Poly, Ratio, Unknown, atoms, is_symbol

_DIGITS = 60  # that are computed
_AGREE = 40  # of which must agree
_POINTS = 8
_NEEDED = 3  # of the points, where both must be defined
_LOGARITHMS = ("ln", "lg")  # what "log" without a base may mean


@dataclass(frozen=True, slots=True)
class _Point:
    """The values of the variables; what "log" means; and whether the root of a negative number is undefined."""

    values: Mapping[str, Any]
    logarithm: str
    is_real: bool


_Compare = Callable[[list[Any], list[Any]], int]


def equal(a: Ratio, b: Ratio) -> bool | None:
    """Whether two expressions are equal wherever both are defined; None where that cannot be computed."""
    found = _decide(a, b, lambda left, right: int(all(map(_is_near, left, right))))
    return None if found is None else bool(found)


def factor(a: Ratio, b: Ratio) -> int | None:
    """The sign of the real number that `a` is times `b` everywhere; 0 if there is none, None if that is not known."""

    def sign(left: list[Any], right: list[Any]) -> int:
        if not all(right):
            return 0
        quotients = [x / y for x, y in zip(left, right, strict=True)]
        is_one = all(_is_near(quotient, quotients[0]) and _is_real(quotient) for quotient in quotients)
        return (quotients[0].real > 0) - (quotients[0].real < 0) if is_one else 0

    return _decide(a, b, sign)


def _decide(a: Ratio, b: Ratio, compare: _Compare) -> int | None:
    """What `compare` finds: at least one meaning of "log" must make it anything but 0."""
    from mpmath import mp

    names = sorted(symbols(a) | symbols(b))
    with mp.workdps(_DIGITS):
        verdicts = [
            compare(*values) if (values := _values(a, b, names, logarithm)) else None
            for logarithm in (_LOGARITHMS if "log" in _functions(a) | _functions(b) else _LOGARITHMS[:1])
        ]
    return next(filter(None, verdicts), verdicts[0])


def _values(a: Ratio, b: Ratio, names: list[str], logarithm: str) -> tuple[list[Any], list[Any]] | None:
    """Both at the points at which both are defined, or None if those are too few."""
    from mpmath import mpc

    chance = random.Random(0)
    positive = _positive(a) | _positive(b)
    is_complex = "i" in _deep_atoms(a) | _deep_atoms(b)
    left, right = [], []
    for number in range(_POINTS if names else 1):
        values: dict[str, Any] = {}
        for name in names:
            size = Fraction(chance.randrange(10**5, 10**6), 300_007) * (Fraction(1, 4), 1, 5)[number % 3]
            is_negative = number >= _POINTS // 2 and not is_complex and chance.random() < 0.6 and name not in positive
            value_ = mpc(size.numerator) / size.denominator
            values[name] = -value_ if is_negative else value_
        at = _Point(values, logarithm, is_real=bool(names) and not is_complex)
        try:
            x, y = _value(a, at), _value(b, at)
        except ArithmeticError:
            continue
        except (Unknown, ValueError):
            return None
        if is_complex or not names or (_is_real(x) and _is_real(y)):
            left.append(x)
            right.append(y)
    return (left, right) if len(left) >= (_NEEDED if names else 1) else None


def _is_real(number: Any) -> bool:
    return bool(abs(number.imag) <= 10.0**-_AGREE * abs(number))


def _is_near(x: Any, y: Any) -> bool:
    return bool(abs(x - y) <= 10.0**-_AGREE * max(abs(x), abs(y)))


def symbols(a: Ratio) -> set[str]:
    """The variables of an expression."""
    return {name for name in _deep_atoms(a) if is_symbol(name)}


def _positive(a: Ratio) -> set[str]:
    """The variables that are taken as positive."""
    found: set[str] = set()
    for name in _deep_atoms(a):
        if isinstance(name, Applied) and name.function in ("√", "^", *_LOGARITHMS, "log"):
            terms = list(name.arguments[0].num)
            if len(terms) == len(name.arguments[0].den) == 1:
                found.update(variable for variable, exponent in terms[0] if exponent % 2 and is_symbol(variable))
    return found


def _functions(a: Ratio) -> set[str]:
    """The names of its functions; those with a base count as others."""
    return {name.function + "_" * (len(name.arguments) - 1) for name in _deep_atoms(a) if isinstance(name, Applied)}


def _deep_atoms(a: Ratio) -> set[str]:
    found = atoms(a)
    for name in list(found):
        if isinstance(name, Applied):
            found = found.union(*map(_deep_atoms, name.arguments))
    return found


def _value(a: Ratio, at: _Point) -> Any:
    return _sum(a.num, at) / _sum(a.den, at)


def _sum(poly: Poly, at: _Point) -> Any:
    from mpmath import mpc

    total, largest = mpc(0), 0
    for monomial, number in poly.items():
        product = mpc(number.numerator) / number.denominator
        for name, exponent in monomial:
            product *= _atom(name, at) ** exponent
        total, largest = total + product, max(largest, abs(product))
    return _without_noise(total, largest)


def _without_noise(number: Any, size: Any) -> Any:
    """Zero where only the rounding of operands of that size is left, as of sin(π) and 1 - sin(1)² - cos(1)²."""
    return number if abs(number) > 10.0 ** (5 - _DIGITS) * size else number * 0


def _atom(name: str, at: _Point) -> Any:
    from mpmath import mp, mpc

    if isinstance(name, Applied):
        return _apply(name.function, [_value(argument, at) for argument in name.arguments], at)
    if name in at.values:
        return at.values[name]
    constants = {"i": mpc(0, 1), "π": mp.pi, "e": mp.e}
    if name in constants:
        return mpc(constants[name])
    if name.startswith("√"):
        return mpc(mp.sqrt(int(name[1:])))
    raise Unknown(f"{name} has no value")


def _apply(name: str, arguments: list[Any], at: _Point) -> Any:
    from mpmath import mp

    x = arguments[0]
    if not all(mp.isfinite(argument) and abs(argument) <= 10.0**_DIGITS for argument in arguments):
        raise Unknown("a large number")
    is_negative = x.real < 0 or not _is_real(x)
    degree = int(arguments[1].real) if name == "√" and len(arguments) > 1 else 2
    if degree % 2 and _is_real(x) and is_negative:
        return -mp.root(-x, degree)
    if is_negative and at.is_real and name in ("^", "√", "log", *_LOGARITHMS):
        raise ZeroDivisionError
    if name == "^":
        return mp.power(x, arguments[1])
    if name == "√":
        return mp.root(x, degree)
    if name in ("log", *_LOGARITHMS):
        is_natural = name == "ln" or (name, at.logarithm) == ("log", "ln")
        base = arguments[1] if len(arguments) > 1 else mp.e if is_natural else 10
        return _without_noise(mp.log(x), abs(x)) / mp.log(base)
    if len(arguments) > 1 or name not in _FUNCTIONS:
        raise Unknown(f"{name} is not computed")
    result = mp.expj(x) if name == "cis" else getattr(mp, _FUNCTIONS[name])(x)
    return _without_noise(result, abs(x)) if name in _PERIODIC else result


_PERIODIC = ("sin", "cos", "tan", "cot")  # with zeros that no float is
_FUNCTIONS = {
    name: name.replace("arc", "a")
    for name in (
        *("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp", "cis"),
        *("arcsin", "arccos", "arctan", "arccot", "arcsec", "arccsc"),
    )
}
