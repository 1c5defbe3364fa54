"""Exact arithmetic with rational functions of symbols, square roots, pi and i; bounded, so that no input is dear.

A polynomial maps monomials to rational coefficients; a monomial is a sorted tuple of (atom, exponent). Atoms are
symbols ("x", "π"), "i" with i^2 = -1, roots of squarefree integers ("√3"), functions of a symbol ("f:sin(x)"), and
opaque ones ("?√(1+√2)"), of which we know only that the same text means the same. Monomials without opaque atoms and
with one function at most are linearly independent over the rationals, so two different polynomials of them are two
different answers; with more, the comparison is undecided here (`numeric.py` computes it).
"""

import math
import re
import threading
from dataclasses import dataclass
from fractions import Fraction

Monomial = tuple[tuple[str, int], ...]
Poly = dict[Monomial, Fraction]

MAX_BITS = 20_000  # of one coefficient
MAX_TERMS = 200  # of one polynomial
MAX_WORK = 100_000  # products of two terms, for one comparison
MAX_KEY_CHARS = 20_000  # of what an opaque atom stands for; one within another more than doubles it
MAX_RADICAND = 10**8  # a larger one is not searched for squares
_ONE: Poly = {(): Fraction(1)}
_CONSTANTS = {"π": math.pi, "e": math.e}


class _Budget(threading.local):
    """What the comparison of this thread may still cost."""

    work = MAX_WORK


_BUDGET = _Budget()


def reset_budget() -> None:
    """Begins a comparison; without it, all that one thread computes is one."""
    _BUDGET.work = MAX_WORK


class TooLarge(Exception):
    """The exact value is larger than any answer that is meant seriously."""


class Unknown(Exception):
    """This is mathematics that is not understood here, or not defined."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """num / den; den is 1 unless it has several terms."""

    num: Poly
    den: Poly


def constant(value: int | Fraction) -> Ratio:
    return Ratio({(): Fraction(value)} if value else {}, _ONE)


def atom(name: str) -> Ratio:
    return Ratio({((name, 1),): Fraction(1)}, _ONE)


class Applied(str):
    """The name of an atom that is a function of values."""

    function: str
    arguments: tuple[Ratio, ...]


def opaque(function_: str, *arguments: Ratio, mark: str = "?") -> Ratio:
    name = Applied(f"{mark}{function_}({', '.join(map(key, arguments))})")
    name.function, name.arguments = function_, arguments
    return atom(name)


def function(name: str, argument: Ratio, *base: Ratio) -> Ratio:
    """sin(x), log(2), log_2(x), ...: of a number, it may be any number."""
    has_symbol = any(is_symbol(atom_) for atom_ in atoms(argument))
    return opaque(name, argument, *base, mark="f:" if has_symbol and not is_opaque(argument) else "?")


def is_symbol(name: str) -> bool:
    """Whether an atom is a variable: any letter but those of constants."""
    return re.match(r"[A-Za-z\\]", name) is not None and name not in ("e", "i") and not name.startswith("f:")


def add(a: Ratio, b: Ratio) -> Ratio:
    if a.den == b.den:
        return Ratio(_add(a.num, b.num), a.den)
    return _ratio(_add(_multiply(a.num, b.den), _multiply(b.num, a.den)), _multiply(a.den, b.den))


def negative(a: Ratio) -> Ratio:
    return Ratio({monomial: -factor for monomial, factor in a.num.items()}, a.den)


def multiply(a: Ratio, b: Ratio) -> Ratio:
    return _ratio(_multiply(a.num, b.num), _multiply(a.den, b.den))


def divide(a: Ratio, b: Ratio) -> Ratio:
    return _ratio(_multiply(a.num, b.den), _multiply(a.den, b.num))


def power(base: Ratio, exponent: Ratio) -> Ratio:
    """An integer power is multiplied out; a half is a root; any other is opaque."""
    number = rational(exponent)
    if number is None:
        return opaque("^", base, exponent)
    if number.denominator == 2 and rational(base) is not None:
        return power(square_root(base), constant(number * 2))
    if number.denominator != 1:
        return opaque("^", base, exponent)
    return _integer_power(base, number.numerator)


def square_root(a: Ratio) -> Ratio:
    """sqrt(12) is 2 sqrt(3), sqrt(3/4) is sqrt(3)/2, sqrt(-1) is i; a root of anything else is opaque."""
    number = rational(a)
    if number is None:
        return opaque("√", a)
    radicand = abs(number.numerator) * number.denominator
    root = math.isqrt(radicand)
    if root * root == radicand:
        result = constant(Fraction(root, number.denominator))
    elif radicand > MAX_RADICAND:
        return opaque("√", a)
    else:
        outer, inner = _split_square(radicand)
        result = Ratio({((f"√{inner}", 1),): Fraction(outer, number.denominator)}, _ONE)
    return multiply(result, atom("i")) if number < 0 else result


def nth_root(a: Ratio, degree: int) -> Ratio:
    """A root that comes out rational, and is opaque otherwise."""
    if degree == 2:
        return square_root(a)
    number = rational(a)
    if number is not None and 2 < degree <= 64 and (number >= 0 or degree % 2):
        top, bottom = _exact_root(abs(number.numerator), degree), _exact_root(number.denominator, degree)
        if top is not None and bottom is not None:
            return constant(Fraction(top if number >= 0 else -top, bottom))
    return opaque("√", a, constant(degree))


def same(a: Ratio, b: Ratio) -> bool | None:
    """Whether they are equal; None where that is not certain."""
    if a == b or (a.den != b.den and _multiply(a.num, b.den) == _multiply(b.num, a.den)):
        return True
    functions = {name for name in atoms(a) | atoms(b) if name.startswith(("?", "f:"))}
    return False if len(functions) <= 1 and not is_opaque(a) and not is_opaque(b) else None


def is_opaque(a: Ratio) -> bool:
    """Whether something in it may equal something that is written otherwise."""
    return any(name.startswith("?") for name in atoms(a))


def atoms(a: Ratio) -> set[str]:
    """The names of its atoms, without those within functions."""
    return {name for poly in (a.num, a.den) for monomial in poly for name, _ in monomial}


def rational(a: Ratio) -> Fraction | None:
    """The value of a ratio without atoms."""
    if a.den != _ONE or len(a.num) > 1:
        return None
    return a.num.get(()) if a.num else Fraction(0)


def approximate(a: Ratio) -> float | None:
    """The value of a ratio without symbols, as a float."""
    try:
        return _approximate(a.num) / _approximate(a.den)
    except (KeyError, OverflowError, ZeroDivisionError):
        return None


def key(a: Ratio) -> str:
    """A text that is the same for the same numerator and denominator.

    Raises:
        TooLarge: it is too long.
    """
    text = f"{_key(a.num)}/{_key(a.den)}"
    if len(text) > MAX_KEY_CHARS:
        raise TooLarge("opaque atoms within opaque atoms")
    return text


def _key(poly: Poly) -> str:
    return str(sorted((monomial, str(factor)) for monomial, factor in poly.items()))


def _ratio(num: Poly, den: Poly) -> Ratio:
    if not den:
        raise Unknown("division by zero")
    if den == _ONE or not num:
        return Ratio(num, _ONE)
    if len(den) > 1:
        return Ratio(num, den)
    ((monomial, factor),) = den.items()
    inverse = tuple((name, -exponent) for name, exponent in monomial)
    reduced, extra = _reduce(dict(inverse))
    return Ratio(_multiply(num, {reduced: extra / factor}), _ONE)


def _add(a: Poly, b: Poly) -> Poly:
    total = dict(a)
    for monomial, factor in b.items():
        value = total.get(monomial, Fraction(0)) + factor
        if value:
            total[monomial] = value
        else:
            del total[monomial]
    return _bounded(total)


def _multiply(a: Poly, b: Poly) -> Poly:
    if a == _ONE:
        return b
    if b == _ONE:
        return a
    _BUDGET.work -= len(a) * len(b)
    if len(a) * len(b) > 25 * MAX_TERMS or _BUDGET.work < 0:
        raise TooLarge("too many terms")
    product: Poly = {}
    for left, left_factor in a.items():
        for right, right_factor in b.items():
            factor = left_factor * right_factor
            monomial = left or right
            if left and right:
                powers = dict(left)
                for name, exponent in right:
                    powers[name] = powers.get(name, 0) + exponent
                monomial, extra = _reduce(powers)
                factor *= extra
            product[monomial] = product.get(monomial, Fraction(0)) + factor
    return _bounded({monomial: factor for monomial, factor in product.items() if factor})


def _bounded(poly: Poly) -> Poly:
    if len(poly) > MAX_TERMS:
        raise TooLarge("too many terms")
    if any(f.numerator.bit_length() > MAX_BITS or f.denominator.bit_length() > MAX_BITS for f in poly.values()):
        raise TooLarge("too many digits")
    return poly


def _reduce(powers: dict[str, int]) -> tuple[Monomial, Fraction]:
    """The monomial with roots and i to the power of at most one, and the factor that comes out of them."""
    factor, radicand = Fraction(1), 1
    for name in [name for name in powers if name == "i" or name.startswith("√")]:
        exponent = powers.pop(name)
        if abs(exponent) > 1000:
            raise TooLarge("a large power")
        if name == "i":
            factor *= -1 if exponent // 2 % 2 else 1
            if exponent % 2:
                powers["i"] = 1
            continue
        number = int(name[1:])
        factor *= Fraction(number) ** (exponent // 2)
        if exponent % 2:
            shared = math.gcd(radicand, number)
            factor *= shared
            radicand = radicand * number // (shared * shared)
    if radicand > 1:
        powers[f"√{radicand}"] = 1
    return tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent)), factor


def _integer_power(base: Ratio, exponent: int) -> Ratio:
    if exponent < 0:
        return divide(constant(1), _integer_power(base, -exponent))
    bits = max((max(f.numerator.bit_length(), f.denominator.bit_length()) for f in base.num.values()), default=0)
    if bits > 1 and exponent * (bits - 1) > MAX_BITS:
        raise TooLarge("a large power")
    if len(base.num) > 1 or len(base.den) > 1:
        if exponent > 64:
            raise TooLarge("a large power of a sum")
    elif len(base.num) == 1 and exponent > 1:
        ((monomial, factor),) = base.num.items()
        reduced, extra = _reduce({name: times * exponent for name, times in monomial})
        return Ratio(_bounded({reduced: extra * factor**exponent}), base.den)
    result = constant(1)
    for _ in range(min(exponent, 64)):
        result = multiply(result, base)
    return result


def _split_square(number: int) -> tuple[int, int]:
    """(a, b) with a^2 * b = number and b squarefree."""
    outer, divisor = 1, 2
    while divisor * divisor <= number:
        while number % (divisor * divisor) == 0:
            number //= divisor * divisor
            outer *= divisor
        divisor += 1
    return outer, number


def _exact_root(number: int, degree: int) -> int | None:
    guess = round(number ** (1 / degree)) if number < 1 << 1000 else 0
    return next((root for root in (guess - 1, guess, guess + 1) if root >= 0 and root**degree == number), None)


def _approximate(poly: Poly) -> float:
    return sum((float(factor) * math.prod(_float(name) ** n for name, n in m) for m, factor in poly.items()), 0.0)


def _float(name: str) -> float:
    return math.sqrt(int(name[1:])) if name.startswith("√") else _CONSTANTS[name]
