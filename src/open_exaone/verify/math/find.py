"""Where the final answer of a reply stands, and what of it may be compared."""

import re
from dataclasses import dataclass

from open_exaone.verify.choice_words import SUPPOSED
from open_exaone.verify.extract import Found, box_spans, find_after_cue, trim

MAX_CHARS = 2000  # of an answer; a longer one is compared as text alone
_MAX_TAIL = 20_000  # characters at the end of a reply in which an answer without a box is looked for
_MAX_BOXES = 50  # that are one answer
_MAX_BARE_CHARS = 200  # of a reply with words in it that is its own answer
_MAX_AFTER_CUE = 400  # characters that may follow "the answer is 5" and leave it the final answer
_MAX_BARE_WORDS = 3  # of a reply without numbers or formulas that is its own answer
_MAX_BETWEEN = 80  # characters between two boxes that are one answer

_TURN = re.compile(r"<\|(?:im_start|im_end|endoftext|eot_id|end_of_text)\|>|\[\|endofturn\|\]")
_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])")
_DRESS = re.compile(r"\\[()\[\]]|\\[,;:! ]|\\q?quad|\$|\*\*|[\s,;.}]|\{(?=\})|\\(?:text|mbox)\s*\{")
_JOINT = re.compile(
    r"(?:and|or|y|o|및|또는|그리고|와|과|이고)?"  # one connective, and what the next box is the value of
    r"(?:[A-Za-z](?:_\{?\w{1,3}\}?)?(?:\([a-z]\))?[=:])?"
)
_FINAL = re.compile(r"final\s{1,3}answer|정답|respuesta\sfinal", re.IGNORECASE)
_LAST_LINE = re.compile(r"(?:^|\n)\s*(?:####|A:|A：|=>|⇒|∴)\s*([^\n]{1,200}?)\s*$")
_CONCLUSION = re.compile(
    r"(?:^|(?<=[.!?。$)\]}])\s{1,4}|\n)\W{0,6}(?:so|thus|therefore|hence|consequently|in conclusion|finally|"
    r"따라서|그러므로|결국|즉|por lo tanto|por tanto|así)(?![a-z])",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?。]\s+\S|\n\s*\S")
_FULL_STOPS = (".", "!", "。", ".**", ".$", r".\]", r".\)")
_CHOICE = re.compile(r"\s*\(?([A-J])[.):](?:\s|$)")
_PLEASANTRY = re.compile(r"\s*I hope (?:it|this)[^.!?]{0,40}[.!?]*\s*$|\s*<\|[a-z_]+\|>.*$", re.IGNORECASE | re.DOTALL)
_FORMULA = re.compile(
    r"(?<!\\)\$\$((?:\\.|[^$\\])+)\$\$|(?<![\\\d])\$((?:\\[^\n]|[^$\n\\])+)\$|\\\(((?:\\(?!\))|[^\\])+)\\\)|\\\[((?:\\(?!\])|[^\\])+)\\\]",
    re.DOTALL,
)
_DISPLAY_BREAK = re.compile(r"(?<=\\\[)\s+|\s+(?=\\\])|(?<=\$\$)\s+|\s+(?=\$\$)")
_NUMBER = re.compile(
    r"(?<![^\s$€£¥₩*=:~≈가-힣])[-−]?(?:\\?[$€£¥₩]\s?)?[-−]?"
    r"(?:[0-9]{1,3}(?:[, ][0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:[.,][0-9]+)?|\.[0-9]+)(?![0-9])(?:\s?[/:]\s?[0-9]+)?"
    r"(?:\s?(?:\\?%|percent|pct|퍼센트|(?:thousand|million|billion|trillion)\b|[백천]?만|억|조|천(?![가-힣])))?(?![^\s\w.,;:!?*%°$€£¥₩\\²³㎡-])",
)
_ANNOUNCING = re.compile(
    r"(?:\b(?:is|are|was|be|it's|that|equals?|get|gives?|obtain|answer|solution|es|son)\b|[:：=은는]|답|결과)\W{0,3}$",
    re.IGNORECASE,
)
_UNIT = re.compile(r"[^\w,<>=+*/(\\-]{0,3}\w{0,12}[^\w,<>=+*/(\\-]{0,3}")  # that may follow the number in a short reply
# Words around a number, that make it no answer. Right before it ...
_BEFORE_OTHER = re.compile(
    r"(?:\b(?:not|cannot|never|neither|nor|at\s(?:least|most)|than(?:\sor\sequal\sto)?|between|twice|thrice|half(?:\sof)?"
    r"|double|triple|times|plus|minus|(?:root|square|cube|multiple|factor|divisor)\sof|close\sto|near|almost|nearly|up\sto"
    r"|under|over|above|below|exceeds?|raised\sto(?:\sthe)?|unless|except|if|when|for|steps?|equation|figure|problem"
    r"|question|table|case|example|section|exercise|no(?!\.)"
    r"|no\ses|mayor\sque|menor\sque|al\smenos|como\smáximo|entre|m[áa]s\sde|menos\sde)|n['’]t|아닌|최소|최대"
    r"|\d[^.,;:]{0,40}\b(?:and|or|to|y|o))"
    r"(?:\s(?:be|equal(?:\sto)?|exactly|just|only|the|a|an))*[\s$*]*(?:\(?[A-Za-z]\s*=\s*)?$",
    re.IGNORECASE,
)
_BEHIND_OTHER = re.compile(  # ... and right behind it
    r"[\s$*,]*(?:[가-힣]{0,2}\s?(?:이상|이하|초과|미만|보다|[은는이가]\s?아[니닌닙]|의\s?[가-힣\d]{0,3}\s?배)"
    r"|(?:or|and)\s(?:more|less|fewer|greater|above|below)\b|(?:times|plus|minus|multiplied|divided|more\sthan|less\sthan"
    r"|to\sthe)\b|(?:is|was|are)\s(?:not|wrong|impossible|incorrect|false|too)\b|isn['’]t|o\sm[áa]s\b|o\smenos\b)",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(  # in what follows an answer
    r"\?|.{0,200}?(?:\bwait\b|\bno,|(?:that|this|it)(?:['’]s|\sis|\swas)\s(?:wrong|incorrect|false|not\s(?:right|correct))\b"
    r"|(?<![가-힣])(?:잠깐|아니,))",
    re.IGNORECASE | re.DOTALL,
)
_INSTEAD_OF = re.compile(r",\s(?:and\s)?(?:not|rather\sthan|instead\sof)\s")
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
_WORD = re.compile(r"(?<![\\A-Za-z{])[^\W\d_]{2,}")
_CONNECTIVE = re.compile(r"(?<![\\A-Za-z])(?:and|or|및|또는|그리고)(?![A-Za-z])")


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer as found, and what of it may be meant, most literal first."""

    text: str
    readings: tuple[str, ...]


def answer(reply: str) -> Answer | None:
    """The final answer of a reply: its last boxes, what it announces, what it concludes, or all of a short reply.

    None where there is no final answer: a reply that trails off is not searched for numbers.
    """
    turn = _TURN.search(reply)
    if turn and reply[: turn.start()].strip():
        reply = reply[: turn.start()]
    spans = box_spans(reply)
    if _BOXED.search(reply, spans[-1][1] if spans else 0):
        return None  # the last box was never closed
    if spans:
        announced = _announced_finally(reply[spans[-1][1] :][-_MAX_TAIL:])
        return announced or _whole(join_boxes(reply, spans))
    tail = reply[-_MAX_TAIL:]
    stated = find_after_cue(tail)
    if stated and (_NOT_STATED.search(stated.before) or _TAKEN_BACK.match(stated.rest)):
        return None
    return _announced(tail) or _concluded(tail) or (_bare(reply) if len(reply) <= MAX_CHARS else None)


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


def distil(text: str) -> tuple[str, ...]:
    """The readings of a phrase: whole, and the last formula or number where there are words around it."""
    formulas = list(_FORMULA.finditer(text))
    outside = _CONNECTIVE.sub(" ", _FORMULA.sub(" ", text))
    if not _WORD.search(outside):
        return (text,)
    if formulas:
        number = _last_number(text[formulas[-1].end() :])
        if not number and _is_other(text, *formulas[-1].span()):
            return (text,)
        if text[: formulas[0].start()].strip() or (number and not any(map(str.isdigit, formulas[0].group()))):
            return text, number or _last_formulas(text, formulas)
        return text, formulas[0].group()
    number = _last_number(text)
    return (text, number) if number else (text,)


def _last_formulas(text: str, formulas: list["re.Match[str]"]) -> str:
    """The last formula, with those before it that are parts of the same answer: "$1$ and $2$"."""
    chosen = [formulas[-1].group()]
    for before, after in zip(reversed(formulas[:-1]), reversed(formulas), strict=False):
        between = _CONNECTIVE.sub(",", text[before.end() : after.start()]).replace(" ", "")
        if not between or between.strip(","):
            break
        chosen.append(before.group())
    return ", ".join(reversed(chosen))


def _last_number(text: str) -> str | None:
    """The last number or, where the phrase begins with one, that."""
    found = None
    for number in _NUMBER.finditer(text):
        if not text[: number.start()].strip(" *"):
            return None if _BEHIND_OTHER.match(text, number.end()) else number.group()
        found = number
    return None if found is None or _is_other(text, *found.span()) else found.group().strip()


def _is_other(text: str, start: int, end: int) -> bool:
    """Whether the words around a number or formula say something else of it than that it is the answer."""
    return bool(_BEFORE_OTHER.search(text[max(0, start - _MAX_BETWEEN) : start]) or _BEHIND_OTHER.match(text, end))


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


def _announced(reply: str) -> Answer | None:
    found = find_after_cue(reply)
    if found and (_is_final(reply, found) or len(found.rest.strip()) <= _MAX_AFTER_CUE):
        text = _INSTEAD_OF.split(found.text, maxsplit=1)[0]
        return Answer(text, distil(text))
    last = _LAST_LINE.search(reply[-300:])
    return Answer(last[1], distil(last[1])) if last else None


def _is_final(reply: str, found: Found) -> bool:
    start = len(reply) - len(found.rest) - len(found.text)
    return _FINAL.search(reply, max(0, start - 60), max(0, start)) is not None


def _concluded(reply: str) -> Answer | None:
    """A last sentence that is finished and begins with "therefore" or its like."""
    text = _PLEASANTRY.sub("", reply[-2000:].rstrip())
    start = None
    for conclusion in _CONCLUSION.finditer(text):
        start = conclusion.end()
    if start is None or not text.endswith(_FULL_STOPS) or _SENTENCE_END.search(text, start):
        return None
    readings = distil(trim(text[start:]))
    return Answer(readings[-1], readings[-1:]) if len(readings) > 1 or _FORMULA.search(readings[0]) else None


def _bare(reply: str) -> Answer | None:
    """A reply that is little but its answer."""
    if choice := _CHOICE.match(reply):
        return _whole(choice[1])
    text = _CONFIDENCE.sub("", _DISPLAY_BREAK.sub(" ", reply.strip()))
    if named := _IS_ANSWER.fullmatch(text):
        return _whole(trim(named["answer"]))
    lines = [line for line in text.split("\n") if line.strip()]
    if not 1 <= len(lines) <= 2:
        return None
    readings = distil(trim(lines[-1]))
    if len(readings) == 1:
        if _GIVES_UP.search(text):
            return None
        is_short = _FORMULA.search(lines[-1]) or len(_WORD.findall(text)) <= _MAX_BARE_WORDS
        return Answer(readings[0], readings) if is_short else None
    if len(text) > _MAX_BARE_CHARS or not _is_announced(lines[-1], readings[-1]):
        return None
    return Answer(readings[-1], readings)


def _is_announced(line: str, reading: str) -> bool:
    """Whether a reading ends its line, but for a unit, and something like "is" or ":" stands before it."""
    start = line.rfind(reading)
    if start < 0:
        return False
    is_announced = start == 0 or _ANNOUNCING.search(line[:start]) is not None
    return is_announced and _UNIT.fullmatch(line[start + len(reading) :]) is not None
