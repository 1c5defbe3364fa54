"""Finding the final answer in a reply: in its boxes, or behind a phrase that announces it. All of it is linear."""

import re
from dataclasses import dataclass

_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped character is skipped whole, so \{ and \} do not count
_BOX_OR_BRACE = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox|framebox)(?![A-Za-z])\s*(?P<open>\{)?(?P<bare>(?(open)|[^\s{}$\\]{1,100}))?)|\\.|[{}]",
    re.DOTALL,
)

# What announces an answer. The last one in the reply counts, and of two that overlap, the one that ends last.
CUES = {
    "en": (
        r"answer\s{0,2}(?:is|was|becomes|would\sbe|=)(?:\s(?:thus|therefore|then|simply|just|clearly))?(?![A-Za-z])",
        r"answer\*{0,2}\s{0,2}[:：]",
        r"(?<![A-Za-z])(?:correct|right)\s(?:choice|option)\s(?:is|would\sbe)(?![A-Za-z])",
        r"<answer>",
        r"answer\s(?:to|of|for)\s[^.\n]{1,80}\sis(?![A-Za-z])",
    ),
    "ko": (
        r"(?:정답|해답|답안|답)\s{0,2}(?:은|는|이)(?=[\s:：*$\\(\[\d①-⑳A-Za-z-])",
        r"(?:정답|해답|답안|답)\*{0,2}\s{0,2}[:：]",
    ),
    "es": (
        r"respuesta(?:\s(?:final|correcta))?\s(?:es|ser[íi]a)(?![A-Za-zÀ-ÿ])",
        r"respuesta(?:\s(?:final|correcta))?\*{0,2}\s{0,2}[:：]",
    ),
    "zh": (r"答案\s?(?:是|为|為|[:：])",),
    "ja": (r"答えは", r"答え\s?[:：]"),
    "fr": (r"réponse\s(?:finale\s|correcte\s)?est(?![A-Za-zÀ-ÿ])", r"réponse\s?[:：]"),
    "de": (r"Antwort\s(?:ist|lautet)(?![A-Za-zÀ-ÿ])", r"Antwort\s?[:：]"),
    "pt": (r"resposta\s(?:final\s|correta\s)?é(?![A-Za-zÀ-ÿ])", r"resposta\s?[:：]"),
    "ru": (r"Ответ\s?[:：]",),
}
_CUE = re.compile("|".join(f"(?:{cue})" for cues in CUES.values() for cue in cues), re.IGNORECASE)
_DRESS = re.compile(r"(?:[\s:：*_`\"“”'‘’,]|\\(?=\"))*")  # what may stand between a cue and its answer
_FORMULAS = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"))
_STOP = re.compile(  # a sentence's or a line's end
    r"\n|(?<![\s.])[.?]+(?=[\s*\"'”’)]|$)|(?<![\s\d)!])!+(?=\s|$)|。|</answer>"
)
_PREDICATE = re.compile(r"(?:입니다|이에요|예요|이다|이며|임|이 된다|이 됩니다|가 된다|가 됩니다|이므로|です)$")
_BEFORE = " \t\r\n*_`\"“”'‘’。,;:!"
_BEHIND = _BEFORE + ".\\"
_BOX_COMMANDS = (r"\boxed", r"\fbox", r"\framebox")
_MAX_CHARS = 1_000_000  # at the end of a text, that are searched for boxes
_CLAUSE_END = re.compile(r"[.;:!?\n。]")
_MAX_CLAUSE = 80  # characters before a cue that are looked at
_MAX_CUE_ANSWER = 2000  # characters; what goes on for longer is no short answer


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of a reply, and what the reply says after it."""

    text: str
    rest: str
    before: str = ""  # what of its clause stands before the phrase that announces it


def last_boxed(text: str) -> str | None:
    """The content of the last `\\boxed{...}`, its braces balanced and its ends stripped.

    None where there is no box or the last one is never closed. Linear in the length of the text.
    """
    start = None
    for box in _BOX.finditer(text):
        start = box.end()
    if start is None:
        return None
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return text[start : brace.start()].strip()
    return None


def boxes(text: str) -> list[str]:
    """Every closed box in the order of their ends, `\\boxed 7` and `\\fbox{7}` too; of nested boxes the innermost."""
    return [text[start:end].strip() for start, end in box_spans(text)]


def box_spans(text: str) -> list[tuple[int, int]]:
    """Where the content of each closed box at the end of the text starts and ends."""
    if not any(command in text for command in _BOX_COMMANDS):
        return []
    found: list[tuple[int, int]] = []
    opened: list[int | None] = []  # per brace that is open: where its box's content starts
    innermost = 0  # a box that closes around another one starts before this
    for token in _BOX_OR_BRACE.finditer(text, max(0, len(text) - _MAX_CHARS)):
        if token["box"]:
            if token["open"]:
                opened.append(token.end())
            elif token["bare"]:
                found.append(token.span("bare"))
                innermost = token.end()
        elif token.group() == "{":
            opened.append(None)
        elif token.group() == "}" and opened:
            start = opened.pop()
            if start is not None and start >= innermost:
                found.append((start, token.start()))
                innermost = token.end()
    return found


def after_cue(text: str) -> str | None:
    """The answer that the last "the answer is", "정답은", "la respuesta es" ... announces; None where there is none."""
    found = find_after_cue(text)
    return found.text if found else None


def find_after_cue(text: str) -> Found | None:
    """As `after_cue`, with the rest of the reply."""
    last = None
    for cue in _CUE.finditer(text):
        last = cue
    if last is None:
        return None
    before = _CLAUSE_END.split(text[max(0, last.start() - _MAX_CLAUSE) : last.start()])[-1]
    start = _DRESS.match(text, last.end()).end()  # type: ignore[union-attr]  # it matches the empty string
    answer_end = _answer_end(text, start)
    answer = trim(text[start:answer_end])
    return Found(answer, text[answer_end:], before) if answer else None


def trim(text: str) -> str:
    """Without the marks and the Korean verb around an answer: "**5개입니다.**" gives "5개"."""
    text = text.lstrip(_BEFORE).rstrip(_BEHIND)
    return _PREDICATE.sub("", text).rstrip(_BEHIND)


def _answer_end(text: str, start: int) -> int:
    """The end of the sentence or line, but not within a formula that the answer starts with."""
    limit = min(len(text), start + _MAX_CUE_ANSWER)
    after_formula = start
    for opening, closing in _FORMULAS:
        if text.startswith(opening, start):
            close = text.find(closing, start + len(opening), limit)
            after_formula = close + len(closing) if close >= 0 else start
            break
    stop = _STOP.search(text, after_formula, limit)
    return stop.start() if stop else limit
