"""Which value of a statement is its result: grammar decides, and where it does not, none is."""

import re
from itertools import pairwise

_MAX_AROUND = 80  # characters before and behind a value that are read
_MAX_VALUES = 40  # of a statement with more, none is the result

FORMULA = re.compile(
    r"(?<!\\)\$\$(?:\\.|[^$\\])+\$\$"
    r"|(?<![\\\d])\$(?=\S)(?:\\[^\n]|[^$\n\\])+(?<![\s(])\$(?!\d)"  # as pandoc has it, so that prices are none,
    r"|(?<![\\\d])\$ (?![^$\n]{0,99}(?<![\\A-Za-z{])[a-z]{3})(?:\\[^\n]|[^$\n\\])+(?<=\s)\$(?!\d)"  # or spaced: $ 7 $
    r"|\\\((?:\\(?!\))|[^\\])+\\\)|\\\[(?:\\(?!\])|[^\\])+\\\]",
    re.DOTALL,
)
_IDEOGRAPHS = "\u3040-\u30ff\u4e00-\u9fff가-힣"
_NUMBER = re.compile(
    rf"(?<![^\s$€£¥₩*=:~≈({_IDEOGRAPHS}])(?:[(\[]-?[\d./]+(?:,\s-?[\d./]+)+[)\]]|[-−]?(?:\\?[$€£¥₩]\s?)?[-−]?"
    r"(?:[0-9]{1,3}(?:[, ][0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:[.,][0-9]+)?|\.[0-9]+)(?![0-9])"
    r"(?:\s?[/:]\s?[0-9]+|(?<!from\s\d)(?<!from\s\d\d)(?<!from\s\d\d\d)"
    r"\sto\s[0-9]+(?=(?:\s(?:(?:hour|minute|day|week|month|year)s|against))?[\s.*]*$))?"
    r"(?:[eE][-+]?[0-9]+|\s?(?:[×x*·]|\\times|\\cdot)\s?10(?:\s?\^\s?\{?[-−+]?[0-9]+\}?|[⁻⁺]?[⁰¹²³⁴-⁹]+))?"
    r"(?:\s?π(?!\w))?(?!\s?[π√]|[abeinxyz](?![A-Za-z]))(?:\s?(?:\\?%|percent|pct|퍼센트|(?:hundred|thousand|million|billion|trillion)\b|[백천]?만|억|조|천(?![가-힣])))?(?!\)\(|[^\s\w.,;:!?*%°$€£¥₩\\²³㎡)\]¢’'-]))",
)
_NUMERIC_FORMULA = re.compile(
    r"\$\s?(-?\\?\$?[0-9][0-9.,]{0,30}(?<![.,]))\s?\$|\\\(\s?(-?[0-9][0-9.,]{0,30}(?<![.,]))\s?\\\)"
)
_BOLD = re.compile(r"\*\*[^*\n]{1,80}\*\*")
_EMPHASIS = re.compile(r"\*\*|(?<!\w)__|__(?!\w)|`")
WORD = re.compile(r"(?<![\\A-Za-z{])[^\W\d_]{2,}")
_CONNECTIVE = re.compile(r"(?<![\\A-Za-z])(?:and|or|및|또는|그리고)(?![A-Za-z])")
_LIST = re.compile(
    r"[,;(]|(?<![a-z])(?:and|or|but|nor|plus|while|with|to|y|o)(?![a-z])|와|과\s|하고|그리고|또는|이고|이며|및",
    re.IGNORECASE,
)

_GROUP = re.compile(r"(?<=\d),(?=\d)")

_OPERAND = r"\s?[-–+−×÷*/^]\s?(?:[\d√π(]|(?-i:[b-hj-z])(?![a-z]))"  # behind a number that is part of an expression

# Words around a value that make it no answer at all. Right before it ...
_BEFORE_OTHER = re.compile(
    r"(?:\b(?:not|cannot|never|neither|nor|at\s(?:least|most)|than(?:\sor\sequal\sto)?|between|twice|thrice|half(?:\sof)?"
    r"|double|triple|times|plus|minus|(?:root|square|cube|multiple|factor|divisor|opposite|reciprocal|inverse|logarithm)\sof"
    r"|negative|(?:log|ln|sin|cos|tan|sqrt|base|mod|remainder|choose)\b|close\sto|near|almost|nearly|(?<!round\s)(?<!rounds\s)(?<!rounding\s)up\sto"
    r"|under|over|above|below|exceeds?|raised\sto(?:\sthe)?|unless|except|if|when|for|steps?|equation|figure|problem"
    r"|question|table|case|example|section|exercise|no(?!\.)"
    r"|no\ses|mayor\sque|menor\sque|al\smenos|como\smáximo|entre|m[áa]s\sde|menos\sde|between\s\S{1,20}\sand)|n['’]t|아닌|최소|최대|[A-Za-z)](?=\()|[\w)][-+−×÷*/^]|[\w)]\s[-+−×÷*/^])"
    r"(?:\s(?:be|equal(?:\sto)?|exactly|just|only|the|a|an))*[\s$*(]*(?:\(?[A-Za-z]\s*=\s*)?$",
    re.IGNORECASE,
)
_BEHIND_OTHER = re.compile(  # ... and right behind it
    r"[\s$*,]*(?:[가-힣]{0,2}\s?(?:이상|이하|초과|미만|보다|[은는이가]\s?아[니닌닙]|의\s?[가-힣\d]{0,3}\s?배)"
    r"|(?:or|and)\s(?:more|less|fewer|greater|above|below)\b|(?:times|plus|minus|multiplied|divided|more\sthan|less\sthan"
    r"|to\sthe|over\s\d+|squared|cubed|factorial|choose|tenths?|hundredths?|mod|remainder|below\szero|against)\b|"
    + _OPERAND
    + r"|(?:is|was|are)\s(?:not|wrong|impossible|incorrect|false|too)\b|isn['’]t|o\sm[áa]s\b|o\smenos\b)",
    re.IGNORECASE,
)
# Words that make it a circumstance of the result, where another value is beside it: "in 5 days", "5일 동안".
_BEFORE_ASIDE = re.compile(
    r"(?:\b(?:in|after|over|within|during|per|every|each|at|by|with|from|(?<!total\s)(?<!sum\s)(?<!profit\s)(?<!average\s)(?<!cost\s)of|on|into|among|before|until|since|against"
    r"|through|across|both|out\sof|to(?:\s(?:the|his|her|their))?|for(?!\s\\?[$€£¥₩])"
    r"|days?|weeks?|months?|years?|pages?|rooms?|chapters?|grades?|age|rounds?|rows?|levels?|numbers?|groups?|class"
    r"|divid(?:e|es|ing)|multipl(?:y|ies|ying)|split(?:s|ting)?|shar(?:e|es|ing)|distribut(?:e|es|ing)|subtract(?:s|ing)?|add(?:s|ing)?)"
    r"(?:\s(?:the|those|these|all|her|his|their|its|only|about|each|every|first|last|next|other|of|just|day|year))*"
    r"|\bto\s(?!be\b|pay\b|get\b|save\b|have\b|make\b)[a-z]+(?:\s(?:the|all|up))?)\s[(]?$",
    re.IGNORECASE,
)
_BEHIND_ASIDE = re.compile(
    r"(?:st|nd|rd|th)\b|-[a-z]|\s(?:days?|weeks?|months?|years?|hours?|minutes?)\s(?:ago|later|earlier|before|after)\b"
    r"|\s?(?:[가-힣]{1,5}?|[A-Za-z]{1,3})?\s?(?:동안|만에|[후뒤]에?|전에?|이?내에|안에|마다|당|까지|부터|짜리|번째|째|중에?서?|가운데|에게|에서?"
    r"|[월일년주시분초]에|의|으?로|보다|이?라면|이?면)(?:[는은도])?(?![가-힣])"
    r"|\s?[가-힣]{0,5}?(?:(?<!또)는|은|[을를]\s[가-힣]{1,5}고\s남은)\s|\s?[명인]이\s(?!됩|된|되|남|있|더)|\s?[가-힣]{0,4}?[이가을를씩]\s[^.\d]{0,20}?(?:면|때|데|위해|위해서|려고|때문에)[,\s]"
    r"|\s?[가-힣]{0,3}[을를]\s(?:[^.\d]{0,10}\d+[^.\d]{0,15}?(?:나[누눕눠눌눈]|분배|배분)|(?:[^.\d]{0,10}\d+[^.\d]{0,15}?)?(?:곱[하합해한]|더[하합해한]|[빼뺍뺀]))",
    re.IGNORECASE,
)
_TOTAL = re.compile(  # right before a value that ends the sentence
    r"(?:(?:for|makes|making|giving|is|was|paid|spent|used)\s(?:an?|the)\s(?:grand\s|overall\s)?(?:total|sum|profit|average)\s(?:cost\s|price\s)?of"
    r"|comes?\sto|adds?\sup\sto|amounts?\sto|totall?ing|leaving(?:\s(?:her|him|them|us|it))?(?:\swith)?|left\swith|ends?\sup\swith"
    r"|\d%?\s(?:[a-z]+\s)?of\s[$€£¥₩]?\d[\d.,]*(?:\s[a-z]+){0,2},\s(?:or|which\s(?:is|equals|makes|gives))"
    r"|(?:in|for\sa)\stotal(?:\sof)?|round(?:s|ing)?\s(?:\S{1,12}\s)?(?:up|down)\sto|equals?(?:\sto)?)\s$",
    re.IGNORECASE,
)
_REST = re.compile(r"\b(?:leaving|left\swith|ends?\sup\swith)(?:\s[a-z]+){0,2}\s$", re.IGNORECASE)
_CALLED = re.compile(
    r"(?:\b(?:is|are|was|were|be|equals?|gets?|gives?|obtain|son|es)\b|[:≈])[\s$*]{0,4}(?:about\s|only\s|just\s|now\s)?$",
    re.IGNORECASE,
)
_EXPLAINED = re.compile(
    r"[*\s]*(-?\\?[$€£¥₩]?[0-9][0-9,.]*%?)[가-힣]{0,3}[*\s]*\s\([^()]*[-+=/*×x][^()]*\)[\s*.]*"
)  # "$35 ($15 + $20)"
_PRICED = re.compile(r"[$€£¥₩][^=]*=[^=]*[$€£¥₩]")  # "$15 + $20 = $35"
_UNITS = re.compile(r"[^\w,;=(]{0,3}(?:[^\W\d_]++[^\w,;=(]{0,3}){0,4}")  # that may follow it at the end
_HEAD = re.compile(
    r"\W*(?:that\s)?(?:(?:the|all|these|those|its|her|his|our|their|your|my|all\sthe|\w+['’]s)\s)?", re.IGNORECASE
)
_CLAUSE = re.compile(r"\s(?:[a-z]{2,}\s){1,6}(?:about\s|only\s)?", re.IGNORECASE)  # what is said of a subject
_SIDE_CLAUSE = re.compile(  # where what follows only explains: ", of which 5 are red", "because 2 + 3 = 5"
    r",?\s\((?=[^()]*\)\W*$)|,\s(?:(?:of|for|in|from)\s)?(?:which|where|whose|who)\b|\s(?:because|since|as\sthere|so\sthat(?!['’])|if|when|while|given|after\s[a-z]+ing|before"
    r"\s[a-z]+ing|by\s[a-z]+ing|instead\sof|rather\sthan|out\sof|compared|obtained)\b|,\s(?:not|as|because|since|and\snot|given|up\sfrom|down\sfrom)\s"
    r"|\s[-–—]\s(?=[a-z])|,\s(?=\$?\d+\s(?:\w+\s){0,2}(?:more|less|[a-z]+er)\sthan\b)|(?<=[\d$]),\sor\s(?:about\s)?[\d.]+\s?\\?%\W*$",
    re.IGNORECASE,
)
_LEAD = re.compile(r"[^\d,;:=(]{0,24}[,;:]\s(?!and\b|or\b|\d|[$*\\])")
_RELATIVE = re.compile(
    r"\s(?:that\s(?:are|is|have|has|can|were|was)|(?:which|who)\s(?:are|have|has|can|were))\b", re.IGNORECASE
)
_EQUAL = re.compile(r"(?<![<>!])[=≈][\s$*\\]{0,4}$")
_CONSEQUENCE = re.compile(
    r".*[,;]\s(?:so|hence|therefore|thus|which\smeans|meaning)\b(?!\sthat['’\s])|.*(?:므로|니까|,\s즉(?=\s?\$))[,\s]",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(
    r"\s*(?:if|when|since|because|as|after|before|given|with|while|for|once|out\sof|in|at|by|to)\b[^,.]{1,100},\s",
    re.IGNORECASE,
)


def distil(text: str) -> tuple[str, ...]:
    """The readings of a phrase: whole, and its result where there are words around it."""
    outside = _CONNECTIVE.sub(" ", FORMULA.sub(" ", text))
    if not WORD.search(outside):
        aside = _EXPLAINED.fullmatch(text)
        priced = result(text) if _PRICED.search(text) and not FORMULA.search(text) else None
        return (text, value) if (value := aside[1] if aside else priced) else (text,)
    value = result(text)
    return (text, value) if value and value[0] not in "([" else (text,)  # a point or an interval in prose


def plain(text: str) -> str:
    """Without emphasis, and with formulas that are but a number as that number."""
    return _NUMERIC_FORMULA.sub(lambda found: next(filter(None, found.groups())), _EMPHASIS.sub("", text))


def result(text: str) -> str | None:
    """The value that a sentence gives as its result; None where it gives several, or none."""
    bold = _BOLD.search(text)
    marked = bold.group() if bold and len(_BOLD.findall(text)) == 1 and bold.span() != (0, len(text)) else ""
    text = plain(text)
    formulas = list(FORMULA.finditer(text))
    numbers = list(_NUMBER.finditer(FORMULA.sub(lambda found: "\0" * len(found.group()), text)))
    values = sorted((*formulas, *numbers), key=re.Match.start)
    if not values or len(values) > _MAX_VALUES:
        return None
    consequence = _CONSEQUENCE.match(text)
    if consequence and consequence.end() <= values[-1].start() and values[0].start() < consequence.end():
        return result(text[consequence.end() :])
    if len(values) == 1:
        only = values[0]
        begins = not text[: only.start()].strip(" (") and only in numbers
        is_other = _BEHIND_OTHER.match(text, only.end()) if begins else _is_other(text, only)
        return None if is_other else only.group().strip()
    return _main(text, values, formulas, marked)


def _main(text: str, values: list["re.Match[str]"], formulas: list["re.Match[str]"], marked: str) -> str | None:
    """The result among several values."""
    last = values[-1]
    if _TOTAL.search(_before(text, last)) and _UNITS.fullmatch(text, last.end()):
        equal = [_digits(value.group()) for value in values if _EQUAL.search(_before(text, value))]
        is_rest = equal and equal[-1] != _digits(last.group()) and _REST.search(_before(text, last))
        return None if is_rest else last.group().strip()  # "$2 + $3 = $5, leaving $4" states two results
    condition = _CONDITION.match(text)
    start = condition.end() if condition and any(value.start() >= condition.end() for value in values) else 0
    first = next(value for value in values if value.start() >= start)
    side = _SIDE_CLAUSE.search(text, first.end())
    if side is None and _CALLED.search(_before(text, first)):
        side = _RELATIVE.search(text, first.end())
    end = side.start() if side else len(text)
    said = [value for value in values if start <= value.start() < end]
    said = [value for value in said if _EQUAL.search(_before(text, value)) or not _is_other(text, value)]
    kept = [value for value in said if not _is_aside(text, value)] or (said if len(said) == 1 else [])
    left_out = [value.group() for value in values if value.start() >= end and _EQUAL.search(_before(text, value))]
    found = _chained(text, said)
    is_partial = any(
        re.match(_OPERAND, text[value.end() : value.end() + 4]) for value in values if start <= value.start() < end
    )
    if found is None and not is_partial:
        found = _chosen(text, start, kept, marked, are_formulas=bool(formulas) and set(kept) <= set(formulas))
    return None if left_out and found and _digits(left_out[-1]) != _digits(found) else found or None


def _chained(text: str, values: list["re.Match[str]"]) -> str | None:
    """The last value of a chain of equalities; "" where there are several chains, None where there is none."""
    equal = [value for value in values if _EQUAL.search(_before(text, value))]
    if not equal:
        return None
    for one, other in pairwise(equal):
        between = text[one.end() : other.start()]
        if _is_list(between) and one.group().strip(" $") not in between:
            return ""
    behind = [value for value in values if value.start() > equal[-1].start()]
    return None if any(_CALLED.search(_before(text, value)) for value in behind) else equal[-1].group().strip()


def _chosen(text: str, start: int, kept: list["re.Match[str]"], marked: str, *, are_formulas: bool) -> str | None:
    """The result among the values that may be it: the only one, the marked one, the one that "is" announces, ..."""
    if len(kept) <= 1:
        return kept[0].group().strip() if kept else None
    emphasised = [value for value in kept if marked and value.group().strip() in marked]
    if len(emphasised) == 1:
        return emphasised[0].group().strip()
    called = [value for value in kept if _CALLED.search(_before(text, value))]
    if called == kept[-1:] and _UNITS.fullmatch(text, kept[-1].end()) and not are_formulas:
        return kept[-1].group().strip()
    if are_formulas:
        first = None if _is_list(text[kept[0].end() : kept[-1].start()]) else kept[0].group()
        return _last_formulas(text, kept) if text[: kept[0].start()].strip() else first
    if kept[0].start() == 0 and _LEAD.match(text, kept[0].end()):
        return kept[0].group().strip()  # "5 apples, found with 2 and 3"
    if _is_list(text[kept[0].end() : kept[-1].start()]):
        return None
    if called:
        return called[-1].group().strip() if called[-1] is kept[-1] else None
    between = text[kept[0].end() : kept[1].start()]
    is_object = len(kept) == 2 and _HEAD.fullmatch(text, start, kept[0].start()) and _CLAUSE.fullmatch(between)
    return kept[1].group().strip() if is_object else None


def _before(text: str, value: "re.Match[str]") -> str:
    return text[max(0, value.start() - _MAX_AROUND) : value.start()]


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _last_formulas(text: str, formulas: list["re.Match[str]"]) -> str:
    """The last formula, with those before it that are parts of the same answer: "$1$ and $2$"."""
    chosen = [formulas[-1].group()]
    for before, after in zip(reversed(formulas[:-1]), reversed(formulas), strict=False):
        between = _CONNECTIVE.sub(",", text[before.end() : after.start()]).replace(" ", "")
        if not between or between.strip(","):
            break
        chosen.append(before.group())
    return ", ".join(reversed(chosen))


def _is_list(between: str) -> bool:
    return _LIST.search(_GROUP.sub("", between)) is not None


def _is_other(text: str, value: "re.Match[str]") -> bool:
    """Whether the words around a value say something else of it than that it is the answer."""
    return bool(_BEFORE_OTHER.search(_before(text, value)) or _BEHIND_OTHER.match(text, value.end()))


def _is_aside(text: str, value: "re.Match[str]") -> bool:
    """Whether a value is a circumstance of the result."""
    return bool(
        _BEFORE_ASIDE.search(_before(text, value)) or _BEHIND_ASIDE.match(text, value.end(), value.end() + _MAX_AROUND)
    )
