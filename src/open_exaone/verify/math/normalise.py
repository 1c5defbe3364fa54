"""One spelling for what mathematics and people write in many. Every step is a row of a table; all are linear."""

import re
import unicodedata

_UNICODE = str.maketrans(
    {
        **dict.fromkeys("°℃", r"^\circ "),
        **dict.fromkeys("−–—", "-"),
        **dict.fromkeys("·⋅∙", r"\cdot "),
        **dict.fromkeys("÷⁄", "/"),
        **dict.fromkeys("、，", ","),
        **dict.fromkeys("\u200b\u200e\ufeff"),
        **{"ℝ": r"\mathbb{R}", "×": r"\times ", "±": r"\pm ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in "},
        **{"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∞": r"\infty "},
        **{"π": r"\pi ", "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta "},
    }
)
_ROOT_SIGN = re.compile(r"(?P<sign>[√∛∜])\s*(?P<radicand>\d+(?:\.\d+)?|[A-Za-z]|\((?P<group>[^()]*)\))")
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_SMALL = tuple(  # characters that are small, and stand high or low or in a fraction
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"([⁰¹²³⁴-⁹]+)⁄([₀-₉]+)", r" \1/\2"),
        (r"(?<=\d)(?=[¼-¾⅐-⅞])", " "),
        (r"([⁰¹²³⁴-⁾ⁿⁱ]+)", r"^{\1}"),
        (r"([₀-₎ₐ-ₜᵢ-ᵥⱼ]+)", r"_{\1}"),
    )
)
_MARKUP = re.compile(r"\*\*|__(?=\S)|\\\\(?=[A-Za-z])")  # bold; a backslash that was escaped twice

_TEXT = re.compile(
    r"\\(?P<name>text(?:bf|it|rm|sf|normal)?|mbox|mathrm|mathbf|mathit|boldsymbol|bm|operatorname|rm|bf)(?![A-Za-z])\s*"
    r"(?:\{(?P<content>[^{}]*(?:\^\{-?\d\}[^{}]*)*)\}|(?<=rm|xt)\s(?P<letter>[A-Za-z]))"
    r"(?P<power>\s*\^\s*(?:\{\s*-?\d\s*\}|\d))?"
)
# Units of several parts behind a number: (a text without which nothing is to be done, pattern, replacement).
_GAP = r"(?:\s|~|\\[,;:! ])*"
_BEHIND_NUMBER = rf"(?:(?<=[\d)])|(?<=\d\}})|(?<=\\pi)){_GAP}"
_ROMAN = (
    r"\\(?:text(?:rm|up|normal)?|mathrm|mbox|rm)\s*\{[^{}]*(?:\^\{-?\d\}[^{}]*)*\}"
    r"(?:\s*\^\s*\{?\s*-?\d(?:\s*\})?)?"
)
_ROMANS = rf"{_ROMAN}(?:{_GAP}(?:(?:\\cdot(?![A-Za-z])|\\times(?![A-Za-z])|/){_GAP})?{_ROMAN})*"
_SYMBOL = r"(?:[kcmn]?(?:m|g|s|L|J|N|W|V|A|Hz|Pa|mol)|h|hr|min|ft|mi|lb|K)(?:\^\{?[1-4]\}?)?"
_ANNOUNCED = re.compile(
    r"\s*(?:the\s)?(?:final\s)?answer(?:\sis)?\s*[:=]?\s*|(?:정답|답)\s*(?:[:은]\s*)", re.IGNORECASE
)
_ONLY_AND = re.compile(r"[\s,;]*(?:and|or|y|o|및|또는|그리고)[\s,]*")
_NUMBER_BEFORE = re.compile(r"[\d}).%]\s*$|\\circ\s*\}?\s*$|[\d})]\s*(?:\\[,;:! ]|~)*\s*$|\\pi\s*(?:\\[,;:! ]|~)*\s*$")
NO_UNIT = re.compile(  # what behind a number changes or denies it
    r"\s*(?:(?:not|is|are|was|or|and|if|when|unless|otherwise|more|less|than|to|plus|minus|hundred|thousand|million|billion|trillion|squared|cubed|factorial|choose|tenths?|hundredths?|remainder|over|below|\(?mod)"
    r"(?![A-Za-z])|[은는이가]?\s?아[니닌닙]|[가-힣]{0,2}\s?(?:이상|이하|초과|미만|보다)|의\s|[백천]?만|억|천(?![가-힣]))",
    re.IGNORECASE,
)
_NUMBER_BEHIND = re.compile(r"[\s~]*\d")  # 2 h 30 min

# What a command of LaTeX is written as; one that is not here stays.
_COMMANDS: dict[str, str] = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), r"\frac"),
    **dict.fromkeys(("big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "!"), ""),
    **dict.fromkeys(("displaystyle", "textstyle", "limits", "hfill", "newline", "quad", "qquad"), " "),
    **dict.fromkeys(("large", "Large", "small", "normalsize", *',;:> \n$()[]"'), " "),
    **dict.fromkeys(("dots", "ldots", "cdots", "dotsc"), "…"),
    **dict.fromkeys(("text", "textbf", "textit", "mbox", "mathbf", "mathrm", "mathit", "boldsymbol", "bm"), ""),
    **dict.fromkeys(("varnothing", "emptyset"), "∅"),
    **dict.fromkeys(("le", "leq", "leqslant"), "≤"),
    **dict.fromkeys(("ge", "geq", "geqslant"), "≥"),
    **dict.fromkeys(("ne", "neq"), "≠"),
    **dict.fromkeys(("approx", "simeq", "thickapprox", "sim", "fallingdotseq"), "≈"),
    **dict.fromkeys(("cdot", "times", "ast", "bullet"), "*"),
    **dict.fromkeys(("backslash", "smallsetminus"), r"\setminus "),
    **dict.fromkeys(("cup", "bigcup"), "∪"),
    **dict.fromkeys(("lor", "land"), "∧"),
    **dict.fromkeys(("lbrace", "{"), "⦃"),
    **dict.fromkeys(("rbrace", "}"), "⦄"),
    **dict.fromkeys(("mid", "vert", "lvert", "rvert"), "|"),
    **{"langle": "⟨", "rangle": "⟩", "forall": "∀", "in": "∈", "infty": "∞", "pi": "π"},
    **{"lt": "<", "gt": ">", "div": "/", "pm": "±", "colon": ":", "equiv": "≡"},
    **{"\\": "⏎", "%": "%", "degree": ""},
}
_COMMAND = re.compile(r"\\(?:(left|right)(?![A-Za-z])\s{0,3}(?:\.(?!\d))?|([A-Za-z]+|.))", re.DOTALL)

# What needs more than a look at one command: (a text without which nothing is to be done, pattern, replacement).
_Steps = tuple[tuple[str, re.Pattern[str], str], ...]
_FIRST: _Steps = tuple(
    (trigger, re.compile(pattern), replacement)
    for trigger, pattern, replacement in (
        (r"\begin{", r"\\(?:begin|end)\{(?:align(?:ed|at)?|equation|gather(?:ed)?|split|displaymath)\*?\}", " "),
        ("&", r"&\s*(?=[=<>]|\\(?:[lg]eq?|approx)(?![A-Za-z]))|(?<=[=<>])\s*&", " "),
        (",", r"(?<=\d)\s*\{\s*,\s*\}\s*(?=\d)", ","),  # 1{,}234
        (r",\!", r"(?<=\d),\s*\\!\s*(?=\d)", ","),  # 1,\!234
        ("\\", r"(?<=\d)\\[,;: !](?=\d{3}(?!\d))", ""),  # 1\,234
        (r"\circ", r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))", ""),
        (r"\not", r"\\not\s*=", "≠"),
        (r"\pmod", r"\\pmod\s*\{?\s*(\w+)\s*\}?", r" mod \1"),
        ("^", r"(?<=\d)\s*\^\s*\{\s*(?:st|nd|rd|th)\s*\}", ""),  # 12^{\text{th}}
    )
)
_UNITS: _Steps = tuple(
    (trigger, re.compile(pattern), replacement)
    for trigger, pattern, replacement in (
        ("", r"\s{2,}", " "),
        ("{}", r"\{\s*\}(?=\s*\^)", ""),
        (r"\rm", r"\{\s*\\rm\s+([^{}]*)\}", r"\\mathrm{\1}"),
        (r"\degree", r"\\degree(?![A-Za-z])", r"^\\circ "),
        ("", r"\\(?:num\s*\{([^{}]*)\}|(?:SI|qty)\s*\{([^{}]*)\}\s*\{[^{}]*\})", r"\1\2"),
        (
            r"\circ",
            rf"\^\s*\{{?\s*\\circ\s*\}}?{_GAP}(?:\\(?:text\w*|mathrm|rm)\s*(?:\{{\s*[CF]\s*\}}|\s[CF])|[CF](?![A-Za-z_^]))",
            "",
        ),
        (r"\mu", rf"{_BEHIND_NUMBER}\\mu{_GAP}(?=\\(?:text|mathrm|rm))", " "),
        (r"\Omega", rf"{_BEHIND_NUMBER}(?:\\(?:text\w*|mathrm|rm)\s*\{{\s*[kMGm]\s*\}}|[kM])?{_GAP}\\Omega\s*$", ""),
        ("A", rf"{_BEHIND_NUMBER}\\(?:AA(?![A-Za-z])|mathring\s*\{{\s*(?:\\(?:text|mathrm)\s*\{{)?A\}}+)", ""),
        ("frac", rf"{_BEHIND_NUMBER}\\[dt]?frac\s*\{{{_GAP}{_ROMANS}{_GAP}\}}\s*\{{{_GAP}{_ROMANS}{_GAP}\}}", ""),
        ("frac", rf"{_BEHIND_NUMBER}(?<=[ ,;~])\\[dt]?frac\s*\{{\s*{_SYMBOL}\s*\}}\s*\{{\s*{_SYMBOL}\s*\}}\s*$", ""),
    )
)
_QUOTIENT = re.compile(rf"{_BEHIND_NUMBER}({_ROMANS})(?!\s*[\d_(])")  # 15 m/s, each unit in a group of its own
_FACTORS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_FACTORS |= {"천만": 7, "백만": 6, "만": 4, "억": 8, "조": 12, "천": 3}
_IN_SET = r"[A-Za-z]\s*∈\s*\\mathbb\s*\{?\s*[A-Z]\s*\}?(?:\s*[_^]\s*\{?\s*[+*]\s*\}?)?\s*\)?$"
_OUTWARD = re.compile(r"(?:^|[∪∈=])\s*\][^\[\]()]*[,;]|[,;][^\[\]()]*\[\s*(?:∪|$)")  # ]0,1[ is (0,1)
_BRACKETED = re.compile(r"([\[\]])([^\[\]()]*)[,;]([^\[\]()]*)([\[\]])")
_LAST: _Steps = tuple(
    (trigger, re.compile(pattern), replacement)
    for trigger, pattern, replacement in (
        ("", r"\s{2,}", " "),  # first: many steps look through blanks from each of them
        ("^", r"\^\s*(-?\d{2,}(?:\.\d+)?)", r"^{\1}"),
        *(
            (word, rf"(?<=\d)\s*{word}(?=\s*[A-Za-z.]*\s*$|\s*(?:원|명|개|달러)\s*$)", rf"*10^{{{power}}}")
            for word, power in _FACTORS.items()
        ),
        ("10", r"(?<=\d)\s*x\s*(?=10\s*\^)", "*"),  # 6.02 x 10^23
        ("⦃", r"\}\s*-\s*(?=⦃)", r"}\\setminus "),
        (" ", r"^(?:negative|minus)\s+(?=\d)", "-"),
        ("degree", r"(?<=\d)\s*degrees?\b", ""),
        ("", r"(?<=[\d\s}])(?:percent(?:age)?|pct)\b|퍼센트|프로(?![가-힣])", "%"),
        ("<=", "<=", "≤"),
        (">=", ">=", "≥"),
        ("!=", "!=", "≠"),
        ("pi", r"(?<![A-Za-z\\])pi\b", "π"),
        ("inf", r"(?<![A-Za-z\\])inf(?:inity)?\b", "∞"),
        ("sqrt", r"(?<![A-Za-z\\])sqrt(?=\s*\()", r"\\sqrt"),
        ("", r",?\s*\b(?:and|or)\b\s*,?|(?<=\d)or(?=[A-Za-z])", "∧"),
        ("", r"\s*(?:및|또는|그리고)\s*|(?<=[\d})])\s*[와과]\s*(?=\S)", "∧"),
        ("∧", r"\(\s*∧\s*([^()]*)\)", r"∧\1"),  # 0.5 (or 1/2), 0.5 (= 1/2)
        ("(", r"(?<=\S)\s*\(\s*([=≈])\s*([^()]*)\)$", r"\1\2"),
        ("to", r"(?<=[\d}])\s+to\s+(?=[\d\\])", ":"),
        ("∈", rf"(=[^,;=]*?)\s*[,;(]?\s*(?:for\s|where\s|with\s)?\s*(?:all\s|any\s|some\s)?{_IN_SET}", r"\1"),
        ("∀", rf"^(.*=[^,;=]*?)\s*[,;(]?\s*∀\s*{_IN_SET}", r"\1"),
        (
            "constant",
            r"(=[^,;=<>]*?)\s*[,;]?\s*(?:for|where|with)\s(?:(?:any|all|some|an?|is|are|the|real|arbitrary|constants?|[a-z])(?![A-Za-z])\s?)+$",
            r"\1",
        ),
        ("<", r"^<([^<>=≤≥]*,[^<>=≤≥]*)>$", r"⟨\1⟩"),
        ("  ", r"\s+", " "),
    )
)
_CURRENCY = str.maketrans(dict.fromkeys("$€£¥₩₹¢~\n\t\r\f", " "))
_UNIT_SYMBOLS = frozenset("mgsLJNWVKCFATHh")
_BEFORE = ' \t\n,;:*"'
_BEHIND = _BEFORE + "."
_PLAIN = re.compile(r"-?\d+(?:\.\d+|/\d+)?|-?\\frac\{\d+\}\{\d+\}", re.ASCII)  # as it should be


def to_latex(text: str) -> str:
    """The text as LaTeX in ASCII, as far as it is mathematics; other scripts stay as they are."""
    if not text.isascii():
        text = _ROOT_SIGN.sub(_root, text)
        for pattern, replacement in _SMALL:
            text = pattern.sub(replacement, text)
        text = unicodedata.normalize("NFKC", text.translate(_UNICODE)).translate(_UNICODE)
    if r"\begin{" in text:
        return text.replace("**", "")
    return _MARKUP.sub(lambda mark: "\\" if mark.group().startswith("\\") else "", text)


def _root(root: "re.Match[str]") -> str:
    radicand = _ROOT_SIGN.sub(_root, root["group"]) if root["group"] else root["radicand"]
    return f"{_ROOTS[root['sign']]}{{{radicand}}}"


def canonical(text: str) -> str:
    """The compact spelling that is compared and parsed; it is LaTeX no more (`≤`, `∪`, `⦃`, and `∧` for "and")."""
    if _PLAIN.fullmatch(text):
        return text
    text = to_latex(text)
    if r"\begin{cases}" in text:  # equations that hold together
        text = text.replace(r"\begin{cases}", "").replace(r"\end{cases}", "").replace(r"\\", ",")
    if "\\" in text or "{" in text:
        text = _run(_UNITS, text)
        text = _QUOTIENT.sub(_without_units, text) if "/" in text else text
        text = _COMMAND.sub(_written, _run(_FIRST, _drop_text(text)))
    text = _run(_LAST, text.translate(_CURRENCY)).lstrip(_BEFORE).rstrip(_BEHIND)
    text = text.strip("'") if text.startswith("'") else text  # 7' is another number
    return _BRACKETED.sub(_inward, text) if _OUTWARD.search(text) else text


def _inward(interval: "re.Match[str]") -> str:
    opening, closing = {"[": "[", "]": "("}[interval[1]], {"]": "]", "[": ")"}[interval[4]]
    return f"{opening}{interval[2]},{interval[3]}{closing}"


def _without_units(quotient: "re.Match[str]") -> str:
    """Nothing in the place of units that are divided or multiplied; whatever else it is stays."""
    parts = list(_TEXT.finditer(quotient[1]))
    is_unit = len(parts) > 1 and all(_is_unit(part["name"], part["content"] or part["letter"] or "") for part in parts)
    return "" if is_unit else quotient[0]


def _written(command: "re.Match[str]") -> str:
    return "" if command[1] else _COMMANDS.get(command[2], command.group())


def _run(steps: _Steps, text: str) -> str:
    for trigger, pattern, replacement in steps:
        if trigger in text:
            text = pattern.sub(replacement, text)
    return text


def _drop_text(text: str) -> str:
    """Opens `\\text{...}`: a connective becomes "and", a unit behind a number goes, words stay."""
    pieces: list[str] = []
    end = 0
    for found in _TEXT.finditer(text):
        start = found.start()
        pieces.append(text[end:start])
        end = found.end()
        content = found["content"] or found["letter"] or ""
        if _ANNOUNCED.fullmatch(content):
            continue
        if _ONLY_AND.fullmatch(content):
            pieces.append(" and ")
        elif "%" in content or "percent" in content:
            pieces.append("%")
        elif _NUMBER_BEHIND.match(text, end) or not (
            _is_unit(found["name"], content) and _NUMBER_BEFORE.search("".join(pieces)[-12:])
        ):
            pieces.append(content + (found["power"] or ""))
    return "".join(pieces) + text[end:] if end else text


def _is_unit(name: str, content: str) -> bool:
    word = content.strip()
    if NO_UNIT.match(content):
        return False
    if word in ("", "e", "i") or word.isdigit() or name == "operatorname":
        return False
    return len(word) > 1 or name.startswith(("text", "mbox")) or (name in ("mathrm", "rm") and word in _UNIT_SYMBOLS)
