"""Language detection by langdetect, the library of the official checker, made to repeat itself."""

from functools import cache
from pathlib import Path
from typing import Any

from open_exaone.verify.constraints.korean import is_korean

_MAX_CHARS = 20_000  # langdetect itself reads 10,000 characters, once web and mail addresses are removed
GROUPS = {"zh": ("zh-cn", "zh-tw")}  # codes that stand for several of the detector's


def is_language(text: str, code: str) -> bool:
    """Whether a text is in a language; a text without any feature (digits, symbols) is in every one.

    Where Hangul leads, the text is Korean: langdetect falters on Korean with English terms in it.

    Args:
        code: one of `languages()`.
    """
    if is_korean(text):
        return code == "ko"
    from langdetect import LangDetectException  # type: ignore[import-untyped]

    detector = _factory().create()
    detector.append(text[:_MAX_CHARS])
    try:
        return detector.detect() in GROUPS.get(code, (code,))
    except LangDetectException:
        return True


def languages() -> tuple[str, ...]:
    """Every code that can be asked for, mostly ISO 639-1."""
    return tuple(sorted({*_factory().get_lang_list(), *GROUPS}))


@cache
def _factory() -> Any:
    """A detector factory of our own: seeded, its profiles in a fixed order, the library's global one untouched.

    Each detector that it creates draws from a generator of its own, so that threads do not disturb each other.
    """
    from langdetect.detector_factory import PROFILES_DIRECTORY, DetectorFactory  # type: ignore[import-untyped]

    factory = DetectorFactory()
    factory.set_seed(0)
    profiles = sorted(path for path in Path(PROFILES_DIRECTORY).iterdir() if not path.name.startswith("."))
    factory.load_json_profile([path.read_text(encoding="utf-8") for path in profiles])
    return factory
