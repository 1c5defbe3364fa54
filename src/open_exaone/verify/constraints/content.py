"""Checks of what a reply says: words, letters, sentences, language and case. Arguments are named as IFEval's kwargs."""

import re
from collections.abc import Sequence
from typing import Literal

from open_exaone.verify.constraints.detect import is_language
from open_exaone.verify.constraints.korean import PARTICLES, count_jamo, is_jamo, is_korean
from open_exaone.verify.constraints.sentences import count_sentences

Relation = Literal["at least", "less than"]


def has_keywords(text: str, keywords: Sequence[str]) -> bool:
    """Each keyword occurs, be it inside another word."""
    return all(re.search(re.escape(word), text, re.IGNORECASE) for word in keywords)


def has_keyword_often(text: str, keyword: str, frequency: int, relation: Relation) -> bool:
    found = re.findall(re.escape(keyword.strip()), text, re.IGNORECASE)
    return _compare(len(found), relation, frequency)


def lacks_words(text: str, forbidden_words: Sequence[str]) -> bool:
    """No forbidden word occurs as a whole word; Korean particles behind it do not hide it."""
    return not any(re.search(rf"\b{re.escape(word)}{PARTICLES}\b", text, re.IGNORECASE) for word in forbidden_words)


def has_letter_often(text: str, letter: str, let_frequency: int, let_relation: Relation) -> bool:
    letter = letter.lower()
    count = count_jamo(text, letter) if is_jamo(letter) else text.lower().count(letter)
    return _compare(count, let_relation, let_frequency)


def has_words(text: str, num_words: int, relation: Relation) -> bool:
    r"""Counts runs of `\w`, or in Korean text the eojeols: what white space separates and holds a letter or digit."""
    if is_korean(text):
        count = sum(1 for word in text.split() if re.search(r"\w", word))
    else:
        count = len(re.findall(r"\w+", text))
    return _compare(count, relation, num_words)


def has_sentences(text: str, num_sentences: int, relation: Relation) -> bool:
    return _compare(count_sentences(text), relation, num_sentences)


def is_in_language(text: str, language: str) -> bool:
    return is_language(text, language)


def is_english_capital(text: str) -> bool:
    return text.isupper() and is_language(text, "en")


def is_english_lowercase(text: str) -> bool:
    return text.islower() and is_language(text, "en")


# Where NLTK's word tokenizer cuts, as far as it changes the number of words in capitals.
_CUT = re.compile(r"""[«»“”‘’„`;@#$%&?!*\[\](){}<>"\u2012-\u2015]|--|''|\.{2,}|[:,](?!\d)""")
_CLITIC = re.compile(r"(?<=[^'\s])(?=(?:'(?:[sSmMdD]|ll|LL|re|RE|ve|VE)|n't|N'T)\.?(?!\S))")
_CONTRACTED = re.compile(r"\b(?:(CAN)(NOT)|(GIM|LEM)(ME)|(GON)(NA)|(WAN)(NA)(?!\S)|(GOT)(TA))\b")


def has_capital_words(text: str, capital_frequency: int, capital_relation: Relation) -> bool:
    """Counts words in capitals: AI-BASED is one, DON'T is two (DO, N'T), and AI는 is one."""
    words = _CONTRACTED.sub(_apart, _CLITIC.sub(" ", _CUT.sub(" ", text))).split()
    return _compare(sum(map(str.isupper, words)), capital_relation, capital_frequency)


def _apart(contraction: re.Match[str]) -> str:
    return f" {' '.join(filter(None, contraction.groups()))} "


def lacks_commas(text: str) -> bool:
    """No comma; in Korean text the full-width and the ideographic comma count too."""
    return "," not in text and not (re.search("[，、]", text) and is_korean(text))


def _compare(count: int, relation: Relation, threshold: int) -> bool:
    return count >= threshold if relation == "at least" else count < threshold
