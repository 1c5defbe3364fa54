"""Counting sentences as the official checker's splitter (NLTK's Punkt for English) does, without its data.

Punkt ends a sentence at `.`, `?` or `!` before white space or a closing mark, unless the word before is an
abbreviation, an initial or a number. It learned its abbreviations from newspapers; here they are a short list.
"""

import re
from itertools import zip_longest

from open_exaone.verify.constraints.korean import is_korean

# A mark that may end a sentence, and the start of what follows it, past any white space.
_MARK = re.compile(r"""[.?!](?=[\s?!)";}\]*:@'({\[])(?=\s*+(\S{1,20}))""")
_BEFORE_WORD = re.compile(r"""[()"`{}\[\]:;&#*@,?!'\s-]""")
_SPACE = re.compile(r"\s")
_NUMBER = re.compile(r"[\d.,]*\d")
_CLOSING = re.compile(r"""\s*["')\]}]+(?:\s+|$)""")  # the marks that Punkt gives back to the sentence before
_OUTLINE = re.compile(r"(?:^|\n)[ \t>#*_-]{0,12}[A-I]\.\Z")  # the letter of an outline's heading, "A. Introduction"
_MAX_WORD_CHARS = 12  # no abbreviation is longer

_ABBREVIATION = re.compile(
    r"mr|mrs|ms|dr|prof|sr|jr|st|ave|blvd|rd|mt|ft|gen|col|maj|capt|lt|sgt|gov|sen|rep|rev|hon|inc|corp|co|ltd|bros|dept"
    r"|univ|assn|vs|etc|vol|cf|approx|jan|feb|apr|aug|sept|oct|nov|dec|ph\.d|(?!(?:p\.)+s$)(?:[a-z]\.)+[a-z]"
)
_LAST_WORD = re.compile(r"etc|[ap]\.m")  # abbreviations that no name follows
# A word that, capitalised behind an abbreviation or an initial, begins a sentence rather than goes on with a name.
_STARTER = re.compile(
    r"(?:A|An|The|This|That|These|Those|It|He|She|We|You|They|I|In|On|At|By|For|From|With|As|If|When|While|Where|What|Who"
    r"|How|Why|But|And|Or|So|Yet|However|There|Here|My|Your|His|Her|Its|Our|Their|After|Before|Since|Because|Although"
    r"|Some|Many|Most|All|Each|Every|No|Not|Then|Also|Please|Do|Let|May|Can|Could|Would|Should|Is|Are|Was|Were)\b"
)

# Korean: a quotation goes on with its particle (…요?"라고, …요?" 하고), no space need follow an end, and neither the
# numbers of a list nor a date (2025. 11. 22.) end a sentence.
_QUOTED_END = re.compile(r"""(?<![.?!。？！])[.?!。？！]++(?=["'”’」』]++(?:[가-힣]| (?:라고|하고|라며|하며|라는)))""")
_UNSPACED_END = re.compile(r"""([가-힣][.?!。？！]++["'”’」』)]*+)(?=[가-힣“‘「『])""")
_NUMBERING = re.compile(r"^[^\S\n]*+[*#>-]*+[^\S\n]*+\d++\.(?=[\s*])|\b\d{4}\. ?\d{1,2}\. ?\d{1,2}\.", re.MULTILINE)
_KOREAN_MARKS = str.maketrans("。？！”’」』", '.?!"\'""')
_LETTER = re.compile(r"[^\W\d_]")


def count_sentences(text: str) -> int:
    """The number of sentences; a list's numbers ("1.") are sentences in English, as in Punkt, not in Korean."""
    korean = is_korean(text)
    if korean:
        text = _UNSPACED_END.sub(r"\1 ", _QUOTED_END.sub("", _NUMBERING.sub("", text))).translate(_KOREAN_MARKS)
    pieces = _pieces(text)
    return sum(1 for piece in pieces if not korean or _LETTER.search(piece))


def _pieces(text: str) -> list[str]:
    """The text cut behind each end of a sentence.

    A last piece of closing marks alone belongs to the one before; behind a quotation mark and white space, a brace is
    a sentence.
    """
    ends, marks = [0], list(_MARK.finditer(text))
    for mark, next_mark in zip_longest(marks, marks[1:]):
        if next_mark and not _SPACE.search(text, mark.end(), next_mark.start()):
            continue  # only the last mark of a run without white space counts
        word = _BEFORE_WORD.split(text[max(0, mark.start() - _MAX_WORD_CHARS) : mark.end()])[-1]
        is_heading = (
            len(word) == 2
            and mark.group(1)[:1].isupper()
            and mark.group(1)[1:2] != "."
            and _OUTLINE.search(text, max(0, mark.start() - 16), mark.end())
        )
        if mark.group() != "." or is_heading or _ends(word, mark.group(1)):
            ends.append(mark.end())
    pieces = [text[start:stop] for start, stop in zip(ends, [*ends[1:], len(text)], strict=True)]
    closing = _CLOSING.match(pieces[-1])
    return pieces if pieces[-1][closing.end() if closing else 0 :].strip() else pieces[:-1]


def _ends(word: str, following: str) -> bool:
    """Whether a word with its period ends a sentence before what follows."""
    stem, first = word[:-1].lower(), following[0]
    if len(stem) == 1 and stem.isalpha():  # an initial
        return not first.isalpha() or _begins(following)
    if _ABBREVIATION.fullmatch(stem):
        return _begins(following) or (first.isupper() and _LAST_WORD.fullmatch(stem) is not None)
    if stem.endswith("."):  # an ellipsis
        return first.isupper()
    return not (first.islower() and _NUMBER.fullmatch(stem))


def _begins(following: str) -> bool:
    return _STARTER.match(following.lstrip("\"'“‘*")) is not None
