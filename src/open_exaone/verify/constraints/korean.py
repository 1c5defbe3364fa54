"""What the checks know about Korean text."""

import re
import unicodedata

_SAMPLE_CHARS = 20_000  # enough to find the leading script
_HANGUL = re.compile(r"[가-힣]")
_LATIN = re.compile(r"[A-Za-z]")
_CONJOINING = re.compile(r"[\u1100-\u11ff]")

# What may stand between a word and the end of its eojeol: up to three particles or forms of 이다, as in 학생들에게는.
PARTICLES = (
    "(?:은|는|이|가|을|를|의|에|에서|에게|에게서|께|께서|한테|한테서|로|으로|로서|으로서|로써|으로써|와|과|랑|이랑|하고|도|만"
    "|까지|부터|마저|조차|밖에|처럼|같이|보다|나|이나|든|이든|라도|이라도|마다|뿐|대로|만큼|커녕|들|다|이다|입니다|예요|이에요"
    "|였다|이었다|며|이며|고|이고|인|라는|이라는|라고|이라고|란|이란|야|이야|요){0,3}"
)


def is_korean(text: str) -> bool:
    """Whether Hangul leads in the first 20,000 characters; a syllable weighs as much as two Latin letters."""
    sample = text[:_SAMPLE_CHARS]
    num_syllables, num_latin = (len(sample) - len(script.sub("", sample)) for script in (_HANGUL, _LATIN))
    return 2 * num_syllables > num_latin


def composed(text: str) -> str:
    """The text with syllables in place of conjoining jamo, as macOS may write them; other text stays as it is."""
    return unicodedata.normalize("NFC", text) if _CONJOINING.search(text) else text


def count_jamo(text: str, jamo: str) -> int:
    """How often one consonant or vowel letter such as ㄱ occurs: alone, or as a part of a syllable."""
    name = unicodedata.name(jamo).removeprefix("HANGUL LETTER ")
    letters = {jamo}
    for position in ("CHOSEONG", "JUNGSEONG", "JONGSEONG"):
        try:
            letters.add(unicodedata.lookup(f"HANGUL {position} {name}"))
        except KeyError:  # a vowel does not close a syllable, nor ㄸ
            continue
    decomposed = unicodedata.normalize("NFD", text)
    return sum(map(decomposed.count, letters))


def is_jamo(letter: str) -> bool:
    return "\u3131" <= letter <= "\u3163" and len(letter) == 1
