"""Configuration: frozen pydantic records, read from TOML, overridden with dotted keys."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Tag, ValidationError

from open_exaone.base.errors import ConfigError
from open_exaone.base.text import count


class Config(BaseModel):
    """A frozen record: unknown keys and wrong types are refused; a field's docstring is its help."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    refused_keys: ClassVar[Mapping[str, str]] = {}  # that one might expect here: why there are none, and what to do


AnyConfig = TypeVar("AnyConfig", bound=Config)

MAX_TOML_BYTES = 1 << 20  # a recipe has thousands
MAX_FAULTS = 20  # that one error lists
MAX_COMPARED = 80  # characters of a name
_SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte of a file's name or an argument that is not UTF-8
# Reading a key takes time with the square of its parts; no key of ours has more than six.
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""")

_PYDANTIC = re.compile(r"^(Value error, |(Input|Tuple|List|String|Dictionary) )| after validation, not \d+$")


def read_toml(path: Path) -> dict[str, Any]:
    """Reads a TOML file.

    Raises:
        ConfigError: the file is missing, a folder, not text or not TOML; names the line.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ConfigError(f"{path}: is a device or a pipe; a TOML file is needed")
        with open(path, "rb") as file:
            content = file.read(MAX_TOML_BYTES + 1)
        if len(content) > MAX_TOML_BYTES:
            raise ConfigError(f"{path}: is larger than {MAX_TOML_BYTES >> 20} MiB; TOML files may not be larger")
        return _parse_toml(content.decode("utf-8"))
    except ConfigError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path}: is a folder; a TOML file is needed") from error
    except OSError as error:
        raise ConfigError(f"{short_text(path)}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} is {content[error.start]:#04x}"
        raise ConfigError(f"{short_text(path)}: is not UTF-8 text: {where}; write the file as UTF-8") from error
    except ValueError as error:
        raise ConfigError(f"{short_text(path)}: not valid TOML: {error}") from error


def _parse_toml(text: str) -> dict[str, Any]:
    """A TOML text's table.

    Raises:
        ValueError: it is none, is nested too deeply, or holds a number that no field takes.
    """
    if _LONG_KEY.search(text):
        raise ValueError("a key has more than 64 parts")
    try:
        table = tomllib.loads(text)
        json.dumps(table, default=str)  # as `validate` will: a number written 0xfff… may be too long for that
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return table


def parse_override(text: str) -> tuple[list[str], Any]:
    """Splits `"rl.group_size=16"` into its keys and its value, read as TOML, or as text failing that.

    Raises:
        ConfigError: there is no `=`, or a key is empty.
    """
    key, equals, value = text.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set {text!r}: write it as stage.key=value, such as --set rl.group_size=16")
    return keys, parse_value(value)


def parse_value(text: str) -> Any:
    """A flag's value: TOML, or the text itself where it is none."""
    try:
        return _parse_toml(f"value = {text}")["value"]
    except ValueError:
        return text.strip()


def validate(schema: type[AnyConfig], values: dict[str, Any], source: str) -> AnyConfig:
    """Builds the record.

    Args:
        source: what to call the values in an error: a file's name, or a flag.

    Raises:
        ConfigError: names the source, and for each mistake the key, the value and what is allowed.
    """
    text = json.dumps(values, default=str, ensure_ascii=False)
    if not text.isascii() and (other := _SURROGATE.search(text)):
        found = short_text(
            text[max(0, other.start() - 20) : other.end() + 20].encode("utf-8", "backslashreplace").decode()
        )
        raise ConfigError(f"{source}: … {found} …: is not UTF-8 text; rename the file, or write the value in UTF-8")
    try:
        return schema.model_validate_json(text)  # JSON mode: a list is a tuple
    except ValidationError as error:
        details = error.errors()
        within = {detail["loc"][:end] for detail in details for end in range(1, len(detail["loc"]))}
        # A list whose items are broken is also reported as too short.
        shown = [detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in within]
        lines = [_explain(schema, source, detail) for detail in shown[:MAX_FAULTS]]
        if len(shown) > MAX_FAULTS:
            lines.append(f"{source}: … and {count(len(shown) - MAX_FAULTS, 'more mistake')}")
        raise ConfigError("\n".join(lines)) from error


def _explain(schema: type[Config], source: str, detail: Any) -> str:
    location: tuple[str | int, ...] = detail["loc"]
    where = short_text(".".join(_without_tags(schema, location))) or "the whole file"
    if detail["type"] == "extra_forbidden":
        owner = _owner(schema, location)
        if owner and location[-1] in owner.refused_keys:
            return f"{source}: {where}: {owner.refused_keys[str(location[-1])]}"
        known = sorted(owner.model_fields) if owner else []
        listed = f"{did_you_mean(location[-1], known)} Known keys: {', '.join(known)}" if known else ""
        return f"{source}: {where}: unknown key{listed}"
    if detail["type"] == "missing":
        return f"{source}: {where}: is missing"
    context, value = detail.get("ctx", {}), detail["input"]
    if detail["type"].startswith("union_tag"):  # `kind`, or whatever field selects the record
        where = f"{where}.{context['discriminator'].strip(chr(39))}" if location else context["discriminator"]
        if detail["type"] == "union_tag_not_found":
            known = [tag for record in _records_at(schema, location) for tag in _tags(record)]
            return f"{source}: {where}: is missing; must be one of {', '.join(known)}"
        value = context["tag"]
    expected = context.get("expected_tags", context.get("expected"))
    if isinstance(value, str) and isinstance(expected, str) and (known := re.findall("'([^']*)'", expected)):
        return f"{source}: {where} = {short(value)}: must be one of {', '.join(known)}{_near(value, known)}"
    if detail["type"] in ("model_type", "dict_type") and (tag := _example_tag(schema, location)):
        return f'{source}: {where} = {short(value)}: must be a table, such as {{ {tag[0]} = "{tag[1]}" }}'
    message = _PYDANTIC.sub("", detail["msg"])
    if not location:
        return f"{source}: {message}"
    if detail["type"] == "value_error" and isinstance(value, dict):  # fields that do not go together
        fields = {name for record in _records_at(schema, location) for name in record.model_fields}
        return f"{source}: {where}{'.' if message.split(' ')[0] in fields else ': '}{message}"
    return f"{source}: {where} = {short(value)}: {message}"


def word_or_list(value: object) -> str:
    """The tag of a setting that is one word or a list of words; errors leave tags in angle brackets out."""
    return "<word>" if isinstance(value, str) else "<list>"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`'; did you mean "grpo"?'`, or `"."` where no known name is near: the end of the sentence "x: unknown …".

    Case, spaces and punctuation don't count; a part of a name is near it, and so are the initials of its words ("lr"
    for "learning_rate"). At most three names, the nearest first.
    """
    return _near(name, known) or "."


def _near(name: object, known: Iterable[str]) -> str:
    key, by_key = plain_name(str(name)), {plain_name(item): item for item in known}
    within = [item for item in by_key if len(key) > 2 and key in item]
    within.sort(key=lambda item: (item.index(key), len(item)))
    initials = [item for item, name in by_key.items() if len(key) > 1 and key == _initials(name)]
    near = [key] if key in by_key else list(dict.fromkeys([*initials, *within, *get_close_matches(key, by_key)]))[:3]
    return "; did you mean " + " or ".join(f'"{by_key[item]}"' for item in near) + "?" if near else ""


def plain_name(name: str) -> str:
    """A name without what people spell in several ways: "MATH-500" and "math_500" are one."""
    return re.sub(r"[\W_]+", "", name[:MAX_COMPARED]).casefold()


def _initials(name: str) -> str:
    return "".join(word[:1] for word in re.split(r"[\W_]+", name[:MAX_COMPARED])).casefold()


def _without_tags(schema: type[Config], location: Iterable[str | int]) -> list[str]:
    """A mistake's place as a user writes it: pydantic also names which record of a union was meant."""
    owner: Any = schema
    kept = []
    for part in location:
        if str(part).startswith("<"):  # the tag of a union that our own function chooses from
            continue
        records = _records(owner)
        tagged = next((record for record in records if part in _tags(record)), None)
        if len(records) > 1 and tagged is not None:
            owner = tagged
            continue
        kept.append(str(part))
        if get_origin(owner) is dict:
            owner = get_args(owner)[1]
        elif isinstance(part, str):
            fields = records[0].model_fields if len(records) == 1 else {}
            owner = fields[part].annotation if part in fields else None
    return kept


def _owner(schema: type[Config], location: tuple[str | int, ...]) -> type[Config] | None:
    """The record that the last key of `location` was looked up in, if it can be followed."""
    records = _records_at(schema, location[:-1])
    return records[0] if len(records) == 1 else None


def _records_at(schema: type[Config], location: Iterable[str | int]) -> list[type[Config]]:
    """The records that a value at `location` may be."""
    owner: Any = schema
    for part in location:
        records = _records(owner)
        if get_origin(owner) is dict:
            owner = get_args(owner)[1]
        elif str(part).startswith("<"):
            owner = _tagged(owner, str(part))
        elif len(records) == 1 and part in records[0].model_fields:
            owner = records[0].model_fields[str(part)].annotation
        elif isinstance(part, str):  # the tag of a union; a number is a place in a list
            owner = next((record for record in records if part in _tags(record)), None)
    return _records(owner)


def _records(annotation: Any) -> list[type[Config]]:
    """The records in a field's type: `tuple[A | B, ...]` holds A and B."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [record for argument in get_args(annotation) for record in _records(argument)]


def _tagged(annotation: Any, tag: str) -> Any:
    """The member of a union that has this pydantic `Tag`."""
    if any(isinstance(item, Tag) and item.tag == tag for item in getattr(annotation, "__metadata__", ())):
        return annotation
    found = (_tagged(argument, tag) for argument in get_args(annotation))
    return next((member for member in found if member is not None), None)


def _tags(record: type[Config]) -> dict[str, str]:
    """The values of the field that selects this record in a union, each with the field's name."""
    keys = [key for key in ("kind", "name") if key in record.model_fields]
    return {tag: key for key in keys for tag in get_args(record.model_fields[key].annotation)}


def _example_tag(schema: type[Config], location: tuple[str | int, ...]) -> tuple[str, str] | None:
    """The field and a value of it that select a record at `location`; None where there is no union."""
    tags = [(key, tag) for record in _records_at(schema, location) for tag, key in _tags(record).items()]
    return tags[0] if tags else None


def short(value: object, limit: int = 80) -> str:
    """A value as an error shows it, cut to `limit` characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of too many digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def short_text(text: object, limit: int = 200) -> str:
    """A name as an error shows it, cut to `limit` characters."""
    text = str(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def differences(found: object, wanted: object, at: str = "") -> set[str]:
    """The dotted keys in which two nested values differ."""
    if isinstance(found, dict) and isinstance(wanted, Mapping):
        keys = found.keys() | wanted.keys()
        return {d for key in keys for d in differences(found.get(key), wanted.get(key), f"{at}.{key}".strip("."))}
    if isinstance(found, list) and isinstance(wanted, list | tuple) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return {d for index, (a, b) in pairs for d in differences(a, b, f"{at}.{index}")}
    return set() if found == wanted else {at}
