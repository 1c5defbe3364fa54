"""Where a reply states its answer: in its boxes, behind a phrase or a heading that announces it. All of it is linear.

Mathematics and multiple choice read the same tables; what the statement says is each one's own matter.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # an escaped character is skipped whole, so \{ and \} do not count
_BOX_OR_BRACE = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox|framebox)(?![A-Za-z])\s*(?P<open>\{)?(?P<bare>(?(open)|[^\s{}$\\]{1,100}))?)|\\.|[{}]",
    re.DOTALL,
)


class Cues:
    """Phrases that announce an answer; each is looked for only in a text that has one of its words."""

    def __init__(self, rows: Sequence[str], last_rows: Sequence[str] = ()) -> None:
        """
        Args:
            rows: patterns, each behind its words in small letters and "::"; all that it matches has one of them.
            last_rows: those that only the last words of a reply match; they come before the others.
        """
        self._num_last = len(last_rows)
        self._patterns = list[re.Pattern[str]]()
        self._rows: dict[str, list[int]] = {}
        for index, row in enumerate((*last_rows, *rows)):
            words, _, pattern = row.partition("::")
            self._patterns.append(re.compile(pattern, re.IGNORECASE))
            for word in words.split("|"):
                self._rows.setdefault(word, []).append(index)
        self._ascii_rows = {word: rows for word, rows in self._rows.items() if word.isascii()}

    def find(self, text: str) -> Iterator[re.Match[str]]:
        """The phrases in their order; of those that overlap, the one that starts first, then that of the first row."""
        folded, last = text.casefold(), max(0, len(text) - _MAX_LAST)
        by_word = self._ascii_rows if text.isascii() else self._rows
        rows = {row for word, rows in by_word.items() if word in folded for row in rows}
        found = [
            (phrase.start(), row, phrase)
            for row in rows
            for phrase in self._patterns[row].finditer(text, last if row < self._num_last else 0)
        ]
        end = 0
        for start, _, phrase in sorted(found, key=itemgetter(0, 1)):
            if start >= end:
                end = phrase.end()
                yield phrase


_MARK = r"[\"'*_)]{0,4}\s{0,2}(?:[:：=\]】]|[-–—](?=\s)|-{1,2}>|→|⇒|\\(?:to|[Rr]ightarrow)(?![a-z]))"
_ANSWER = (  # by language: the word, and the verb or the mark that follows it. The last one in the reply counts.
    r"ans::ans(?:wer|(?<![A-Za-z]ans)\.?)(?:\s{0,2}(?:is|was|becomes|would\sbe|=)(?:\s(?:thus|therefore|then|simply|just|clearly|as\sfollows))?(?![A-Za-z])|\s(?:to|of|for)\s[^.\n]{1,80}\sis(?![A-Za-z])|MARK)",
    r"답::(?:정답|해답|답안|답변|(?<!오)답)(?:(?:\s{0,2}(?:은|는|이(?!\s?[됩된되]))(?:\s다음과\s같(?:습니다|다)\.?)?|[)>〉》](?=\s))(?=[\s:*$\\(\[\d①-⑳A-Za-z'\"‘“-])|MARK)",
    r"respuesta::respuesta(?:\s(?:final|correcta))?(?:\s(?:es|ser[íi]a)(?![A-Za-zÀ-ÿ])|MARK)",
    r"答案::答案(?:\s?(?:就是|应为|應為|应选|應選|是|为|為|选|選)|MARK)",
    r"答え|正解|解答::(?:答え|正解|解答)(?:は|MARK)",
    r"réponse::réponse(?:\s(?:finale|correcte))?(?:\sest(?![A-Za-zÀ-ÿ])|MARK)",
    r"antwort::Antwort(?:\s(?:ist|lautet)(?![A-Za-zÀ-ÿ])|MARK)",
    r"resposta::resposta(?:\s(?:final|correta))?(?:\sé(?![A-Za-zÀ-ÿ])|MARK)",
    r"risposta::risposta(?:\s(?:finale|corretta))?(?:\sè(?![A-Za-zÀ-ÿ])|MARK)",
    r"ответ::Ответ(?:\s(?:равен|это)(?!\w)|MARK)",
    r"جابة|جواب::(?:(?:ال)?[إا]جابة|(?:ال)?جواب)(?:\s(?:النهائية|الصحيحة|النهائي|الصحيح))?(?:\s(?:هي|هو)(?!\w)|MARK)",
    r"उत्तर|जवाब::(?:उत्तर|जवाब)(?:\s(?:है|होगा)?(?=\s?[\d$\\(A-Z])|MARK)",
)
CUE_ROWS = (
    *(row.replace("MARK", _MARK) for row in _ANSWER),
    r"choice|option::(?<![A-Za-z])(?:correct|right)\s(?:choice|option)\s(?:is|would\sbe)(?![A-Za-z])",
    r"er>|result::<(?:final_?)?answer>|\"(?:final_?)?result\"\s?:",
    r"final|required::(?:final|required)\s(?:result|value|total)\s?(?:is(?![A-Za-z])|[:=])",
    # a line of the word and a short value: "Answer C", "정답 ③"
    r"ans|답::(?:^|\n)[\s*#>]{0,6}(?:final\s|최종\s?)?(?:answer|ans\.?|정답|답)\s(?=[(\[*$]{0,3}(?:[A-Z]|\d{1,9}|[①-⑳])(?:번|[.)\]*$\s]{0,5}(?:\n|$)))",
)
CUES = Cues(CUE_ROWS)
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
_MAX_LAST = 200  # characters: the last words of a reply
_MAX_SECTION = 400  # characters below a heading that may be an answer

# What is no part of a reply's own text: further turns, tags, marks.
_ODD = "<~[\n"
_HEAD = re.compile(  # of the reply's own turn
    r"(?:\s*(?:<bos>|<\|begin_of_text\|>|<s>(?![^<]*</s>\s*\S)"
    r"|(?:<start_of_turn>|<\|[a-z_]{2,20}\|>|\[\|)(?:assistant|model)(?:\n|<\|end_header_id\|>|\|\])))*"
)
_TURN = re.compile(
    r"<\|[a-z_]{2,20}\|>|\[\|(?:endofturn|user|assistant|system)\|\]|\[/?INST\]|<(?:start|end)_of_turn>|<eos>"
)
_STATED = re.compile(
    r"\\boxed\s*\{|(?:\A|\n)(?:####|A:)\s|\A\W{0,9}(?:\d[\d.,]*|[A-Z])[^\w\n]{0,9}(?=\n)"
    r"|\A\W{0,9}[A-Z][.)]\s[^\n]{1,200}(?=\n\s*(?:question|Q|질문|문제)\b)",
    re.IGNORECASE,
)
_VALUE = re.compile(  # behind a cue; no "I'll work out the answer: step by step"
    r"[^\n.]{0,60}\d|[^\w\n]{0,12}[$\\]|\W{0,12}(?:[^\Wa-z]|\w+(?:\s\w+)?\W{0,3}(?:\n|\Z))"
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
_MAY_END = re.compile("[Q□\\\\\U0001f300-\U0001faff]")
_END_MARKS = re.compile(
    r"(?<=[A-Z\d.!)*])\s?[\U0001f300-\U0001faff]{1,5}(?=\s{0,9}(?:\n|$))|\s?(?:\$?\\(?:blacksquare|square|Box|qed|checkmark)\$?|\bQ\.?E\.?D\.?|□)(?=\s{0,9}(?:\n|$))"
)
_CIRCLED = {start + n: 0x2460 + n for start in (0x2776, 0x2780, 0x278A) for n in range(10)}  # ❸, ➂, ➌ as ③
_WIDE = _CIRCLED | {
    0xFEE0 + code: code for code in (*range(48, 58), *range(65, 91), *range(97, 123), *map(ord, "()[]:=#*"))
}
_WIDE_CHARS = re.compile(f"[{''.join(map(chr, _WIDE))}]+")


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
    if reply.isascii() and not any(mark in reply for mark in _ODD) and ("\\" not in reply or r"\boxed" in reply):
        return reply
    if "<" in reply or "[" in reply:
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
        reply = _WIDE_CHARS.sub(lambda wide: wide[0].translate(_WIDE), _MARKS.sub("", reply))
    return reply if r"\boxed" in reply or not _MAY_END.search(reply) else _END_MARKS.sub("", reply)


def _own_problem(reply: str) -> str:
    """A reply up to the next problem of a continued prompt: one that follows a stated answer."""
    problems = [problem.start() for problem in _NEXT.finditer(reply)]
    if not problems:
        return reply
    cues = (cue.end() for cue in CUES.find(reply) if _VALUE.match(reply, cue.end()))
    stated = [end for end in (next(cues, None), *(found.end() for found in [_STATED.search(reply)] if found)) if end]
    return reply[: next((start for start in problems if stated and start >= min(stated) - 1), len(reply))]


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
    starts = [start for start in map(text.find, _BOX_COMMANDS) if start >= 0]
    if not starts:
        return []
    found: list[tuple[int, int]] = []
    opened: list[int | None] = []  # per brace that is open: where its box's content starts
    innermost = 0  # a box that closes around another one starts before this
    for token in _BOX_OR_BRACE.finditer(text, max(min(starts), len(text) - _MAX_CHARS)):
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
    for phrase_start, start in announcements(text, most=1):
        before = CLAUSE_END.split(text[max(0, phrase_start - _MAX_CLAUSE) : phrase_start])[-1]
        end = _answer_end(text, start)
        found = Found(trim(text[start:end]), text[end:], before, phrase_start, start)
        return found if found.text else None
    return None


def announcements(text: str, cues: Cues = CUES, most: int = 16) -> list[tuple[int, int]]:
    """Where the last phrases that announce an answer start, and where their answers do; the last one first."""
    found = deque(cues.find(text), maxlen=most)
    return [(phrase.start(), _DRESS.match(text, phrase.end()).end()) for phrase in reversed(found)]  # type: ignore[union-attr]  # it matches the empty string


def section(text: str) -> Found | None:
    """What stands below the last heading that names the answer ("### Final Answer"), where that is short."""
    if "\n" not in text:
        return None
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
