"""The columns of rows: the names that each field goes by, and the format that the columns of a row make.

    Columns(value, layout_of(value, source)).get("prompt")
    detect_format(value, source) -> RowFormat | None

docs/data.md says which of them each format reads.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from open_exaone.base.config import short
from open_exaone.data.config import KNOWN, SourceConfig
from open_exaone.data.rows import BadRow
from open_exaone.data.tools import check_depth

RowFormat = Literal["messages", "prompt_completion", "pairs", "unpaired", "problems", "text"]
# What a row of each format needs; the first line that a row's columns make is its format.
NEEDS: tuple[tuple[RowFormat, tuple[str, ...]], ...] = (
    ("pairs", ("chosen", "rejected")),
    ("pairs", ("messages", "rejected")),
    ("pairs", ("messages", "completions")),
    ("unpaired", ("messages", "label")),
    ("unpaired", ("prompt", "completion", "label")),
    ("messages", ("messages",)),
    ("prompt_completion", ("prompt", "completion")),
    ("problems", ("question", "answer")),
    ("problems", ("question", "solution")),
    ("prompt_completion", ("question", "completion")),
    ("problems", ("prompt", "answer")),
    ("problems", ("prompt", "solution")),
    ("text", ("text",)),
)
FORMATS: tuple[RowFormat, ...] = ("pairs", "unpaired", "messages", "prompt_completion", "problems", "text")
_ASKED = ("prompt", "question", "input", "history", "system", "tools")
READS: dict[RowFormat, frozenset[str]] = {
    "pairs": frozenset((*_ASKED, "messages", "chosen", "rejected", "completions")),
    "unpaired": frozenset((*_ASKED, "messages", "completion", "thought", "label")),
    "messages": frozenset(("messages", "system", "tools")),
    "prompt_completion": frozenset((*_ASKED, "completion", "thought")),
    "problems": frozenset(("question", "prompt", "input", "answer", "solution", "options", "thought", "reply"))
    | {"verifier", "language", "task", "metadata"},
    "text": frozenset(("text",)),
}
# What would change the meaning of a row: where a format does not read them, a row that has them is a bad row.
_CONTEXT = ("system", "history", "tools", "thought")
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")
_LABELS = ("label", "kto_tag")  # of unpaired preferences: a reply may be one to be learned away from
_ONE_ALONE = ("messages", "system", "tools", "prompt", "completion", "chosen", "rejected", "question", "label")
_LEARNED = ("weight", "train", "training", "loss")  # of a turn; a row has no such column, and would be learned
_TAKE_OUT = "take the row out, or list the column in the source's `ignore`"
_IGNORE = "leave the column out, or list it in the source's `ignore`"


class Layout(NamedTuple):
    """What the columns of a row are; the same for all rows of the same columns."""

    names: Mapping[str, tuple[str, ...]]  # field -> the columns that may hold it, the usual name first
    fields: Mapping[str, str]  # which column holds what, where the configuration names it
    formats: tuple[tuple[RowFormat, tuple[str, ...]], ...]  # the lines of NEEDS that these columns may make
    rivals: tuple[str, ...]  # fields that several columns hold
    watched: tuple[
        str, ...
    ] = ()  # columns that make a row a bad one where they are not empty: they change what it says
    unread: tuple[str, ...] = ()  # the other columns that nothing reads; those of a problem are its metadata
    turns: str | None = None  # the one column of a conversation that stands alone, without a system turn or tools


class Columns(NamedTuple):
    """A row, looked at by our names."""

    value: Mapping[str, Any]
    layout: Layout

    def get(self, field: str) -> Any:
        """A field's value; None where it is missing or null."""
        names = self.layout.names.get(field)
        if names is None:
            return None
        for name in names:
            found = self.value.get(name)
            if found is not None or ("." in name and (found := look_up(self.value, name)) is not None):
                return found
        return None

    def name(self, field: str) -> str | None:
        """The column that holds a field; None where the row has none, or a null."""
        for name in self.layout.names.get(field, ()):
            if look_up(self.value, name) is not None:
                return name
        return None

    def column_name(self, field: str) -> str:
        """What to call a field in an error."""
        names = self.layout.names.get(field) or KNOWN[field] or (field,)
        return names[0] if len(names) == 1 else self.name(field) or names[0]

    def text(self, field: str) -> str:
        """A field that must be a text with something in it."""
        value, name = self.get(field), self.column_name(field)
        if value is None:
            raise BadRow(name, "missing field", "is missing", f"name its column in fields: {{{field} = …}}")
        return some_text(value, name)


def look_up(value: Any, name: str) -> Any:
    """A column, or behind a dot a key of an object in it; None where there is none."""
    if name in value or "." not in name:
        return value.get(name)
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return None
        value = value[part]
    return value


def some_text(value: Any, name: str) -> str:
    """A value that must be a text with something in it."""
    if not isinstance(value, str):
        raise BadRow(name, "wrong type", f"must be a text, not {short(value)}")
    if not value or value.isspace():
        raise BadRow(name, "empty", "is empty")
    return value


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: null, a blank text, or a list of such or empty values."""
    if isinstance(value, str):
        return not value or value.isspace()
    if isinstance(value, list | tuple):
        return all(item is None or item in ("", [], {}) for item in value)
    return value is None or value == {}


def layout_of(columns: Collection[Any], source: SourceConfig, format: RowFormat | None = None) -> Layout:
    """What the columns of a row are, and which of them a format leaves unread."""
    present = {name for name in columns if isinstance(name, str) and name not in source.ignore}
    claimed = set(source.fields.values())
    names: dict[str, tuple[str, ...]] = {}
    is_question = any(name in present for name in ("prompt", *KNOWN["question"])) or "question" in source.fields
    for field, known in KNOWN.items():
        if field in source.fields:
            names[field] = (source.fields[field],)
            continue
        found = tuple(name for name in known if {name, name.split(".")[0]} & present and name not in claimed)
        if field == "prompt" and (len(found) > 1 or is_question):
            found = tuple(name for name in found if name != "input")  # which is then what stands behind the prompt
        if field == "input":
            found = tuple(name for name in found if name not in names.get("prompt", ()))
        if found:
            names[field] = found
    formats = tuple(line for line in NEEDS if all(field in names for field in line[1]))
    rivals = tuple(field for field in _ONE_ALONE if len(names.get(field, ())) > 1)
    layout = Layout(names, source.fields, formats, rivals)
    if format is None:
        return layout
    read = [name for field in READS[format] | {"id", "domain"} for name in names.get(field, ())[:1]]
    used = {*read, *(name.split(".")[0] for name in read)}
    unread = tuple(name for name in columns if name in present and name not in used)
    layout = layout._replace(watched=_watched(present, layout, format), unread=unread)
    return layout._replace(turns=_only_turns(present, layout) if format == "messages" else None)


def _only_turns(present: Collection[str], layout: Layout) -> str | None:
    """The column of turns where its rows can be nothing else than a conversation, of which it is the whole."""
    held = layout.names.get("messages", ())
    is_alone = layout.formats == (("messages", ("messages",)),) and len(held) == 1 and held[0] in present
    has_more = layout.watched or layout.rivals or {"system", "tools"} & set(layout.names)
    return held[0] if is_alone and not has_more else None


def detect_format(value: Any, source: SourceConfig) -> RowFormat | None:
    """The format that a row's columns make, None where they make none; a column that is null is none."""
    return format_of(Columns(value, layout_of(value, source))) if isinstance(value, dict) else None


def format_of(columns: Columns) -> RowFormat | None:
    for format, needed in columns.layout.formats:
        for field in needed:
            value = columns.get(field)
            if value is None or (field == "label" and not isinstance(value, bool)):  # a label may be anything else
                break
        else:
            return format
    return None


def _watched(present: Collection[str], layout: Layout, format: RowFormat) -> tuple[str, ...]:
    found = [name for name in _MEDIA if name in present and name not in layout.fields.values()]
    if format != "text":
        for field in _CONTEXT:
            if field not in READS[format]:
                found += layout.names.get(field, ())
    if format in ("messages", "prompt_completion"):
        found += [name for name in _LABELS if name in present]
    if format != "problems":
        found += [name for name in _LEARNED if name in present and name not in layout.fields.values()]
    return tuple(dict.fromkeys(found))


def check_unread(columns: Columns, format: RowFormat) -> None:
    """Refuses what would be dropped without a word.

    Raises:
        BadRow: a column that means something is not read, or two columns hold one field.
    """
    for name in columns.layout.watched:
        value = look_up(columns.value, name)
        if name in _LABELS:
            if isinstance(value, bool):
                why = f"is {str(value).lower()}: of an unpaired preference, which the format {format} does not read"
                fix = 'set format = "unpaired" and learn it with KTO, or list the column in the source\'s `ignore`'
                raise BadRow(name, "not read", why, fix)
        elif name in _LEARNED:
            if value in (0, False):
                raise BadRow(name, "not read", f"is {short(value)}, and a whole row is always learned", _TAKE_OUT)
        elif not is_empty(value):
            why = "holds what is not text" if name in _MEDIA else f"is not read in rows of the format {format}"
            raise BadRow(name, "not read", why, _IGNORE)
    for field in columns.layout.rivals:
        _check_rivals(columns, field)


def check_one_prompt(columns: Columns) -> None:
    """Refuses a row whose prompt and question say different things: one of them would be dropped.

    Raises:
        BadRow: names both columns.
    """
    names = [columns.column_name(field) for field in ("prompt", "question") if field in columns.layout.names]
    _check_alike(columns, names, "prompt")


def _check_rivals(columns: Columns, field: str) -> None:
    _check_alike(columns, columns.layout.names[field], field)


def _check_alike(columns: Columns, names: Iterable[str], field: str) -> None:
    held = [(name, value) for name in names if not is_empty(value := look_up(columns.value, name))]
    for name, value in held[1:]:
        check_depth(value, name)
        if value != held[0][1]:
            fix = f"name the one to read in fields: {{{field} = …}}, and list the other in the source's `ignore`"
            raise BadRow(name, "two columns", f"and {held[0][0]} both hold the {field}, and differ", fix)
