"""What an answer is made of: numbers, lists, tuples, sets, intervals, matrices, relations and words."""

import re
from dataclasses import dataclass, replace

from open_exaone.verify.math import algebra, parse
from open_exaone.verify.math.algebra import Ratio, TooLarge, Unknown
from open_exaone.verify.math.normalise import NO_UNIT

MAX_ITEMS = 200  # of one list, set or matrix; a longer one is compared as text alone
_MAX_DEPTH = 8  # of lists within lists
_MAX_BRACKETS = 40  # that are open at once


@dataclass(frozen=True, slots=True)
class Number:
    """An expression. `places` counts the decimals of a plain decimal number, and is None for any other."""

    value: Ratio
    places: int | None = None
    is_percent: bool = False


@dataclass(frozen=True, slots=True)
class Infinity:
    is_negative: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """A tuple, interval or list. `brackets` is "" for a bare list, "⦃⦄" for a set, "∪" for a union, ":" for a ratio,
    "±" for two numbers that are written as one; a vector in angle brackets is a tuple."""

    brackets: str
    items: "tuple[Value, ...]"
    decimal: "Value | None" = None  # what "1,22" is where the comma is a decimal one
    is_time: bool = False  # "5:10" may be one of day


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: "tuple[tuple[Value, ...], ...]"
    is_determinant: bool = False


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as 1 < x <= 2: one operator between each two sides. `name` is what an assignment defines, f(2)."""

    operators: tuple[str, ...]
    sides: "tuple[Value, ...]"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Congruence:
    """left ≡ residues (mod modulus), where both of `left` and `modulus` are texts."""

    left: str
    residues: "tuple[Value, ...]"
    modulus: str


@dataclass(frozen=True, slots=True)
class Words:
    """Letters alone, in lower case."""

    text: str


@dataclass(frozen=True, slots=True)
class Other:
    """Mathematics that is not understood here."""

    text: str


Value = Number | Infinity | Sequence | Matrix | Relation | Congruence | Words | Other

TURNED = {">": "<", "≥": "≤", "<": ">", "≤": "≥", "≠": "≠"}  # what is left of it exchanged with what is right
REALS = Sequence("()", (Infinity(is_negative=True), Infinity(is_negative=False)))
_GROUPED = re.compile(r"([+-]?)([1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+)(\.\d*)?(?:\s*[^\W\d_][^\d,;()=\\]*)?")
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)", re.ASCII)
_CUT = re.compile(r"[()\[\]{}⦃⦄⟨⟩;∧,:∪=≤≥<>≠≈]|\\begin|\\end")
_CONGRUENCE = re.compile(
    r"(?:(.+)[≡=])?([^≡=]+?),?\s*\(?\s*\\?[bp]?mod(?:ulo)?(?![A-Za-z])\s*[{(]?\s*(\w+)\s*[})]?\s*\)?", re.DOTALL
)
_TRANSPOSED = re.compile(r"(.*[)\]⟩}])\s*\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?", re.DOTALL)
_BUILT = re.compile(r"⦃\s*[A-Za-z]\s*(?:∈\s*\\mathbb\s*\{?R\}?\s*)?[|:](.+)⦄", re.DOTALL)
_TIME = re.compile(r"\d{1,2}:[0-5]\d")
_REALS = re.compile(
    r"(?:(?:the\s)?set\sof\s)?(?:all|any|every)\s(?:the\s)?reals?(?:\s(?:numbers?|values?))?(?:\s(?:of\s)?[a-z])?"
    r"|(?:the\s)?(?:set\sof\s)?real\snumbers|모든\s?실수(?:의\s?집합)?|실수\s?전체(?:의\s?집합)?"
    r"|(?:[a-z]\s?∈\s?)?\\(?:mathbb\s?\{?r\}?|r)"
)
_NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_MATRIX = re.compile(
    r"\(?\s*\[?\s*\\begin\{([pbvBV]?matrix|array)\}(?:\{[clr| ]*\})?((?:(?!\\begin).)*)\\end\{\1\}\s*\]?\s*\)?",
    re.DOTALL,
)
_NAME = (  # not \log(2), which has a value
    r"\|?(?!\\(?:log|ln|lg|exp|sin|cos|tan|cot|sec|csc|arc)[^()]*\([\d.]+\))"
    r"(?:\\(?:vec|hat|bar|mathbf|boldsymbol|overrightarrow)\s*\{[A-Za-z]+\}|\\frac\s*\{d[A-Za-z]?\}\s*\{d[A-Za-z]\}|\\?[A-Za-z]+)'?"
    r"(?:_(?:\{[^{}]*\}|\w))?(?:\(-?[A-Za-z0-9.,\s=]*\))?\|?"
)
_NAMES = re.compile(rf"\(?\s*{_NAME}(?:\s*[,:/]\s*{_NAME})*\s*\)?")
_MEMBER = re.compile(rf"{_NAME}\s*∈\s*")
_UNIT = re.compile(
    r"(.*[\d}π)!⦄])\s*(?:(?:[A-Za-zµ]{2,}|[msgLAVNJWCFK])\.?(?:\s*\^\s*\{?[23]\}?)?(?:\s*/\s*[A-Za-z]+|\s[A-Za-z]+){0,4}"
    r"|\s*[가-힣]{1,6}(?:\s[가-힣]{1,6})?)",
    re.DOTALL,
)
_SHORT_UNIT = re.compile(
    r"(.*[\d}π)])\s*(?:[cmk]m|kg|mg|lbs?|oz|ft|yd|sec|min|hrs?|hours?|mL|ml|kW|mph|km/h|m/s\^\{?2\}?|m/s|cm/s|[cmk]m\^\{?[23]\}?)",
    re.DOTALL,
)
_ABOUT = re.compile(r"(?:약|대략|about|approximately|around|roughly|≈)\s*", re.IGNORECASE)
_WORD = re.compile(
    r"(?<![\\A-Za-z])(?!(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|arcsin|arccos|arctan)(?![a-z]))[^\W\d_]{4,}"
)
_DENIES = re.compile(r"[^=]*\b(?:not|unless|undefined|if|for|when|no|never|except|impossible|wrong)\b")
_LETTERS = re.compile(r"[^\W\d_]")
_PARTED = re.compile(r"[=≈<>≤≥;∧]|,(?!\d{3})")
_WORDLIKE = re.compile(r"\(?[^\W\d_](?:[^\W\d_]|[\s'.-])*\)?")


def read(text: str, depth: int = 0) -> Value:
    """The value of an answer in its canonical spelling.

    Raises:
        TooLarge: it is out of all proportion: a tower of powers, deep nesting.
    """
    text = text.lstrip(" ,;").rstrip(" .,;")
    if (value := parse.number(text)) is not None:
        decimal = parse.DECIMAL.fullmatch(text) if "." in text else None
        return Number(algebra.constant(value), max(0, len(decimal[1]) - int(decimal[2] or 0)) if decimal else None)
    if grouped := _GROUPED.fullmatch(text):
        return read(grouped[1] + re.sub("[, ]", "", grouped[2]) + (grouped[3] or ""))
    if depth > _MAX_DEPTH:
        raise TooLarge("nested too deeply")
    if about := _ABOUT.match(text):
        text = text[about.end() :]
    if text.endswith("%") and not _PARTED.search(text):
        return _percent(text, depth)
    return _compound(text, depth)


def _compound(text: str, depth: int) -> Value:
    if "mod" in text and (found := _CONGRUENCE.fullmatch(text)):
        residues = read(found[2], depth + 1)
        items = residues.items if isinstance(residues, Sequence) and residues.brackets in ("", "±") else (residues,)
        return Congruence("".join((found[1] or "").split()), items, found[3])
    if "⦃" in text and (built := _BUILT.fullmatch(text)):
        return read(built[1], depth + 1)
    cuts = _cuts(text)
    for separator in ";∧,":
        if separator in cuts:
            return _list(text, cuts, separator, depth)
    if matrix := _MATRIX.fullmatch(text):
        return _matrix(matrix[2], depth, is_determinant=matrix[1] in ("vmatrix", "Vmatrix"))
    if "∪" in cuts and not any(text[start:end] == "=" for start, end in cuts.get("=", ())):
        return _sequence("∪", _split(text, cuts["∪"]), depth)
    if "=" in cuts and _DENIES.match(text):
        return Words(words(text))
    if "=" in cuts:
        return _relation(text, cuts["="], depth)
    if member := _MEMBER.match(text):
        return read(text[member.end() :], depth + 1)
    if text[:1] in "([{⦃⟨" and cuts.get(")", [(0, -1)])[0][1] == len(text):  # the first bracket closes at the very end
        return _bracketed(text, depth)
    if ":" in cuts:
        items = _sequence(":", _split(text, cuts[":"]), depth).items
        return Sequence(":", items, is_time=_TIME.fullmatch(text) is not None)
    if "^" in text and (transposed := _TRANSPOSED.fullmatch(text)):
        vector = read(transposed[1], depth + 1)
        if isinstance(vector, Sequence) and vector.brackets in ("()", "[]"):  # a column as well
            return Sequence("()", vector.items)
        if isinstance(vector, Matrix) and not vector.is_determinant and len(set(map(len, vector.rows))) == 1:
            return Matrix(tuple(zip(*vector.rows, strict=True)))
    if text.startswith("-(") and isinstance(point := read(text[1:], depth + 1), Sequence) and point.brackets == "()":
        numbers = [item for item in point.items if isinstance(item, Number)]
        if len(numbers) == len(point.items):
            return Sequence("()", tuple(replace(item, value=algebra.negative(item.value)) for item in numbers))
    return _atom(text, depth)


def _atom(text: str, depth: int) -> Value:
    """An expression, with its ± and its unit, or words."""
    bare = text.strip(" +")
    known = bare.casefold()
    if known in _NUMBER_WORDS:
        return Number(algebra.constant(_NUMBER_WORDS.index(known)))
    if ("r" in known or "실수" in known) and _REALS.fullmatch(known):
        return REALS
    if bare in ("∞", "-∞"):
        return Infinity(bare == "-∞")
    if "±" in text and text.count("±") == 1:
        return _sequence("±", [text.replace("±", "+"), text.replace("±", "-")], depth)
    if _WORDLIKE.fullmatch(text) and len(_LETTERS.findall(text)) > 3:
        return Words(words(text))
    if unit := _SHORT_UNIT.fullmatch(text):  # "3 cm" is no product
        return read(unit[1], depth + 1)
    try:
        if not _WORD.search(text):
            return Number(parse.expression(text))
    except Unknown:
        pass
    unit = _UNIT.fullmatch(text)
    if unit and NO_UNIT.match(text, len(unit[1])):
        return Words(words(text))
    if unit and not unit[1].endswith("\\"):
        return read(unit[1], depth + 1)
    return Words(words(text)) if _WORDLIKE.fullmatch(text) else Other(text)


def words(text: str) -> str:
    """The letters and digits of a text, for comparing words."""
    return "".join(character for character in text.casefold() if character.isalnum())


def _percent(text: str, depth: int) -> Value:
    value = read(text[:-1].rstrip(" \\"), depth + 1)
    return Number(value.value, value.places, is_percent=True) if isinstance(value, Number) else value


def _cuts(text: str) -> dict[str, list[tuple[int, int]]]:
    """Where the text may be cut, outside of all brackets: by ";", "∧", ",", ":", "∪", and "=" for any relation.

    Under ")" stand the brackets that close the outermost ones; intervals close with any bracket.
    """
    cuts: dict[str, list[tuple[int, int]]] = {}
    depth = 0
    for token in _CUT.finditer(text):
        mark = token.group()
        if mark in "([{⦃⟨" or mark == r"\begin":
            depth += 1
            if depth > _MAX_BRACKETS:
                raise TooLarge("nested too deeply")
        elif mark in ")]}⦄⟩" or mark == r"\end":
            depth -= 1
            if depth <= 0:
                cuts.setdefault(")", []).append(token.span())
        elif depth == 0:
            cuts.setdefault("=" if mark in "=≤≥<>≠≈" else mark, []).append(token.span())
    return cuts


def _split(text: str, cuts: list[tuple[int, int]]) -> list[str]:
    if len(cuts) >= MAX_ITEMS:
        raise TooLarge("too many items")
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    return [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]


def _list(text: str, cuts: dict[str, list[tuple[int, int]]], separator: str, depth: int) -> Value:
    parts = [part for part in _split(text, cuts[separator]) if part]
    if not parts:  # a mere "or"
        return Other(text)
    if len(parts) == 1:
        return read(parts[0], depth + 1)
    if separator == "∧" and "," in cuts and len({len(_cuts(part).get(",", ())) for part in parts}) > 1:
        parts = [part for part in _split(text, sorted(cuts["∧"] + cuts[","])) if part]  # "19, 46, and 82"
    comma = _DECIMAL_COMMA.fullmatch(text)
    decimal = read(f"{comma[1]}.{comma[2]}") if comma else None
    return Sequence("", _sequence("", parts, depth).items, decimal)


def _sequence(brackets: str, parts: list[str], depth: int) -> Sequence:
    items: list[Value] = []
    for part in parts:
        item = read(part, depth + 1)
        is_two = isinstance(item, Sequence) and item.brackets == "±" and brackets in ("", "⦃⦄")
        items += item.items if is_two and isinstance(item, Sequence) else [item]
    return Sequence(brackets, tuple(items))


def _bracketed(text: str, depth: int) -> Value:
    """(1,2), [0,1), a set, or just an expression in brackets."""
    brackets, inner = text[0] + text[-1], text[1:-1].strip()
    brackets = "()" if brackets == "⟨⟩" else brackets
    cuts = _cuts(inner)
    if brackets != "{}" and (separator := next(filter(cuts.__contains__, ",;∧"), None)):
        return _sequence(brackets, _split(inner, cuts[separator]), depth)
    if brackets == "⦃⦄":
        return _sequence(brackets, [inner] if inner else [], depth)
    if "=" in cuts or brackets == "{}" or (brackets == "()" and _WORDLIKE.fullmatch(inner)):
        return read(inner, depth + 1)
    return _atom(text, depth)


def _matrix(body: str, depth: int, *, is_determinant: bool) -> Value:
    rows = [row for row in body.replace(r"\hline", "").split("⏎") if row.strip()]
    cells = [[cell.strip() for cell in row.split("&")] for row in rows]
    if sum(map(len, cells)) > MAX_ITEMS:
        raise TooLarge("too many items")
    return Matrix(tuple(tuple(read(cell, depth + 1) for cell in row) for row in cells), is_determinant)


def _relation(text: str, cuts: list[tuple[int, int]], depth: int) -> Value:
    """A chain. An assignment x = ... = 7 is x = 7, and what is only approximate does not count beside what is exact."""
    sides = _split(text, cuts)
    operators = [text[start:end] for start, end in cuts]
    if "≈" in operators:
        at = operators.index("≈")
        last = max(at, 1 if _NAMES.fullmatch(sides[0]) else 0)
        sides, operators = sides[: last + 1], operators[:at] + ["="] * (last - at)
    if not operators:
        return read(sides[0], depth + 1)
    name = None
    if set(operators) == {"="}:
        if len(sides) == 2 and _NAMES.fullmatch(sides[1]) and not _LETTERS.search(sides[0]):  # 5 = x
            sides.reverse()
        name = "".join(sides[0].split()) if _NAMES.fullmatch(sides[0]) else None
        if name is not None:
            sides, operators = [sides[0], sides[-1]], ["="]
        elif len(sides) > 2 and not any(character.isalpha() for character in sides[0]):
            return read(sides[-1], depth + 1)
    if len(operators) > 1 and set(operators) <= {">", "≥"}:  # 2 > x > 1 is 1 < x < 2
        sides, operators = sides[::-1], [TURNED[operator] for operator in operators[::-1]]
    first = Other(sides[0]) if name is not None and "(" in sides[0] else read(sides[0], depth + 1)
    return Relation(tuple(operators), (first, *(read(side, depth + 1) for side in sides[1:])), name)
