"""Checks of how a reply is laid out. Arguments are named as IFEval's kwargs. Every pattern is linear in the text."""

import json
import re

from open_exaone.verify.constraints.korean import PARTICLES, is_korean

_BULLET = re.compile(r"^[^\S\n]*+\*[^*].*$", re.MULTILINE)
_DASH = re.compile(r"^[^\S\n]*+-.*$", re.MULTILINE)
_KOREAN_BULLET = re.compile(r"^[^\S\n]*+[•·ㆍ‧∙◦○●◇◆□■▪▫▶▷※].*$", re.MULTILINE)
_HIGHLIGHT = re.compile(r"\*([^\n*]*)\*")
_DOUBLE_HIGHLIGHT = re.compile(r"\*\*([^\n*]*)\*\*")
_OPTION = re.compile(
    r"My answer is (?:yes|no|maybe)\."
    r"|(?:제|저의|내|나의) (?:대답|답변|답)은 "
    r"(?:(?:예|네|아니요|아니오|아마도) ?(?:입니다|예요|이에요|이다|다)|아닙니다)\."
)
_POSTSCRIPTS = {"P.S.": re.compile(r"p\.\s?s\."), "P.P.S": re.compile(r"p\.\s?p\.\s?s")}
_KOREAN_POSTSCRIPTS = {  # at the start of a line, behind markdown; 추신수 is a baseball player
    "P.S.": re.compile(r"^[ \t*_#>-]*+추신(?![가-힣])", re.MULTILINE),
    "P.P.S": re.compile(r"^[ \t*_#>-]*+(?:재추신|추추신)(?![가-힣])", re.MULTILINE),
}
_QUOTES = (('"', '"'), ("“", "”"), ("「", "」"), ("『", "』"), ("«", "»"), ("＂", "＂"))
_OPENING_QUOTES = "'\"“‘「『《〈"
_PUNCTUATION = re.compile(r"[.,?!'\"]")
_KOREAN_PUNCTUATION = re.compile(r"[.,?!'\"”’」』》〉:;·…~)]")


def has_placeholders(text: str, num_placeholders: int) -> bool:
    """Counts `[...]` within a line: each closing bracket that an opening one precedes since the last."""
    found = sum("[" in piece for line in text.split("\n") for piece in line.split("]")[:-1])
    return found >= num_placeholders


def has_postscript(text: str, postscript_marker: str) -> bool:
    """The marker stands anywhere, spaced or not; 추신 says P.S. in Korean text."""
    marker = postscript_marker.strip()
    if marker not in _POSTSCRIPTS:
        return marker.lower() in text.lower()
    if _POSTSCRIPTS[marker].search(text.lower()):
        return True
    return bool(_KOREAN_POSTSCRIPTS[marker].search(text)) and is_korean(text)


def has_bullets(text: str, num_bullets: int) -> bool:
    """Exactly as many lines begin with `*` or `-`, in Korean text also with • ㆍ ○ and their like."""
    found = len(_BULLET.findall(text)) + len(_DASH.findall(text))
    if is_korean(text):
        found += len(_KOREAN_BULLET.findall(text))
    return found == num_bullets


def is_option(text: str) -> bool:
    """One of the three fixed answers occurs, in English or Korean."""
    return _OPTION.search(text) is not None


def has_highlights(text: str, num_highlights: int) -> bool:
    """Counts `*...*` and `**...**` with anything inside; of `**bold**` each pair of stars is looked at by both."""
    found = [*_HIGHLIGHT.findall(text), *_DOUBLE_HIGHLIGHT.findall(text)]
    return sum(1 for inside in found if inside.strip()) >= num_highlights


def has_sections(text: str, section_spliter: str, num_sections: int) -> bool:
    """Counts "Section 1", wherever it stands; for a Korean word also 제1장 and 1장."""
    word = re.escape(section_spliter.strip())
    pattern = rf"{word}\s?\d++"
    if re.search("[가-힣]", word):
        pattern += rf"|(?<!\d)\d{{1,4}}\s?{word}"
    return len(re.findall(pattern, text)) >= num_sections


def is_json(text: str) -> bool:
    """The whole text is JSON, within a fence or not."""
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip(), parse_int=str, parse_float=str)  # numbers of any length
    except (ValueError, RecursionError):
        return False
    return True


def has_title(text: str) -> bool:
    """`<<title>>` within a line, not empty; in Korean text also 《제목》 or ≪제목≫."""
    if any(_title_in(line, "<<", ">>") for line in text.split("\n") if "<<" in line):
        return True
    lines = [line for line in text.split("\n") if "《" in line or "≪" in line]
    return any(_title_in(line, "《", "》") or _title_in(line, "≪", "≫") for line in lines) and is_korean(text)


def _title_in(line: str, opening: str, closing: str) -> bool:
    start, stop = line.find(opening), line.rfind(closing)
    return start >= 0 and stop > start and bool(line[start:stop].lstrip(opening).rstrip(closing).strip())


def has_paragraphs(text: str, num_paragraphs: int) -> bool:
    """Exactly as many parts between `***`; an empty one fails, unless it is the first or the last."""
    first, *middle = text.split("***")
    last = [middle.pop()] if middle else []
    if not all(map(str.strip, middle)):
        return False
    return len(middle) + sum(bool(part.strip()) for part in (first, *last)) == num_paragraphs


def has_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Exactly as many parts between blank lines, the nth beginning with the word; a Korean particle may follow it."""
    paragraphs = text.split("\n\n")
    if sum(bool(paragraph.strip()) for paragraph in paragraphs) != num_paragraphs:
        return False
    words = paragraphs[nth_paragraph - 1].split(maxsplit=1)
    if not words:
        return False
    wanted = first_word.lower()
    found = _PUNCTUATION.split(words[0].lstrip("'").lstrip('"'), maxsplit=1)[0].lower()
    if found == wanted:
        return True
    found = _KOREAN_PUNCTUATION.split(words[0].lstrip(_OPENING_QUOTES), maxsplit=1)[0].lower()
    return re.fullmatch(re.escape(wanted) + PARTICLES, found) is not None and is_korean(text)


def is_two_responses(text: str) -> bool:
    """Two different answers between `******`."""
    parts = [part.strip() for part in text.split("******")]
    if not all(parts[1:-1]):
        return False
    answers = [part for part in parts if part]
    return len(answers) == 2 and answers[0] != answers[1]


def repeats_prompt(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().lower().startswith(prompt_to_repeat.strip().lower())


def ends_with(text: str, end_phrase: str) -> bool:
    """The phrase ends the text; quotation marks around all of it are overlooked."""
    marks = '"“”「」『』' if is_korean(text) else '"'
    return text.strip().strip(marks).lower().endswith(end_phrase.strip().lower())


def is_quoted(text: str) -> bool:
    """All of it stands between `"` marks, or in Korean text between any double ones."""
    text = text.strip()
    pair = (text[0], text[-1])
    return len(text) > 1 and (pair == _QUOTES[0] or (pair in _QUOTES and is_korean(text)))
