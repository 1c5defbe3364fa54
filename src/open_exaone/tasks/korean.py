"""Korean particles, which depend on how the word before them ends."""

_DIGITS = "영일이삼사오육칠팔구"  # how 0 to 9 are read
_TENS = ("", "십", "백", "천", "만", "십", "백", "천", "억")  # how 10, 100, … end; indexed by trailing zeros


def attach(word: str | int, particles: str) -> str:
    """The word with the fitting particle of a pair, the one after a consonant first.

    >>> attach("연필", "은/는"), attach("사과", "은/는"), attach(30, "을/를"), attach(7, "으로/로")
    ('연필은', '사과는', '30을', '7로')
    """
    after_consonant, after_vowel = particles.split("/")
    final = _final_consonant(str(word))
    if after_consonant == "으로" and final == _RIEUL:
        return f"{word}{after_vowel}"
    return f"{word}{after_consonant if final else after_vowel}"


_RIEUL = 8  # ㄹ among the 27 final consonants of Unicode's Hangul block; 0 is none


def _final_consonant(word: str) -> int:
    last = _spoken_ending(word) if word[-1].isdigit() else word[-1]
    assert "가" <= last <= "힣", f"{word!r} does not end in Hangul or a digit"
    return (ord(last) - ord("가")) % 28


def _spoken_ending(number: str) -> str:
    """The last syllable of a number as it is read: 30 is 삼십, 107 is 백칠."""
    digits = number[len(number.rstrip("0123456789")) :]
    zeros = len(digits) - len(digits.rstrip("0"))
    return _DIGITS[int(digits[-1])] if not zeros or zeros == len(digits) else _TENS[zeros]
