"""What a block of code defines, needs and reads, and a program joined from several blocks."""

import ast
import builtins
import re
import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from textwrap import dedent

from open_exaone.verify.code.prelude import with_header

# Compiling a reply warns of its escapes; nobody can act on that.
warnings.filterwarnings("ignore", category=SyntaxWarning, module="<reply>")

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_READERS = frozenset({"input", "raw_input", "stdin", "fileinput"})
_READS = re.compile(r"\binput[ \t]*\(|\bstdin\b|\bopen\(0")  # of what is not valid Python
_FAKES = re.compile(r"stdin[ \t]*=[ \t]*(?:io\.)?StringIO|builtins\.input|[\"']sys\.stdin[\"']|\bsubprocess\b")


@dataclass(frozen=True)
class Statement:
    """A statement of a piece, at its top level."""

    node: ast.stmt
    text: str

    @cached_property
    def binds(self) -> Set[str]:
        """The module's names that it binds."""
        if isinstance(self.node, (*_FUNCTIONS, ast.ClassDef)):
            return {self.node.name}
        return {name for item in ast.walk(self.node) for name in _stored(item)}

    @cached_property
    def needs(self) -> Set[str]:
        """The names that it uses and never binds."""
        items = list(ast.walk(self.node))
        loaded = {item.id for item in items if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load)}
        return loaded - {name for item in items for name in _stored(item)} - vars(builtins).keys()

    @cached_property
    def computes(self) -> bool:
        return not isinstance(self.node, _DEFINITIONS) and any(isinstance(n, ast.Call) for n in ast.walk(self.node))

    @cached_property
    def reads(self) -> bool:
        """Whether it reads the standard input."""
        return any(map(_reads, ast.walk(self.node)))

    @property
    def is_telling(self) -> bool:
        """Whether it does what prose cannot: it defines, imports, loops or prints something."""
        call = self.node.value if isinstance(self.node, ast.Expr) else None
        is_print = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"
        return is_print or isinstance(self.node, (*_DEFINITIONS, ast.For, ast.While))

    def defines(self) -> Set[str]:
        """The names that tests may call, methods of `class Solution` too; no stub, and no method without a class."""
        node = self.node
        inner = node.body if isinstance(node, ast.ClassDef) and node.name == "Solution" else []
        methods = {item.name for item in inner if isinstance(item, _FUNCTIONS) and not _is_stub(item)}
        if isinstance(node, _FUNCTIONS) and (_is_stub(node) or [arg.arg for arg in node.args.args[:1]] == ["self"]):
            return methods
        return methods | self.binds


@dataclass(frozen=True)
class Piece:
    """A block of code, or a whole reply that is one."""

    text: str
    is_parsed: bool = True  # False where it is too long for that

    @cached_property
    def flush_text(self) -> str:
        """Without the indentation that all lines share."""
        return dedent(self.text) if self.text.lstrip("\n")[:1] in (" ", "\t") else self.text

    @cached_property
    def body(self) -> Sequence[Statement] | None:
        """Its statements; None where it is not valid Python."""
        nodes, lines = parsed(self.flush_text) if self.is_parsed else None, self.flush_text.split("\n")
        if nodes is None:
            return None
        return [Statement(node, "\n".join(lines[_first_line(node) - 1 : node.end_lineno])) for node in nodes]

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing but comments, or shows an interpreter's prompt."""
        return self.body == [] or not self.text.strip() or self.text.lstrip().startswith((">>>", "In ["))

    @property
    def is_telling(self) -> bool:
        return any(statement.is_telling for statement in self.body or ())

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[Statement]]:
        """What binds each of its names."""
        found: dict[str, list[Statement]] = {}
        for statement in self.body or ():
            for name in statement.binds:
                found.setdefault(name, []).append(statement)
        return found

    def defined(self, names: Set[str]) -> Set[str]:
        """Those of the names that tests could call in it."""
        if self.body is None:
            return names & set(re.findall(r"\b(?:def|class)[ \t]+(\w+)", self.text))
        return names & {name for statement in self.body for name in statement.defines()}


def parsed(text: str) -> list[ast.stmt] | None:
    """The statements of a program, or None where it is not valid Python."""
    try:
        return ast.parse(text, "<reply>").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None


def reads_stdin(chosen: Piece, pieces: Sequence[Piece]) -> bool:
    """Whether a piece, with what it needs of the others, reads its standard input, and none of its own making."""
    if _FAKES.search(chosen.text):
        return False
    if chosen.body is None:
        return bool(_READS.search(chosen.text))
    return any(statement.reads for statement in [*chosen.body, *linked(chosen, pieces, frozenset())])


def joined(chosen: Piece, pieces: Sequence[Piece], names: Set[str]) -> str:
    """A piece with what it and the tests need of the others before it."""
    needed = groupby(linked(chosen, pieces, names), key=lambda found: (found.node.lineno, found.text))
    header = "\n".join(text for (_, text), _ in needed)  # of several statements in a line once
    return with_header(chosen.flush_text, header) if header else chosen.text


def linked(chosen: Piece, pieces: Sequence[Piece], names: Set[str]) -> list[Statement]:
    """What a piece and the tests need of the others: of the nearest before it that has a name, or else behind it.

    It is the statements that bind a needed name, or, for a program from stdin to stdout (`names` is empty), the whole
    piece where such a statement computes something: its lines read the input in turn.
    """
    if chosen.body is None:
        return []
    place = next(place for place, piece in enumerate(pieces) if piece is chosen)
    order = [*range(place - 1, -1, -1), *range(place + 1, len(pieces))]
    nearest = {name: index for index in reversed(order) for name in pieces[index].by_name}
    todo = {name for statement in chosen.body for name in statement.needs} | (names - chosen.defined(names))
    seen, taken, whole = set(chosen.by_name), set[Statement](), set[int]()
    while todo := todo - seen:
        seen |= todo
        found = set[Statement]()
        for name in todo & nearest.keys():
            index = nearest[name]
            statements = pieces[index].by_name[name]
            if names or not any(statement.computes for statement in statements):
                found.update(statements)
            elif index not in whole:
                whole.add(index)
                found.update(pieces[index].body or ())
        todo = {name for statement in found - taken for name in statement.needs}
        taken |= found
    return [statement for piece in pieces for statement in piece.body or () if statement in taken]


def continuation(text: str, prompt: str, name: str) -> str | None:
    """The body of the function that a prompt begins, where a text goes on with it; indented, without what follows it.

    A model may leave out the indentation of the first line, or of all. Behind the body the text's further definitions
    are kept; what a base model runs on with, such as its own tests, is not.
    """
    lines = text.strip("\n").split("\n")
    end = next(
        (place for place, line in enumerate(lines) if place and line.strip() and line[0] not in " \t"), len(lines)
    )
    cut, whole = "\n".join(lines[:end]), "\n".join(lines)
    indented = "\n".join(f"    {line}" if line.strip() else line for line in lines)
    for body in dict.fromkeys((cut, f"    {cut}", indented, whole)):
        program = parsed(f"{prompt.rstrip()}\n{body}\n") if body[:1] in (" ", "\t") else None
        function = next((n for n in program or () if isinstance(n, _FUNCTIONS) and n.name == name), None)
        if function and _returns(function):
            rest = Piece("\n".join(lines[end:]) if body.endswith(cut) else "")
            further = [item.text for item in rest.body or () if isinstance(item.node, _DEFINITIONS)]
            is_all = len(further) == len(rest.body or ())
            return "\n".join([body, rest.text] if further and is_all else [body.rstrip("\n"), *further]) + "\n"
    return None


def _stored(item: ast.AST) -> Set[str]:
    """The names that a node binds, be it in an inner scope."""
    if isinstance(item, ast.Name):
        return frozenset() if isinstance(item.ctx, ast.Load) else {item.id}
    if isinstance(item, (*_FUNCTIONS, ast.ClassDef)):
        return {item.name}
    if isinstance(item, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in item.names}
    return {item.arg} if isinstance(item, ast.arg) else frozenset()


def _reads(item: ast.AST) -> bool:
    if isinstance(item, ast.Call) and item.args and isinstance(item.args[0], ast.Constant):
        return (_name(item.func), item.args[0].value) in (("open", 0), ("read", 0), ("open", "/dev/stdin"))
    if isinstance(item, ast.Name | ast.Attribute) and not isinstance(item.ctx, ast.Store):
        return _name(item) in _READERS
    return isinstance(item, ast.ImportFrom) and any(alias.name == "stdin" for alias in item.names)


def _returns(function: ast.AST) -> bool:
    """Whether a function itself returns something, not one inside it."""
    todo = [function]  # a long sum is nested more deeply than Python may call
    while todo:
        for item in ast.iter_child_nodes(todo.pop()):
            if isinstance(item, ast.Return | ast.Yield | ast.YieldFrom):
                return True
            if not isinstance(item, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
                todo.append(item)
    return False


def _first_line(node: ast.stmt) -> int:
    return min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", ()))])


def _is_stub(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function only says what it should do."""
    rest = [item for item in node.body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))]
    return all(isinstance(item, ast.Pass) or (isinstance(item, ast.Raise) and _is_not_done(item.exc)) for item in rest)


def _is_not_done(error: ast.expr | None) -> bool:
    """Whether what is raised is a NotImplementedError, be it called or not."""
    return _name(error.func if isinstance(error, ast.Call) else error).startswith("NotImpl")


def _name(item: ast.AST | None) -> str:
    """Of a name, or the last one of `a.b.c`."""
    return getattr(item, "id", "") or getattr(item, "attr", "")
