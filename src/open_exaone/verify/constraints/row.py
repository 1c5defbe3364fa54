"""The table of instruction types, and reading a row of IFEval against it."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeGuard

from open_exaone.base.errors import DataError
from open_exaone.verify.constraints import content, layout
from open_exaone.verify.constraints.detect import languages
from open_exaone.verify.constraints.korean import composed

Check = Callable[[str], bool]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not empty")
    return composed(value)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise ValueError("a list of words that is not empty")
    return tuple(map(_text, value))


def _letter(value: object) -> str:
    letter = _text(value).strip()
    if len(letter) != 1:
        raise ValueError("one letter")
    return letter


def _count(value: object) -> int:
    if isinstance(value, float) and value.is_integer():  # tables with missing values hold numbers as floats
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number, 0 or more")
    return value


def _index(value: object) -> int:
    if (index := _count(value)) < 1:
        raise ValueError("a whole number, 1 or more")
    return index


def _relation(value: object) -> str:
    if value not in ("at least", "less than"):
        raise ValueError('"at least" or "less than"')
    return str(value)


def _language(value: object) -> str:
    if value not in languages():
        raise ValueError(f"one of {', '.join(languages())}")
    return str(value)


Reader = Callable[[object], Any]
INSTRUCTIONS: Mapping[str, tuple[Callable[..., bool], Mapping[str, Reader]]] = {
    "change_case:capital_word_frequency": (
        content.has_capital_words,
        {"capital_frequency": _count, "capital_relation": _relation},
    ),
    "change_case:english_capital": (content.is_english_capital, {}),
    "change_case:english_lowercase": (content.is_english_lowercase, {}),
    "combination:repeat_prompt": (layout.repeats_prompt, {"prompt_to_repeat": _text}),
    "combination:two_responses": (layout.is_two_responses, {}),
    "detectable_content:number_placeholders": (layout.has_placeholders, {"num_placeholders": _count}),
    "detectable_content:postscript": (layout.has_postscript, {"postscript_marker": _text}),
    "detectable_format:constrained_response": (layout.is_option, {}),
    "detectable_format:json_format": (layout.is_json, {}),
    "detectable_format:multiple_sections": (layout.has_sections, {"section_spliter": _text, "num_sections": _count}),
    "detectable_format:number_bullet_lists": (layout.has_bullets, {"num_bullets": _count}),
    "detectable_format:number_highlighted_sections": (layout.has_highlights, {"num_highlights": _count}),
    "detectable_format:title": (layout.has_title, {}),
    "keywords:existence": (content.has_keywords, {"keywords": _texts}),
    "keywords:forbidden_words": (content.lacks_words, {"forbidden_words": _texts}),
    "keywords:frequency": (
        content.has_keyword_often,
        {"keyword": _text, "frequency": _count, "relation": _relation},
    ),
    "keywords:letter_frequency": (
        content.has_letter_often,
        {"letter": _letter, "let_frequency": _count, "let_relation": _relation},
    ),
    "language:response_language": (content.is_in_language, {"language": _language}),
    "length_constraints:nth_paragraph_first_word": (
        layout.has_first_word,
        {"num_paragraphs": _index, "nth_paragraph": _index, "first_word": _text},
    ),
    "length_constraints:number_paragraphs": (layout.has_paragraphs, {"num_paragraphs": _count}),
    "length_constraints:number_sentences": (content.has_sentences, {"num_sentences": _count, "relation": _relation}),
    "length_constraints:number_words": (content.has_words, {"num_words": _count, "relation": _relation}),
    "punctuation:no_comma": (content.lacks_commas, {}),
    "startend:end_checker": (layout.ends_with, {"end_phrase": _text}),
    "startend:quotation": (layout.is_quoted, {}),
}


def read_row(row: Mapping[str, object]) -> list[tuple[str, Check]]:
    """The instructions of a row, each as its id and the check that its arguments make.

    Args:
        row: "instruction_id_list", and "kwargs" with one table for each; an absent argument may be null or NaN.

    Raises:
        ValueError: a field is missing or broken, or an instruction is unknown; names the field.
    """
    ids, tables = row.get("instruction_id_list"), row.get("kwargs")
    if not _is_list(ids) or not ids:
        raise DataError("instruction_id_list: must be a list of instruction ids that is not empty")
    if not _is_list(tables) or len(tables) != len(ids):
        raise DataError(f"kwargs: must be a list of {len(ids)} tables, one for each of instruction_id_list")
    return [
        (str(name), read_instruction(name, table, f"instruction_id_list[{index}]", f"kwargs[{index}]"))
        for index, (name, table) in enumerate(zip(ids, tables, strict=True))
    ]


def read_instruction(name: object, table: object, id_field: str = "instruction_id", field: str = "kwargs") -> Check:
    """The check that an instruction and its arguments make.

    Args:
        id_field: what errors call the id.
        field: what errors call the arguments.

    Raises:
        ValueError: as in `read_row`.
    """
    if not isinstance(name, str) or name not in INSTRUCTIONS:
        raise DataError(f"{id_field}: {name!r} is unknown; the ids are {', '.join(INSTRUCTIONS)}")
    if table is not None and not isinstance(table, Mapping):
        raise DataError(f"{field}: must be a table of {name}'s arguments, not {table!r}")
    function, readers = INSTRUCTIONS[name]
    given = {key: value for key, value in (table or {}).items() if value is not None and not _is_nan(value)}
    if unknown := sorted(map(str, given.keys() - readers.keys())):
        raise DataError(f"{field}.{unknown[0]}: {name} has no such argument; it has {', '.join(readers) or 'none'}")
    arguments = {key: _read(given, key, reader, f"{field}.{key}", name) for key, reader in readers.items()}
    if arguments.get("nth_paragraph", 0) > arguments.get("num_paragraphs", 0):
        raise DataError(f"{field}.nth_paragraph: {arguments['nth_paragraph']} exceeds num_paragraphs")
    return partial(function, **arguments)


def _read(given: Mapping[str, object], key: str, reader: Reader, field: str, name: str) -> Any:
    if key not in given:
        raise DataError(f"{field}: {name} needs it")
    try:
        return reader(given[key])
    except ValueError as error:
        raise DataError(f"{field}: must be {error}, not {given[key]!r}") from error


def _is_nan(value: object) -> bool:
    """Whether it is what tables that are read as floats hold where nothing is."""
    return isinstance(value, float) and math.isnan(value)


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
