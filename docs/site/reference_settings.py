"""The page docs/reference/settings.md: every key of a recipe, from the records that read it."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from open_exaone.base.config import Config
from open_exaone.data.config import SourceConfig
from open_exaone.pipeline.ablation_config import AblationConfig
from open_exaone.pipeline.config import Recipe
from open_exaone.serve.config import ServeConfig
from open_exaone.tasks.generated import GeneratedSource

HEAD = """# Reference: settings

Every key of a recipe, with its type, its default and its help, from the records in the code that read it.
`python docs/site/generate_reference.py` writes this page. [training.md](../training.md) explains how a recipe is put
together; a wrong key or value is refused with what is allowed. On the command line, `--set` takes the same keys:
`--set rl.group_size=16` for the stage named `rl`.

A heading is the place in the file: `data.NAME` is the table `[data.NAME]`, `data.NAME.sources` one of its list of
sources, `stages` one of the tables `[[stages]]`, and `stages.optimizer` the value of such a table's key `optimizer`.
Where several records may stand in one place, the heading has what chooses this one, such as kind "rl". A record that
stands in several places is listed once.
"""
ROOTS = (
    ("The recipe", Recipe),
    ("`ablations.NAME`", AblationConfig),
    ("`exaone serve --limit NAME=VALUE`", ServeConfig),
)
UNTAGGED = {SourceConfig: "rows", GeneratedSource: "generated problems"}
TYPES = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "none"}
BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
UNITS = {"s": "seconds", "tokens": "tokens", "bytes": "bytes", "steps": "steps", "epochs": "passes"}


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for title, root in ROOTS:
        for place, record in records(root, title):
            parts.append(f"## {place}\n\n{plain(_first_paragraph(record))}\n\n{table(record, place)}")
    return "\n".join(parts)


def records(root: type[Config], title: str) -> Iterator[tuple[str, type[Config]]]:
    """Each record under `root` once, with the first place where it stands; what a table holds follows the table."""
    seen: set[type[Config]] = set()

    def walk(record: type[Config], place: str, keys: str) -> Iterator[tuple[str, type[Config]]]:
        if record in seen:
            return
        seen.add(record)
        yield place, record
        for name, field in record.model_fields.items():
            inside = f"{keys}.{name}".strip(".") + (".NAME" if get_origin(field.annotation) is dict else "")
            found = held(field.annotation)
            for inner in found:
                yield from walk(inner, f"`{inside}`{_which(inner, among=len(found))}", inside)

    yield from walk(root, title, title.strip("`") if title.startswith("`ablations") else "")


def held(annotation: Any) -> list[type[Config]]:
    """The records in a field's type."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    return [record for argument in get_args(annotation) for record in held(argument)]


def _which(record: type[Config], among: int) -> str:
    """What chooses this record among several that may stand in one place, such as `, kind "rl"`."""
    if record in UNTAGGED:
        return f", {UNTAGGED[record]}"
    if among == 1 and not any(len(values) == 1 for _, values in _tags(record)):
        return ""
    quoted = ((key, ", ".join(f'"{value}"' for value in values)) for key, values in _tags(record))
    return "".join(f", {key} {values}" for key, values in quoted)


def _tags(record: type[Config]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for key in ("kind", "name", "rule"):
        field = record.model_fields.get(key)
        if field is not None and (values := get_args(field.annotation)):
            yield key, values


def table(record: type[Config], place: str = "") -> str:
    """The keys of one record as a table."""
    rows = ["| key | type | default | what it does |", "|---|---|---|---|"]
    for name, field in record.model_fields.items():
        help_text = field.description or _inherited(record, name)
        rows.append(
            f"| `{name}` | {_cell(type_of(name, field))} | {_cell(default_of(field))} | {_cell(plain(help_text))} |"
        )
    return "\n".join(rows) + "\n"


def _inherited(record: type[Config], name: str) -> str:
    """The help of a field that only changes the default of its parent's; of a choice of record, what it chooses."""
    for parent in record.__mro__[1:]:
        fields = getattr(parent, "model_fields", {})
        if name in fields and fields[name].description:
            return str(fields[name].description)
    return "Chooses this table."


def type_of(name: str, field: FieldInfo) -> str:
    """What a value may be: its type, its bounds, and its unit where the name says it."""
    parts = [_type(field.annotation)]
    for part in _constraints(field):
        parts += [
            f"{word} {_number(value)}"
            for key, word in BOUNDS.items()
            if (value := getattr(part, key, None)) is not None
        ]
        if least := getattr(part, "min_length", None):
            parts.append("not empty" if least == 1 else f"at least {least} long")
    unit = UNITS.get(name.rsplit("_", 1)[-1]) if "integer" in parts[0] or "number" in parts[0] else None
    return ", ".join(parts) + (f" ({unit})" if unit and name != unit[:1] else "")


def _constraints(field: FieldInfo) -> list[Any]:
    """The limits of a field, which pydantic keeps beside the type or, of `int | None`, inside it."""
    return [
        *field.metadata,
        *(part for inner in get_args(field.annotation) for part in getattr(inner, "__metadata__", ())),
    ]


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _type(annotation: Any) -> str:
    if annotation in TYPES:
        return TYPES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if held(annotation):
        many = {tuple: "list of tables", dict: "tables by name"}.get(origin, "table")  # type: ignore[arg-type]
        return many if origin in (tuple, dict) or not any(map(_is_text, arguments)) else f"text or {many}"
    if hasattr(annotation, "__metadata__"):
        return _type(arguments[0])
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"table of {_type(arguments[1])}"
    if str(origin) == "typing.Literal":
        return " or ".join(f"`{json.dumps(value)}`" for value in arguments)
    if arguments:  # a union; what may be left out is seen by its default
        return " or ".join(dict.fromkeys(_type(inner) for inner in arguments if inner is not type(None)))
    return getattr(annotation, "__name__", str(annotation))


def _is_text(annotation: Any) -> bool:
    return annotation is str or bool(hasattr(annotation, "__metadata__") and _is_text(get_args(annotation)[0]))


def default_of(field: FieldInfo) -> str:
    """The default as a recipe would write it."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "left out"
    if isinstance(value, Config):
        value = value.model_dump(mode="json", exclude_defaults=True)
        return f"`{toml(value)}`" if value else "its defaults"
    return f"`{toml(value)}`"


def toml(value: Any) -> str:
    """A value as TOML, in one line."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else str(value)


def _first_paragraph(record: type[Config]) -> str:
    return (record.__doc__ or "").strip().split("\n\n")[0]


def plain(text: str) -> str:
    """Help text as Markdown: what is no code shows as it was written."""
    pieces = re.split(r"(`[^`\n]+`)", " ".join(text.split()))
    return "".join(piece if piece.startswith("`") else _escaped(piece) for piece in pieces)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", text).replace("<", "&lt;")


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
