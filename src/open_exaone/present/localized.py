"""The texts of a page in one language; they stand as tables of a file in texts/, each with `en` and `ko`."""

import re
from functools import cache
from pathlib import Path

from open_exaone.base.config import read_toml
from open_exaone.present import formatting

LANGUAGES = ("en", "ko")
FOLDER = Path(__file__).parent / "texts"
_PLACE = re.compile(r"{(\w+)}")
_UNITS = ((" min", "분"), (" h", "시간"), (" s", "초"))


class Texts:
    """One language's texts of a file, such as card."""

    def __init__(self, name: str, language: str) -> None:
        self.name = name
        self.language = language
        self.other = next(one for one in LANGUAGES if one != language)

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, filled in; what is filled in is never read as a pattern."""
        text: str = _texts(self.name)[key][self.language]
        return text.format(**values)

    def has(self, key: str) -> bool:
        return key in _texts(self.name)

    def said(self, text: str) -> str:
        """A sentence that this package writes in English, in this language; any other text as it is."""
        if self.language == "en":
            return text
        for pattern, wanted in _sentences(self.name, self.language):
            if (parts := _parts(pattern, text)) is not None:
                return wanted.format(**{name: self._word(part) for name, part in parts.items()})
        return text

    def _word(self, text: str) -> str:
        """A part of such a sentence: a sentence without places is one in this language, any other text stays."""
        return dict(_sentences(self.name, self.language)).get(text, text)

    def duration(self, seconds: float | None) -> str:
        """70.4 seconds as `1 min 10 s` or `1분 10초`."""
        text = formatting.duration(seconds)
        for unit, word in _UNITS if self.language == "ko" else ():
            text = text.replace(unit, word)
        return text


def _parts(pattern: str, text: str) -> dict[str, str] | None:
    """What stands at the places of a pattern; None where the text has another form. Takes time linear in the text."""
    names, fixed = _PLACE.findall(pattern), _PLACE.split(pattern)[::2]
    first, last = fixed[0], fixed[-1]
    if not names:
        return {} if text == pattern else None
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return None
    rest, parts = text[len(first) : len(text) - len(last)], {}
    for name, between in zip(names[:-1], fixed[1:-1], strict=True):
        parts[name], found, rest = rest.partition(between)
        if not found:
            return None
    return {**parts, names[-1]: rest}


@cache
def _texts(name: str) -> dict[str, dict[str, str]]:
    return read_toml(FOLDER / f"{name}.toml")


@cache
def _sentences(name: str, language: str) -> tuple[tuple[str, str], ...]:
    """The English form and this language's, those with most words of their own first."""
    said: dict[str, dict[str, str]] = read_toml(FOLDER / f"{name}.toml").get("said", {})
    found = [(both["en"], both[language]) for both in said.values()]
    return tuple(sorted(found, key=lambda both: -len(_PLACE.sub("", both[0]))))
