"""Whether a text is in its problem's language: Korean by its script, English and Spanish by their commonest words.

Code, formulas, URLs, tool calls and numbers don't count, and neither do names and terms in another script.
docs/judging-choice-language.md holds the rules and what was measured.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from open_exaone.base.errors import DataError
from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.verify.settings import JudgeSettings

LANGUAGES = ("ko", "en", "es")
MIN_SHARE = 0.9  # of a consistent text's words; measured, see the docs
_MAX_CHARS = 100_000  # a text longer than three times this is read at its start, middle and end
_MIN_WORDS = 2  # of prose; a text with less says nothing,
_MIN_TERMS = 4  # unless it consists of so many terms in another script
_NAMES = {"ko": "Korean", "en": "English", "es": "Spanish"}

# Each alternative that fails has looked no further than the next mark of its own kind, so all of it is linear.
_UNSPOKEN = re.compile(
    r"```[^`]*+(?:`{1,2}(?!`)[^`]*+)*+```|~~~[^~]*+(?:~{1,2}(?!~)[^~]*+)*+~~~"  # code
    r"|`[^`\n]{1,1000}`|\[asy\][^\[]*+(?:\[(?!/?asy\])[^\[]*+)*+\[/asy\]"
    r"|<tool_call>[^<]*+(?:<(?!/?tool_call>)[^<]*+)*+</tool_call>|</?[a-z_]{1,20}>"
    r"|\$\$[^$]*+\$\$|\$(?!\s)[^$\n]{1,400}(?<!\s)\$(?!\d)"  # formulas
    r"|\\\((?:[^\\]|\\(?![()]))*+\\\)|\\\[(?:[^\\]|\\(?![\[\]]))*+\\\]"
    r"|\\begin\{[a-z*]{1,20}\}(?:[^\\]|\\(?!begin|end))*+\\end\{[a-z*]{1,20}\}"
    r"|\\boxed\s{0,9}\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*+\})*+\})*+\}"
    r"|\\[A-Za-z]+"
    r"|(?:https?://|www\.)\S+"
    r"|(?<=[가-힣])\s?[(][一-鿿·\s]{1,40}[)]"  # 대한민국(大韓民國): the same word again
    r"|(?<![A-Za-z0-9_])(?:[A-Za-z]+[0-9_]|[0-9_]+[A-Za-z])[A-Za-z0-9_]*"  # x1, a_n, 3D
)
_RUNS = re.compile(  # one match, one word
    r"(?P<hangul>[가-힣ㄱ-ㆎᄀ-ᇿ]+)|(?P<latin>[A-Za-zÀ-ÖØ-öø-ɏ]+(?:['’][a-z]{1,2}(?![a-z]))?)"
    r"|(?P<han>[一-鿿㐀-䶿豈-﫿]+|[぀-ヿㇰ-ㇿ]+)"
    r"|(?P<other>[Ѐ-ԯ֐-ࣿऀ-႟Ⴀ-ჿក-៿]+)|(?P<end>(?<![.!?。])[.!?。]++(?=\s)|\n)"
)
_CHARS_PER_HAN_WORD = 2  # Chinese and Japanese set no spaces

# Words that distinguish a language from the others: the commonest ones that are no word, or a rare one, in the others.
_COMMON = {
    "en": "the of and to is are was were be been it its that this these those which what who how with for from by on"
    " at an if then than so we you he she they my your our their his her will would can could should must may might"
    " not but or as because since when where there here have has had do does did let each all some any more most first"
    " wait now get after before into over only also therefore thus hence find answer i'm it's don't let's that's",
    "es": "el la los las un una unos unas y en que es son del al por para con se su sus lo le les más pero como cuando"
    " donde si sí ya está están era fue ser estar hay tiene tienen hemos podemos entonces porque también muy este esta"
    " esto estos estas ese esa eso cada todo todos todas entre sobre hasta desde qué cuál cuánto cuántos cómo nos"
    " ahora primero luego después así cual respuesta tenemos hacer vamos necesitamos debe de",
    # French, Portuguese, German and Italian, so that they don't pass for one of the two
    "other": "des et est une dans pour que qui sur pas avec nous vous il elle ce cette sont du au aux mais ou donc"
    " os um uma não em do da dos das ao são é mas então também seu sua isso está"
    " der das und ist nicht ein eine mit von zu den dem auf für wir sie es im auch sind dass oder wird werden"
    " il gli di che è sono nel della dei degli dal questo più anche quindi ma alla abbiamo essere",
}
_MARKERS = {language: frozenset(words.split()) for language, words in _COMMON.items()}
_ALL_MARKERS = frozenset().union(*_MARKERS.values())
_SPANISH_ENDING = re.compile(r"ñ|(?:ción|ciones|mente|amos|emos|imos|ando|iendo)$")
_KOREAN_ENDING = re.compile(r"(?:다|요|까|죠|음|함)$")
_MAX_KEPT = 40  # characters of a word whose languages are kept in memory
_MAX_ACRONYM = 5  # DNA, HTTPS: no word of any language
_PROSE_RUN = 3  # so many words in a row are prose; fewer in another script are a name or a term
_LONG_RUN = 10  # a sentence of so many words without a single marker word is in none of the languages
_MAX_INFLECTED = 5  # words in another script that a Korean particle makes one term of: "step by step으로"
_FREE_TERMS = {"ko": 1.0, "en": 1 / 3, "es": 1 / 3}  # terms that each word of the language may bring with it


@dataclass
class _Tally:
    """How many words of a text are prose of each language, and how many are names or terms, by script."""

    prose: dict[str, int]
    terms: dict[str, int]


def share(text: str, language: str) -> float:
    """The share of a text's words that are in a language, in [0, 1]; 1 where there are too few to judge.

    Raises:
        ValueError: the language is none of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise DataError(f"language {language!r}: must be one of {', '.join(LANGUAGES)}")
    tally = _tally(_sample(text))
    terms = tally.terms["latin" if language == "ko" else "hangul"]
    own = tally.prose[language] + (tally.terms["hangul"] if language == "ko" else 0)
    others: float = sum(tally.prose.values()) - tally.prose[language]
    if own + others < _MIN_WORDS and terms < _MIN_TERMS:
        return 1.0
    others += max(0.0, terms - own * _FREE_TERMS[language])
    return own / (own + others) if own + others else 1.0


def is_consistent(text: str, language: str) -> bool:
    """Whether a text is in a language as good as throughout.

    Raises:
        ValueError: the language is none of `LANGUAGES`.
    """
    return share(text, language) >= MIN_SHARE


def inconsistent_parts(thought: str, answer: str, language: str) -> tuple[str, ...]:
    """Which of "thought" and "answer" are not in the language.

    Raises:
        ValueError: the language is none of `LANGUAGES`.
    """
    parts = {"thought": thought, "answer": answer}
    return tuple(name for name, text in parts.items() if not is_consistent(text, language))


def consistency(thought: str, answer: str, language: str) -> float:
    """1.0 where thought and answer are in the language, else 0.0.

    Raises:
        ValueError: the language is none of `LANGUAGES`.
    """
    return 0.0 if inconsistent_parts(thought, answer, language) else 1.0


def judge_language(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """Whether a reply is in the language asked for.

    Args:
        answer: the reply without its thought.
        gold: the language, one of `LANGUAGES`.
        metadata: "thought": the thought, to be judged as well (optional).
        settings: plays no part.

    Raises:
        ValueError: the language is none of `LANGUAGES`, or the thought is no text.
    """
    thought = metadata.get("thought", "")
    if not isinstance(thought, str):
        raise DataError(f"metadata 'thought': must be a text, not {thought!r:.80}")
    if gold not in LANGUAGES:
        raise DataError(f"gold {gold!r:.80}: must be one of the languages {', '.join(LANGUAGES)}")
    shares = {"thought": share(thought, gold), "answer": share(answer, gold)}
    failed = [f"{value:.0%} of the {name}" for name, value in shares.items() if value < MIN_SHARE]
    if not failed:
        return Verdict(VerdictStatus.CORRECT, None, f"The reply is in {_NAMES[gold]}.")
    return Verdict(
        VerdictStatus.WRONG, None, f"The reply must be in {_NAMES[gold]}, but only {' and '.join(failed)} is."
    )


def _sample(text: str) -> str:
    if len(text) <= 3 * _MAX_CHARS:
        return text
    middle = (len(text) - _MAX_CHARS) // 2
    return "\n".join((text[:_MAX_CHARS], text[middle : middle + _MAX_CHARS], text[-_MAX_CHARS:]))


def _tally(text: str) -> _Tally:
    tally = _Tally(dict.fromkeys((*LANGUAGES, "other"), 0), {"hangul": 0, "latin": 0})
    for script, words in _runs(_UNSPOKEN.sub(" ", unicodedata.normalize("NFC", text))):
        if script == "han":
            tally.prose["other"] += sum(-(-len(word) // _CHARS_PER_HAN_WORD) for word in words)
        elif script == "other":
            tally.prose["other"] += len(words)
        elif script == "hangul" and (len(words) >= _PROSE_RUN or _KOREAN_ENDING.search(words[-1])):
            tally.prose["ko"] += len(words)
        elif script == "latin" and len(words) >= _PROSE_RUN and (language := _latin_language(words)):
            tally.prose[language] += len(words)
        else:
            tally.terms["hangul" if script == "hangul" else "latin"] += len(words)
    return tally


def _runs(text: str) -> Iterator[tuple[str, list[str]]]:
    """Words that follow one another in one script, within a sentence; variables and acronyms are left out."""
    script, words, end = "", list[str](), 0
    for found in _RUNS.finditer(text):
        kind, word = found.lastgroup, found.group()
        if kind == "latin" and len(word) <= _MAX_ACRONYM and _says_nothing(word):
            continue
        if kind != script:
            is_inflected = kind == "hangul" and found.start() == end and len(words) <= _MAX_INFLECTED
            if words:
                yield "inflected" if is_inflected and script == "latin" else script, words
            script, words = str(kind), []
        if kind != "end":
            words.append(word)
        end = found.end()
    if words:
        yield script, words


def _says_nothing(word: str) -> bool:
    """Whether a short word is a variable or an acronym."""
    return (len(word) == 1 and word.isascii()) or (word.isupper() and word.lower() not in _ALL_MARKERS)


def _latin_language(words: list[str]) -> str | None:
    """The language of a run by its marker words; None for a name or a term, and for a list of names: Ben>Una>Tom."""
    if all(word[0].isupper() and word[1:].islower() for word in words):  # Una is Spanish, and a name
        return None
    hits = dict.fromkeys(_MARKERS, 0)
    for word in words:
        for language in _tells(word) if len(word) <= _MAX_KEPT else _tells.__wrapped__(word):
            hits[language] += 1
    best = max(hits, key=hits.__getitem__)
    if hits[best] == 0:
        return "other" if len(words) >= _LONG_RUN else None
    return None if list(hits.values()).count(hits[best]) > 1 else best


@lru_cache(maxsize=1 << 15)
def _tells(word: str) -> tuple[str, ...]:
    """The languages that a word speaks for."""
    lowered = word.replace("’", "'").lower()
    found = tuple(language for language, markers in _MARKERS.items() if lowered in markers)
    return (*found, "es") if _SPANISH_ENDING.search(lowered) else found
