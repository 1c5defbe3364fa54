"""Where the final answer of a reply stands, and what of it may be compared."""

import re
from dataclasses import dataclass

from open_exaone.verify.choice_words import SUPPOSED
from open_exaone.verify.extract import Found, box_spans, clean, find_after_cue, section, trim
from open_exaone.verify.math.values import FORMULA, WORD, distil, plain

MAX_CHARS = 2000  # of an answer; a longer one is compared as text alone
_MAX_TAIL = 20_000  # characters at the end of a reply in which an answer without a box is looked for
_MAX_BOXES = 50  # that are one answer
_MAX_BARE_CHARS = 200  # of a reply with words in it that is its own answer
_MAX_AFTER_CUE = 400  # characters that may follow "the answer is 5" and leave it the final answer
_MAX_BARE_WORDS = 3  # of a reply without numbers or formulas that is its own answer
_MIN_FINAL = 8  # characters behind a box, that may be another final answer
_MAX_BETWEEN = 80  # characters between two boxes that are one answer

_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])")
_DRESS = re.compile(r"\\[()\[\]]|\\[,;:! ]|\\q?quad|\$|\*\*|[\s,;.}]|\{(?=\})|\\(?:text|mbox)\s*\{")
_JOINT = re.compile(
    r"(?:and|or|y|o|및|또는|그리고|와|과|이고)?"  # one connective, and what the next box is the value of
    r"(?:[A-Za-z](?:_\{?\w{1,3}\}?)?(?:\([a-z]\))?[=:])?"
)
_FINAL = re.compile(r"final[\s_]{1,3}answer|정답|respuesta\sfinal|최종", re.IGNORECASE)
_LAST_LINE = re.compile(r"(?:^|\n)\s*(?:####|A:|A：|=>|⇒|→|∴)\s*([^\n]{1,200}?)\s*$")
_OPENERS = (  # of a last sentence that states the result, by language
    "so|thus|therefore|hence|consequently|accordingly|as a result|in conclusion|finally|in total|altogether|overall"
    "|in all|in the end|in summary|to conclude",
    "따라서|그러므로|결국|즉|결론적으로|그래서|고로",
    "por lo tanto|por tanto|así|entonces|en total|en conclusión",
    "因此|所以|综上所述|综上|故|即|因而|よって|したがって|ゆえに",
    "donc|ainsi|par conséquent|finalement|au total|also|daher|somit|folglich|portanto|logo|quindi"
    "|следовательно|таким образом|итак|значит",
    "إذن|إذًا|لذلك|لذا|وبالتالي|इसलिए|अतः|अत:",
)
_CONCLUSION = re.compile(
    rf"(?:^|(?<=[.!?。।$)\]}}])\s{{1,4}}|(?<=。)|(?<=\w)\s(?=(?-i:Therefore|Thus|Hence))|\n)[^\w\n]{{0,6}}(?:{'|'.join(_OPENERS)})(?![a-z])",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?]\s+\S|[。।]\s*\S|\n\s*\S")
_FULL_STOPS = (".", "!", "。", "।", ".**", ".$", r".\]", r".\)")
_CHOICE = re.compile(r"\s*\(?([A-J])[.):](?:\s|$)")
_PLEASANTRY = re.compile(r"\s*I hope (?:it|this)[^.!?]{0,40}[.!?]*\s*$|\s*<\|[a-z_]+\|>.*$", re.IGNORECASE | re.DOTALL)
_DISPLAY_BREAK = re.compile(  # around and before a formula on lines of its own
    r"(?<=\\\[)\s{1,9}|\s{1,9}(?=\\\])|(?<=\$\$)\s{1,9}(?=[^$]*\$\$\s*$)|\s{1,9}(?=\$\$\s*$)"
    r"|(?<=\s(?:is|to|be))\s{0,3}:?\n\s{0,9}(?=\$\$|\\\[)|(?<=\s(?:are|get))\s{0,3}:?\n\s{0,9}(?=\$\$|\\\[)"
)
_ANNOUNCING = re.compile(
    r"(?:\b(?:is|are|was|be|it's|that|equals?|get|gives?|obtain|answer|solution|es|son)\b|[:：=은는]|답|결과)\W{0,3}(?:(?:therefore|thus|then|now|just|only|about|exactly)\s\W{0,3})?$",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"(?!\W{0,3}(?:and|or|but|so|which|plus|times|minus|by)\b)[^\w,<>=+*/(\\-]{0,3}\w{0,12}[^\w,<>=+*/(\\-]{0,3}"
)  # that may follow the number in a short reply
_TAKEN_BACK = re.compile(  # in what follows an answer
    r"\?|.{0,200}?(?:\bwait\b|\bno,|(?:that|this|it)(?:['’]s|\sis|\swas)\s(?:wrong|incorrect|false|not\s(?:right|correct))\b"
    r"|(?<![가-힣])(?:잠깐|아니,))",
    re.IGNORECASE | re.DOTALL,
)
_INSTEAD_OF = re.compile(r",\s(?:(?:and\s)?(?:not|rather\sthan|instead\sof)\s|i\.e\b|즉\s)")
_ALTERNATIVES = re.compile(rf"(?:{FORMULA.pattern})(?:\s(?:or|또는)\s(?:{FORMULA.pattern}))*", re.DOTALL)
_GIVES_UP = re.compile(r"모르|풀 수 없|조건이 부족|\b(?:sorry|no idea|not sure|(?:do not|don.t) know)\b", re.IGNORECASE)
_CONFIDENCE = re.compile(r"\n\s*\**confidence\**\s?:[^\n]*$", re.IGNORECASE)
_IS_ANSWER = re.compile(
    r"(?P<answer>[^\n]{1,200}?)\s(?:is|are)\s(?:the|my)\s(?:(?:final|correct)\s)?(?:answer|result|solution(?:\sset)?)\W*",
    re.IGNORECASE,
)
_NOT_STATED = re.compile(  # before a cue in its clause: the answer is supposed, denied or doubted
    rf"{SUPPOSED.pattern}|\b(?:not|doubt|incorrect|wrong)\b[^,]{{0,20}}$|n['’]t\b[^,]{{0,20}}$|틀린\s*$",
    re.IGNORECASE,
)
_IN_BRACKETS = re.compile(r"\s\([^()]{1,80}\)(?=[\s.*]*$)")
_SUPPOSED = re.compile(r"\b(?:if|maybe|perhaps|suppose|assume|try|guess|might|could)\b|만약", re.IGNORECASE)
_UNSETTLED = re.compile(  # in a last line: it is no result yet
    rf"{_SUPPOSED.pattern}|\b(?:not|let|next|now|then|step|wrong|should|would)\b|n['’]t|아니", re.IGNORECASE
)
_CLOSING = re.compile(  # a last line that may state the result: finished, or "Total cost: ...", and no item of a list
    r"(?!\s*(?:[-+•]|\*\s|\d{1,2}[.)])\s)(?:.*[.!。।](?:\*\*|\$|\\[\])])?\s*$|\W{0,6}(?:[\w'’]+\s){0,4}[\w'’]+\W{0,3}\s?[:：=].*|[^A-Za-z]*$|\W*[A-Za-z]?\W*=|\W*\\[a-z])"
)
_LAST_VALUE = re.compile(  # a last line that is a value: "7", "= $7", "**x = 7**", "\\[ 7 \\]"
    r"[*_`>\s]{0,6}(?:\$\$?|\\\(|\\\[)?\s*(?:\\?[A-Za-z]\w{0,8}(?:_\{?\w{1,3}\}?|\([^()=]{1,9}\))?\s*=|=)?"
    r"\s*-?\s*(?=[^=]{0,80}\d)(?:[^\w=<>+*/-]|/(?=\d)|\\(?!cdot|times|div)[a-z]+|\d|π){1,60}[a-zA-Z]{0,3}(?:/[a-z]{1,3}\^?[23²³]?)?\W{0,4}"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer as found, and what of it may be meant, most literal first."""

    text: str
    readings: tuple[str, ...]


def answer(reply: str) -> Answer | None:
    """The final answer of a reply: its last boxes, what it announces, what it concludes, or all of a short reply.

    None where there is no final answer: a reply that trails off is not searched for numbers.
    """
    reply = clean(reply)
    spans = box_spans(reply)
    if _BOXED.search(reply, spans[-1][1] if spans else 0):
        return None  # the last box was never closed
    if spans:
        rest = reply[spans[-1][1] :][-_MAX_TAIL:]
        announced = _announced_finally(rest) if len(rest) > _MIN_FINAL else None
        return announced or _whole(join_boxes(reply, spans))
    tail = reply[-_MAX_TAIL:]
    stated = find_after_cue(tail)
    if stated and (_NOT_STATED.search(stated.before) or _TAKEN_BACK.match(stated.rest)):
        return None
    below = section(tail)
    if below and (stated is None or below.end > stated.end):
        found = _concluded(below.text) or _bare(below.text) or _only_line(below.text)
        if found:
            return found
    return _announced(tail, stated) or _concluded(tail) or _bare(tail)


def gold(text: str) -> Answer:
    """What a gold text says: its boxes, what it announces, or all of it."""
    spans = box_spans(text)
    if spans:
        return _whole(join_boxes(text, spans))
    if box := _BOXED.search(text):
        return _whole(text[box.end() :].lstrip(" {"))
    cue = find_after_cue(text[-_MAX_TAIL:])
    if cue:
        return Answer(cue.text, distil(cue.text))
    last = _LAST_LINE.search(text[-300:])
    return _whole(last[1] if last else text.strip())


def join_boxes(reply: str, spans: list[tuple[int, int]]) -> str:
    """The last box, with those before it that are parts of the same answer: `\\boxed{2} and \\boxed{3}`."""
    texts = [reply[slice(*spans[-1])].strip()]
    for before, after in zip(spans[-2:-_MAX_BOXES:-1], reversed(spans), strict=False):
        between = reply[before[1] : max(before[1], after[0])]
        if len(between) > _MAX_BETWEEN or not _is_joint(_BOXED.sub("", between)):
            break
        text = reply[slice(*before)].strip()
        if text not in texts:
            texts.append(text)
    return ", ".join(reversed(texts))


def _whole(text: str) -> Answer:
    return Answer(text, (text,))


def _is_joint(between: str) -> bool:
    return _JOINT.fullmatch(_DRESS.sub("", between).replace("{", "")) is not None


def _announced_finally(rest: str) -> Answer | None:
    """A "final answer" behind the last box."""
    found = find_after_cue(rest)
    if found is None or not _is_final(rest, found) or not any(map(str.isdigit, found.text)):
        return None
    return Answer(found.text, distil(found.text))


def _announced(reply: str, found: Found | None) -> Answer | None:
    if found and (_is_final(reply, found) or len(found.rest.strip()) <= _MAX_AFTER_CUE):
        text = _INSTEAD_OF.split(found.text, maxsplit=1)[0]
        return Answer(text, distil(text))
    last = _LAST_LINE.search(reply[-300:])
    return Answer(last[1], distil(last[1])) if last else None


def _is_final(reply: str, found: Found) -> bool:
    start = len(reply) - len(found.rest) - len(found.text)
    return _FINAL.search(reply, max(0, start - 60), max(0, start)) is not None


def _concluded(reply: str) -> Answer | None:
    """A last sentence that begins with "therefore" or its like, and is finished or ends with a value."""
    text = _PLEASANTRY.sub("", _DISPLAY_BREAK.sub(" ", reply[-2000:].strip()))
    start = None
    for conclusion in _CONCLUSION.finditer(text):
        start = conclusion.end()
    if start is None or _SENTENCE_END.search(text, start):
        return None
    stated = trim(text[start:])
    readings = distil(stated)
    if not text.endswith(_FULL_STOPS) and readings[-1] != stated and not _is_announced(text, readings[-1]):
        return None
    return (
        Answer(readings[-1], readings[-1:])
        if len(readings) > 1 or _LAST_VALUE.fullmatch(stated) or _ALTERNATIVES.fullmatch(stated)
        else None
    )


def _bare(reply: str) -> Answer | None:
    """A reply that is little but its answer, or a last line that states one."""
    if choice := _CHOICE.match(reply):
        return _whole(choice[1])
    is_whole = len(reply) <= MAX_CHARS
    text = _CONFIDENCE.sub("", _DISPLAY_BREAK.sub(" ", reply[-MAX_CHARS:].strip()))
    if is_whole and (named := _IS_ANSWER.fullmatch(text)):
        return _whole(trim(named["answer"]))
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or len(lines[-1]) > MAX_CHARS // 2 or text.endswith("?"):
        return None
    readings = distil(trim(lines[-1]))
    if is_whole and len(lines) <= 2 and len(readings) == 1:
        if _GIVES_UP.search(text):
            return None
        if FORMULA.search(lines[-1]) or len(WORD.findall(text)) <= _MAX_BARE_WORDS:
            return Answer(readings[0], readings)
    is_short = is_whole and len(lines) <= 2 and len(text) <= _MAX_BARE_CHARS
    if is_short and _SUPPOSED.search(lines[-1]):
        return None
    if not is_short and (
        len(lines[-1]) > _MAX_BARE_CHARS or not _CLOSING.match(lines[-1]) or _UNSETTLED.search(lines[-1])
    ):
        return None
    if len(readings) == 1:
        is_last = _LAST_VALUE.fullmatch(lines[-1].strip()) and not (
            lines[1:] and _LAST_VALUE.fullmatch(lines[-2].strip())
        )
        return Answer(readings[0], (readings[0].lstrip("= "),)) if is_last else None
    return Answer(readings[-1], readings) if _is_announced(lines[-1], readings[-1]) else None


def _only_line(text: str) -> Answer | None:
    """The result of the one finished sentence below a heading."""
    value = distil(trim(text))[1:] if text.endswith(_FULL_STOPS) and not _UNSETTLED.search(text) else ()
    return Answer(value[0], value) if value and "\n" not in text else None


def _is_announced(line: str, reading: str) -> bool:
    """Whether a reading ends its line, but for a unit, and something like "is" or ":" stands before it."""
    line = _IN_BRACKETS.sub("", plain(line))
    start = line.rfind(reading)
    if start < 0:
        return False
    is_announced = start == 0 or _ANNOUNCING.search(line[max(0, start - 40) : start]) is not None
    return is_announced and _UNIT.fullmatch(line[start + len(reading) :]) is not None
