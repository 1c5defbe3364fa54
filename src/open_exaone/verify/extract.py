"""Where a reply states its answer: in its boxes, behind a phrase or a heading that announces it. All of it is linear.

Mathematics and multiple choice read the same tables; what the statement says is each one's own matter.
"""

import re
from collections import deque
from dataclasses import dataclass

_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped character is skipped whole, so \{ and \} do not count
_BOX_OR_BRACE = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox|framebox)(?![A-Za-z])\s*(?P<open>\{)?(?P<bare>(?(open)|[^\s{}$\\]{1,100}))?)|\\.|[{}]",
    re.DOTALL,
)

# What announces an answer, by language: the words for "answer", and the verb that may follow them. The last one in
# the reply counts, and of two that overlap, the one that ends last.
ANSWER_WORDS = {
    "en": (
        r"(?:answer|(?<![A-Za-z])ans\.?)",
        r"\s{0,2}(?:is|was|becomes|would\sbe|=)(?:\s(?:thus|therefore|then|simply|just|clearly|as\sfollows))?(?![A-Za-z])",
    ),
    "ko": (
        r"(?:정답|해답|답안|답변|(?<!오)답)",
        r"(?:\s{0,2}(?:은|는|이(?!\s?[됩된되]))(?:\s다음과\s같(?:습니다|다)\.?)?|[)>〉》](?=\s))(?=[\s:*$\\(\[\d①-⑳A-Za-z'\"‘“-])",
    ),
    "es": (r"(?:respuesta(?:\s(?:final|correcta))?)", r"\s(?:es|ser[íi]a)(?![A-Za-zÀ-ÿ])"),
    "zh": (r"(?:答案)", r"\s?(?:就是|应为|應為|应选|應選|是|为|為|选|選)"),
    "ja": (r"(?:答え|正解|解答)", "は"),
    "fr": (r"(?:réponse(?:\s(?:finale|correcte))?)", r"\sest(?![A-Za-zÀ-ÿ])"),
    "de": (r"(?:Antwort)", r"\s(?:ist|lautet)(?![A-Za-zÀ-ÿ])"),
    "pt": (r"(?:resposta(?:\s(?:final|correta))?)", r"\sé(?![A-Za-zÀ-ÿ])"),
    "it": (r"(?:risposta(?:\s(?:finale|corretta))?)", r"\sè(?![A-Za-zÀ-ÿ])"),
    "ru": (r"(?:Ответ)", r"\s(?:равен|это)(?!\w)"),
    "ar": (r"(?:(?:ال)?[إا]جابة|(?:ال)?جواب)(?:\s(?:النهائية|الصحيحة|النهائي|الصحيح))?", r"\s(?:هي|هو)(?!\w)"),
    "hi": (r"(?:उत्तर|जवाब)", r"\s(?:है|होगा)?(?=\s?[\d$\\(A-Z])"),
}
_MARK = r"[\"'*_)]{0,4}\s{0,2}(?:[:：=\]】]|[-–—](?=\s)|-{1,2}>|→|⇒|\\(?:to|[Rr]ightarrow)(?![a-z]))"
CUES = (
    *(f"{word}(?:{verb}|{_MARK})" for word, verb in ANSWER_WORDS.values()),
    r"(?<![A-Za-z])(?:correct|right)\s(?:choice|option)\s(?:is|would\sbe)(?![A-Za-z])",
    r"<(?:final_?)?answer>|\"(?:final_?)?result\"\s?:",
    r"answer\s(?:to|of|for)\s[^.\n]{1,80}\sis(?![A-Za-z])",
    r"(?:final|required)\s(?:result|value|total)\s?(?:is(?![A-Za-z])|[:=])",
    # a line of the word and a short value: "Answer C", "정답 ③"
    r"(?:^|\n)[\s*#>]{0,6}(?:final\s|최종\s?)?(?:answer|ans\.?|정답|답)\s(?=[(\[*$]{0,3}(?:[A-Z]|\d{1,9}|[①-⑳])(?:번|[.)\]*$\s]{0,5}(?:\n|$)))",
)
CUE = re.compile("|".join(f"(?:{cue})" for cue in CUES), re.IGNORECASE)
_HEADING = re.compile(  # a line that names the answer, which stands on the next one
    r"(?:^|\n)[^\w\n]{0,12}(?:(?:the|my|our|final|correct|최종)\s?)*(?:answer|result|conclusion|total|정답|해답|답변|답안|답|결론"
    r"|respuesta(?:\sfinal)?|réponse(?:\sfinale)?|antwort|答案|答え)[^\w\n]{0,8}\n\s*(?=\S)",
    re.IGNORECASE,
)
_DRESS = re.compile(
    r"(?:\n\s{0,9}[-•]\s(?![^\n]*\n\s{0,9}[-•]\s)|[\s:：*_`\"“”'‘’,→⇒]|(?<=[\n-])>|\\(?=\"))*"
)  # what may stand between a cue and its answer
_FORMULAS = (("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"))
_STOP = re.compile(  # a sentence's or a line's end
    r"\n|(?<![\s.])[.?]+(?=[\s*\"'”’)]|$)|(?<![\s\d)!])!+(?=\s|$)|[。।]|</|\"\s?[,}]"
)
_PREDICATE = re.compile(r"(?:입니다|이에요|예요|이다|이며|임|이 된다|이 됩니다|가 된다|가 됩니다|이므로|です|है)$")
_BEFORE = " \t\r\n*_`\"“”'‘’。,;:!।"
_BEHIND = _BEFORE + ".\\"
_BOX_COMMANDS = (r"\boxed", r"\fbox", r"\framebox")
_MAX_CHARS = 1_000_000  # at the end of a text, that are searched for boxes
CLAUSE_END = re.compile(r"[.;:!?\n。]")
_MAX_CLAUSE = 80  # characters before a cue that are looked at
_MAX_CUE_ANSWER = 2000  # characters; what goes on for longer is no short answer
_MAX_SECTION = 400  # characters below a heading that may be an answer

# What is no part of a reply's own text: further turns, tags, marks.
_ODD = re.compile(r"[<~\n[]|[^\x00-\x7f]")
_HEAD = re.compile(  # of the reply's own turn
    r"(?:\s*(?:<bos>|<\|begin_of_text\|>|<s>(?![^<]*</s>\s*\S)"
    r"|(?:<start_of_turn>|<\|[a-z_]{2,20}\|>|\[\|)(?:assistant|model)(?:\n|<\|end_header_id\|>|\|\])))*"
)
_TURN = re.compile(
    r"<\|[a-z_]{2,20}\|>|\[\|(?:endofturn|user|assistant|system)\|\]|\[/?INST\]|<(?:start|end)_of_turn>|<eos>"
)
_STATED = re.compile(
    r"\\boxed\s*\{|(?:\A|\n)(?:####|A:)\s|\A\W{0,9}(?:\d[\d.,]*|[A-Z])[^\w\n]{0,9}(?=\n)"
    rf"|\A\W{{0,9}}[A-Z][.)]\s[^\n]{{1,200}}(?=\n\s*(?:question|Q|질문|문제)\b)"
    # no "I'll work out the answer: step by step"
    rf"|(?:{CUE.pattern})(?-i:(?=[^\n.]{{0,60}}\d|[^\w\n]{{0,12}}[$\\]|\W{{0,12}}(?:[^\Wa-z]|\w+(?:\s\w+)?\W{{0,3}}(?:\n|\Z))))",
    re.IGNORECASE,
)
_NEXT = re.compile(  # after an answer: the next problem of a continued prompt
    r"\n[\s#*>-]{0,8}(?:(?:next|new|another)\s)?(?:question|problem|exercise|human|user|Q|질문|문제|问题|题目|問題)"
    r"\s?#?\d{0,3}[\s*]{0,3}[:：.]"
    r"|\n\s{0,3}(?:#{1,6}\s|\*\*)[\s*]{0,3}(?:question|problem|exercise|instruction|질문|문제)\s?#?\d{0,3}[\s*]{0,3}:?\n",
    re.IGNORECASE,
)
_LONE = re.compile(  # a letter, then a further question with its options: what a few-shot prompt of choice runs on with
    r"(\A\W{0,9}[A-Z]\W{0,9})\n(?s:.){1,2000}?\n\W{0,3}A[.):]\s[^\n]{1,500}\n\W{0,3}B[.):]\s(?s:.){1,4000}?\n(?:Answer|정답|답)\s?:"
)
_TAGS = r"b|i|u|s|p|em|strong|mark|span|div|font|center|code|sup|small|big|h\d|td|tr|li|ul|final_?answer"
_STRUCK = re.compile(r"~~[^~\n]{1,200}~~|<(s|del|strike)>[^<\n]{0,200}</\1>")
_TAG = re.compile(rf"</?(?:{_TAGS})(?:\s[\w-]{{1,30}}=[^<>\n]{{0,200}})?\s?/?>", re.IGNORECASE)
_BREAK = re.compile(r"<br\s?/?>", re.IGNORECASE)
_MARKS = re.compile(r"[✅✔☑✓🎉🎯🏁👉📌💡∎■◼\ufe0f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\u00ad]+")
_END_MARKS = re.compile(
    r"(?<=[A-Z\d.!)*])\s?[\U0001f300-\U0001faff]{1,5}(?=\s{0,9}(?:\n|$))|\s?(?:\$?\\(?:blacksquare|square|Box|qed|checkmark)\$?|\bQ\.?E\.?D\.?|□)(?=\s{0,9}(?:\n|$))"
)
_CIRCLED = {start + n: 0x2460 + n for start in (0x2776, 0x2780, 0x278A) for n in range(10)}  # ❸, ➂, ➌ as ③
_WIDE = _CIRCLED | {
    0xFEE0 + code: code for code in (*range(48, 58), *range(65, 91), *range(97, 123), *map(ord, "()[]:=#*"))
}


@dataclass(frozen=True, slots=True)
class Found:
    """A piece of a reply that states an answer, and what the reply says around it."""

    text: str
    rest: str
    before: str = ""  # what of its clause stands before the phrase that announces it
    start: int = 0  # where that phrase starts,
    end: int = 0  # and where the answer does


def clean(reply: str) -> str:
    """A reply's own text: up to the next turn or problem, without tags, struck words, closing marks, wide letters."""
    if not _ODD.search(reply) and ("\\" not in reply or r"\boxed" in reply):
        return reply
    reply = _HEAD.sub("", reply, count=1)
    turn = _TURN.search(reply)
    if turn and reply[: turn.start()].strip():
        reply = reply[: turn.start()]
    if "\n" in reply:
        reply = _own_problem(reply)
    if "\n" in reply and (lone := _LONE.match(reply)):
        reply = lone[1]
    if "~~" in reply or "</" in reply:
        reply = _TAG.sub("", _STRUCK.sub("", reply))
    if "<" in reply:
        reply = _BREAK.sub("\n", reply).replace("</s>", "")
    if not reply.isascii():
        reply = _MARKS.sub("", reply).translate(_WIDE)
    return reply if r"\boxed" in reply else _END_MARKS.sub("", reply)


def _own_problem(reply: str) -> str:
    """A reply up to the next problem of a continued prompt: one that follows a stated answer."""
    problems = [problem.start() for problem in _NEXT.finditer(reply)]
    stated = _STATED.search(reply) if problems else None
    return reply[: next((start for start in problems if stated and start >= stated.end() - 1), len(reply))]


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


def find_after_cue(text: str) -> Found | None:
    """What the last "the answer is", "정답은", "la respuesta es" ... announces; None where there is none."""
    return next((found if found.text else None for found in statements(text, most=1)), None)


def statements(text: str, cue: re.Pattern[str] = CUE, most: int = 16) -> list[Found]:
    """What the last phrases that announce an answer announce, the last one first."""
    found = []
    for phrase in reversed(deque(cue.finditer(text), maxlen=most)):
        before = CLAUSE_END.split(text[max(0, phrase.start() - _MAX_CLAUSE) : phrase.start()])[-1]
        start = _DRESS.match(text, phrase.end()).end()  # type: ignore[union-attr]  # it matches the empty string
        end = _answer_end(text, start)
        found.append(Found(trim(text[start:end]), text[end:], before, phrase.start(), start))
    return found


def section(text: str) -> Found | None:
    """What stands below the last heading that names the answer ("### Final Answer"), where that is short."""
    heading = deque(_HEADING.finditer(text, max(0, len(text) - 2 * _MAX_SECTION)), maxlen=1)
    if not heading or len(text) - heading[0].end() > _MAX_SECTION:
        return None
    return Found(text[heading[0].end() :].strip(), "", "", heading[0].start(), heading[0].end())


def trim(text: str) -> str:
    """Without the marks and the verb around an answer: "**5개입니다.**" gives "5개"."""
    text = text.lstrip(_BEFORE).rstrip(_BEHIND)
    text = _PREDICATE.sub("", text).rstrip(_BEHIND)
    return text[:-1].rstrip(_BEHIND) if text.endswith("}") and text.count("}") > text.count("{") else text


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
