"""From one expression in its canonical spelling to its exact value."""

import math
import re
from fractions import Fraction

from open_exaone.verify.math import algebra
from open_exaone.verify.math.algebra import Ratio, TooLarge, Unknown

MAX_DEPTH = 40  # of nesting; no answer that is meant seriously comes near
_MAX_DIGITS = 5000  # of a number within an expression
_MAX_FACTORIAL = 1000
_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)|(\\[A-Za-z]+)|(\S))", re.ASCII)
_GREEK = re.compile(
    r"(?:alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|(?:var)?theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon"
    r"|(?:var)?phi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Sigma|Phi|Psi|Omega|ell|hbar)"
)
_FUNCTION = re.compile(
    "(?:sin|cos|tan|cot|sec|csc|cis|sinh|cosh|tanh|arcsin|arccos|arctan|log|ln|lg|exp|arg|det|gcd|max|min|Re|Im)"
)
_INVERTIBLE = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
_NAMES = re.compile(r"(?<![\\A-Za-z])(sin|cos|tan|cot|sec|csc|cis|log|ln|exp|sqrt|arcsin|arccos|arctan)(?![a-z])")
_MIXED = re.compile(r"(\d+)\s*(?:\\frac\s*\{?\s*(\d+)\s*\}?\s*\{?\s*(\d+)\s*\}?|\s(\d+)\s*/\s*(\d+))", re.ASCII)
_FRACTION = re.compile(r"(-?)\s*\\frac\s*(?:\{(-?\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d+))|(-?)(\d+)/(\d+)", re.ASCII)
_NUMBER = re.compile(r"([+-]?)\s*(\d*)(?:\.(\d*))?", re.ASCII)
_REPEATING = re.compile(r"(-?)(\d*)\.(\d*)\\(?:overline|bar)\s*\{?(\d+)\}?", re.ASCII)
_POWER_OF_TEN = r"(?:[eE]|\s*\*\s*10\s*\^\s*\{?)([+-]?\d+)\}?"
_SCIENTIFIC = re.compile(rf"([+-]?(?:\d+(?:\.\d*)?|\.\d+)){_POWER_OF_TEN}", re.ASCII)
DECIMAL = re.compile(rf"[+-]?\s*\d*\.(\d*)(?:{_POWER_OF_TEN})?", re.ASCII)  # its decimals and exponent
_MAX_EXPONENT = 400  # beyond it a float is no number either
_DIGITS = frozenset("0123456789")
_CLOSING = {"(": ")", "[": "]", "{": "}", "⦃": "⦄"}
_ENDS_TERM = frozenset("+-)]}⦄|,;=<>≤≥≠≈∪∈∧:/±")
_ENDS_ARGUMENT = _ENDS_TERM | {"", "(", "*"}  # of a function that is written without brackets


def number(text: str) -> Fraction | None:
    """The value of a plain number or fraction: "-3", "0.5", ".5", "1/2", r"\\frac{1}{2}", "1\\frac12"; else None."""
    if (plain := _NUMBER.fullmatch(text)) and (plain[2] or plain[3]):
        if len(text) > _MAX_DIGITS:
            raise TooLarge("too many digits")
        whole, decimals = plain[2] or "", plain[3] or ""
        value = Fraction(int(whole + decimals), 10 ** len(decimals)) if decimals else Fraction(int(whole))
        return -value if plain[1] == "-" else value
    if len(text) > 200:
        return None
    if found := _FRACTION.fullmatch(text):
        sign = found[1] or found[6]
        top, bottom = int(found[2] or found[3] or found[7]), int(found[4] or found[5] or found[8])
        if found[5] and len(found[5]) > 1:  # \frac{1}23 is 3/2
            return None
    elif found := _MIXED.fullmatch(text.lstrip("-")):
        sign = "-" if text.startswith("-") else ""
        bottom = int(found[3] or found[5])
        top = int(found[1]) * bottom + int(found[2] or found[4])
    elif found := _REPEATING.fullmatch(text):
        sign, whole = found[1], found[2] + found[3]
        top = int(whole + found[4]) - int(whole or 0)
        bottom = 10 ** len(found[3]) * (10 ** len(found[4]) - 1)
    elif found := _SCIENTIFIC.fullmatch(text):
        if len(found[2]) > 5 or abs(int(found[2])) > _MAX_EXPONENT:
            raise TooLarge("a large exponent")
        return Fraction(found[1]) * Fraction(10) ** int(found[2])
    else:
        return None
    if not bottom:
        return None
    return Fraction(-top if sign else top, bottom)


def expression(text: str) -> Ratio:
    """The exact value of one expression without relations, lists or ±.

    Raises:
        Unknown: it holds something that is not understood here.
        TooLarge: its value or its nesting is out of all proportion.
    """
    if (value := number(text)) is not None:
        return algebra.constant(value)
    parser = _Parser(_NAMES.sub(r"\\\1", text))
    result = parser.sum(0)
    if parser.position < len(parser.tokens):
        raise Unknown(f"{parser.tokens[parser.position]!r} was not expected")
    return result


class _Parser:
    """Recursive descent over tokens; each method reads one kind of phrase from `position` on."""

    def __init__(self, text: str) -> None:
        self.tokens = [token.group().strip() for token in _TOKEN.finditer(text)]
        self.position = 0

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def sum(self, depth: int) -> Ratio:
        total: Ratio | None = None
        while True:
            is_negative = False
            while self.peek() in ("+", "-") and self.peek():
                is_negative ^= self.take() == "-"
            term = self.product(depth)
            term = algebra.negative(term) if is_negative else term
            total = term if total is None else algebra.add(total, term)
            if self.peek() not in ("+", "-") or not self.peek():
                return total

    def product(self, depth: int) -> Ratio:
        result = self.factor(depth)
        while (token := self.peek()) and (token in "*/" or token not in _ENDS_TERM):
            if token in "*/":
                self.take()
                is_negative = self.peek() == "-" and bool(self.take())
                right = self.factor(depth)
                right = algebra.negative(right) if is_negative else right
                result = (algebra.divide if token == "/" else algebra.multiply)(result, right)
            elif token[0] in _DIGITS and _is_number(self.tokens[self.position - 1]):
                raise Unknown("two numbers side by side")
            else:
                result = algebra.multiply(result, self.factor(depth))
        return result

    def factor(self, depth: int) -> Ratio:
        start = self.position
        base = self.base(depth)
        if _is_number(self.tokens[start]) and self.peek() == r"\frac":  # 1\frac{4}{5} is a sum, 2\frac{x}{3} is none
            fraction = self.base(depth)
            is_mixed = (value := algebra.rational(fraction)) is not None and value > 0 and algebra.rational(base)
            base = (algebra.add if is_mixed else algebra.multiply)(base, fraction)
        while self.peek() in ("^", "!") and self.peek():
            base = _factorial(base) if self.take() == "!" else algebra.power(base, self.argument(depth + 1))
        return base

    def base(self, depth: int) -> Ratio:
        token = self.take()
        if not token:
            raise Unknown("the expression ends early")
        if depth > MAX_DEPTH:
            raise TooLarge("nested too deeply")
        if _is_number(token) and (value := number(token)) is not None:
            return self.with_base(algebra.constant(value))
        if token in _CLOSING:
            value_within = self.sum(depth + 1)
            self.expect(_CLOSING[token])
            return value_within
        if token.startswith("\\"):
            return self.command(token[1:], depth)
        if token == "π":
            return algebra.atom("π")
        if token.isascii() and token.isalpha():
            return self.symbol(token, depth)
        raise Unknown(f"{token!r} is not understood")

    def with_base(self, value: Ratio) -> Ratio:
        """52_8 is the numeral 52 in base 8: another answer than 52_9."""
        if self.peek() != "_":
            return value
        self.take()
        return algebra.multiply(value, algebra.atom("base" + self.subscript()))

    def symbol(self, name: str, depth: int) -> Ratio:
        if self.peek() == "_":
            self.take()
            name = f"{name}_{self.subscript()}"
        if self.peek() == "'":
            raise Unknown("a derivative")
        return algebra.atom(name)

    def subscript(self) -> str:
        if self.peek() != "{":
            return self.take()
        self.take()
        inner = []
        while self.peek() not in ("}", ""):
            inner.append(self.take())
        self.expect("}")
        return "".join(inner)

    def command(self, name: str, depth: int) -> Ratio:
        if name == "frac":
            top = self.argument(depth)
            return algebra.divide(top, self.argument(depth))
        if name == "sqrt":
            return self.root(depth)
        if name in ("binom", "dbinom", "tbinom"):
            return _choose(self.argument(depth), self.argument(depth))
        if _FUNCTION.fullmatch(name):
            return self.function(name, depth)
        if _GREEK.fullmatch(name):
            return self.symbol("\\" + name, depth)
        raise Unknown(f"\\{name} is not understood")

    def argument(self, depth: int) -> Ratio:
        """What a command takes: a group, one digit of a number (\\frac12), or one symbol."""
        if self.peek() == "-":
            self.take()
            return algebra.negative(self.base(depth + 1))
        token = self.peek()
        if len(token) > 1 and token[0] in _DIGITS and "." not in token:
            self.tokens[self.position] = token[1:]
            return algebra.constant(int(token[0]))
        return self.base(depth + 1)

    def root(self, depth: int) -> Ratio:
        degree = Fraction(2)
        if self.peek() == "[":
            self.take()
            value = algebra.rational(self.sum(depth + 1))
            self.expect("]")
            if value is None or value.denominator != 1 or value < 2:
                raise Unknown("a root of another degree")
            degree = value
        radicand = self.base(depth + 1)  # all digits: \sqrt13 is meant as the root of 13
        return algebra.nth_root(radicand, degree.numerator)

    def function(self, name: str, depth: int) -> Ratio:
        """An opaque atom; its argument ends before the next operator or function: \\sin b \\cos a."""
        exponent = algebra.constant(1)
        base: tuple[Ratio, ...] = ()
        while self.peek() in ("^", "_") and self.peek():
            if self.take() == "^":
                exponent = self.argument(depth + 1)
            else:
                base = (self.argument(depth + 1),)
        if algebra.rational(exponent) == -1 and name in _INVERTIBLE:  # \sin^{-1} is the inverse, not 1 / sin
            name, exponent = "arc" + name, algebra.constant(1)
        is_bracketed = self.peek() in ("(", "{", "[")
        inner = self.factor(depth + 1)
        while not is_bracketed and self.peek() not in _ENDS_ARGUMENT and not _FUNCTION.fullmatch(self.peek()[1:]):
            inner = algebra.multiply(inner, self.factor(depth + 1))
        return algebra.power(algebra.function(name, inner, *base), exponent)

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise Unknown(f"{token!r} is missing")


def _is_number(token: str) -> bool:
    return token[0] in _DIGITS or token[-1] in _DIGITS


def _natural(value: Ratio) -> int:
    number_ = algebra.rational(value)
    if number_ is None or number_.denominator != 1 or number_ < 0:
        raise Unknown("a factorial or binomial of no natural number")
    if number_ > _MAX_FACTORIAL:
        raise TooLarge("a large factorial or binomial")
    return number_.numerator


def _factorial(value: Ratio) -> Ratio:
    return algebra.constant(math.factorial(_natural(value)))


def _choose(n: Ratio, k: Ratio) -> Ratio:
    return algebra.constant(math.comb(_natural(n), _natural(k)))
