"""What third-party scorers may evaluate of a reply: arithmetic and literals, never code.

Some scorers of reasoning-gym hand the text of a reply to Python's `eval`, by themselves or through sympy's
`parse_expr`. `evaluate` takes the place of `eval` there: it looks at the syntax tree first.
"""

import ast
from collections.abc import Mapping
from typing import Any

MAX_CHARS = 20_000
_TAKE_TEXT = frozenset({"Integer", "Float", "Rational", "Symbol", "Function"})  # sympy's parser writes these
_FUNCTIONS = """
    factorial factorial2 sqrt cbrt root exp log ln sin cos tan cot sec csc asin acos atan atan2 acot asec acsc
    sinh cosh tanh coth asinh acosh atanh Abs sign floor ceiling erf erfc erfi gamma beta binomial gcd lcm
    Add Mul Pow Mod Min Max re im conjugate abs pow round int float min max
"""
_CALLABLE = _TAKE_TEXT | set(_FUNCTIONS.split())
_ALLOWED = (
    *(ast.Expression, ast.Constant, ast.Name, ast.Load, ast.Call, ast.List, ast.Tuple, ast.Set, ast.Dict),
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


class RefusedError(Exception):
    """A text is more than arithmetic and literals."""


def evaluate(source: Any, names: Any = None, local_names: Mapping[str, Any] | None = None) -> Any:
    """Evaluates an expression as `eval` does, if it is arithmetic on numbers and names, or a literal.

    Raises:
        RefusedError: it is anything else, such as an attribute, a subscript, or a call of what is no known function.
        SyntaxError: it is no expression.
    """
    if not isinstance(source, str):
        raise RefusedError(f"{type(source).__name__} is not evaluated")
    if len(source) > MAX_CHARS:
        raise RefusedError(f"{len(source)} characters are not evaluated")
    tree = ast.parse(source.strip(), mode="eval")
    for node in ast.walk(tree):
        if not _is_allowed(node):
            raise RefusedError(f"{type(node).__name__} is not evaluated")
    return eval(compile(tree, "<expression>", "eval"), {"__builtins__": {}} if names is None else names, local_names)


def _is_allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Name):
        return not node.id.startswith("_")
    if isinstance(node, ast.Call):
        return not node.keywords and _is_known(node.func, node.args)
    return isinstance(node, _ALLOWED)


def _is_known(function: ast.expr, arguments: list[ast.expr]) -> bool:
    """Whether a call is of a known function; only what makes a number or a symbol takes a text."""
    if isinstance(function, ast.Call):  # an unknown function of sympy's: Function('f')(x)
        return isinstance(function.func, ast.Name) and function.func.id == "Function"
    if not isinstance(function, ast.Name) or function.id not in _CALLABLE:
        return False
    takes_text = any(isinstance(each, ast.Constant) and isinstance(each.value, str) for each in arguments)
    return not takes_text or function.id in _TAKE_TEXT
