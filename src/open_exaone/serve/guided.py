"""Replies that must be JSON, or calls of tools: grammars of llguidance, which the extra `guided` installs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from open_exaone.base.config import Config, short, short_text
from open_exaone.serve.errors import ApiError
from open_exaone.serve.service import Served
from open_exaone.text.chat import CALL_CLOSE, CALL_OPEN
from open_exaone.text.split import ReplySplitter
from open_exaone.text.stream import Detokenizer
from open_exaone.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


class JsonSchema(Config):
    """A JSON schema with a name."""

    name: str | None = None
    """Ignored."""
    description: str | None = None
    """Ignored."""
    schema_: dict[str, Any] = Field(alias="schema")
    """The schema."""
    strict: bool | None = None
    """Ignored: the answer always follows the schema."""


class ResponseFormat(Config):
    """What an answer must be."""

    type: Literal["text", "json_object", "json_schema"]
    """Any text, any JSON object, or JSON of a schema."""
    json_schema: JsonSchema | None = None
    """The schema, for the type json_schema."""


MOST_KEPT = 8  # compiled grammars: agents send the same tools again and again
MOST_REMAINDERS = 10_000  # a tenth of a second
# Elsewhere a small model may write blanks without end.
_SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


@dataclass(frozen=True, slots=True)
class Rule:
    """What replies of a model must be."""

    model: Served
    matcher: "LLMatcher"  # at the beginning; it stays there

    def constraint(self, thinking: bool, begun: str = "") -> "Guide":
        """For one reply; its thought is free.

        Args:
            begun: what the prompt has of it already.
        """
        return Guide(self.matcher.deep_copy(), self.model.tokenizer, _size(self.model), thinking, begun)


def rule_for(model: Served, response_format: ResponseFormat | None, *, max_bytes: int) -> Rule | None:
    """The rule of a response format.

    Raises:
        ApiError: the schema is missing, too large or invalid, or llguidance is not installed.
    """
    if response_format is None or response_format.type == "text":
        return None
    schema: Mapping[str, Any] = {"type": "object"}
    if response_format.type == "json_schema":
        if response_format.json_schema is None:
            raise ApiError(400, "response_format.json_schema: is missing", param="response_format")
        schema = response_format.json_schema.schema_
    text = f"start: /\\n{{0,2}}/ json\njson: %json {_text(schema, max_bytes)}"
    rule = _rule(model, text, "response_format")
    _check_constants(model, schema, "response_format")
    return rule


def tool_rule(
    model: Served, schemas: Mapping[str, Mapping[str, Any] | None], *, is_parallel: bool, max_bytes: int
) -> Rule:
    """The rule of a reply that calls one of some functions, or several.

    Args:
        schemas: of the arguments, by the functions' names.

    Raises:
        ApiError: a schema is too large or invalid, or llguidance is not installed.
    """
    variants = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": parameters or {"type": "object"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, parameters in schemas.items()
    ]
    schema: Mapping[str, Any] = variants[0] if len(variants) == 1 else {"anyOf": variants}
    opening, closing = (_literal(model.tokenizer, tag) for tag in (CALL_OPEN, CALL_CLOSE))
    more = '("\\n" call)*' if is_parallel else ""
    text = f"start: /\\n{{0,2}}/ call {more}\ncall: {opening} json {closing}\njson: %json {_text(schema, max_bytes)}"
    rule = _rule(model, text, "tools")
    _check_constants(model, schema, "tools")
    return rule


def _literal(tokenizer: Tokenizer, tag: str) -> str:
    """A tag in a grammar: a token of its own where it is one, else its text."""
    return tag if tokenizer.backend.token_to_id(tag) is not None else json.dumps(tag)


def _check_constants(model: Served, schema: object, param: str) -> None:
    """Refuses what a grammar cannot write: a marker, such as the end of a turn, is a token of its own and no text."""
    vocabulary = _vocabulary(model.engine.tokenizer, _size(model))
    added = model.tokenizer.backend.get_added_tokens_decoder().items()
    markers = [token.content for id, token in added if vocabulary.is_special_token(id)]
    for text in _constants(schema):
        for marker in markers:
            if marker in text:
                why = f"{param}: {short(text)} holds {marker}, a marker of this model, which no reply has as text"
                raise ApiError(400, f"{why}: name it otherwise", param=param, code="invalid_schema")


def _constants(schema: object) -> list[str]:
    """Texts that a schema has a reply write: names of properties, and values."""
    if isinstance(schema, list):
        return [text for part in schema for text in _constants(part)]
    found: list[str] = []
    for name, value in schema.items() if isinstance(schema, dict) else ():
        if name in ("const", "enum"):
            found.append(json.dumps(value, ensure_ascii=False))
        elif name == "properties" and isinstance(value, dict):
            found += [*value, *_constants(list(value.values()))]
        else:
            found += _constants(value)
    return found


def _text(schema: Mapping[str, Any], max_bytes: int) -> str:
    text = json.dumps({**schema, "x-guidance": _SPACING})
    if len(text) > max_bytes:
        raise ApiError(400, f"the JSON schema has {len(text)} bytes; at most {max_bytes}", param="response_format")
    if (product := math.prod(_divisors(schema))) > MOST_REMAINDERS:
        raise ApiError(
            400,
            f"the JSON schema's values of multipleOf have the product {short(product)}: at most {MOST_REMAINDERS}",
            param="response_format",
        )
    return text


def _divisors(schema: object) -> set[int]:
    """The digits of all values of multipleOf: the grammar of multiples of n has a state for each remainder."""
    found = set[int]()
    if isinstance(schema, Mapping):
        number = schema.get("multipleOf")
        if isinstance(number, int | float) and math.isfinite(number):
            found.add(_digits(number))
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list | tuple) else ()
    return found.union(*map(_divisors, inner))


def _digits(number: float) -> int:
    """A number without its decimal point: 25 of 2.5."""
    _, digits, exponent = Decimal(str(number)).normalize().as_tuple()
    return int("".join(map(str, digits))) * 10 ** max(0, int(exponent))


def _rule(model: Served, text: str, param: str) -> Rule:
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise ApiError(
            400,
            f"{param}: this server lacks llguidance, which restricts replies: pip install 'open-exaone[guided]'",
            param=param,
            code="unsupported_parameter",
        ) from error
    matcher = _compiled(model.engine.tokenizer, _size(model), LLMatcher.grammar_from_lark(text))
    if matcher.is_error():
        raise ApiError(400, f"{param}: {short_text(matcher.get_error(), 500)}", param=param, code="invalid_schema")
    return Rule(model, matcher)


@lru_cache(maxsize=MOST_KEPT)
def _compiled(tokenizer: Tokenizer, size: int, grammar: str) -> "LLMatcher":
    """The matcher of a grammar. Other threads go on meanwhile: llguidance holds no lock of Python's."""
    from llguidance import LLMatcher, LLParserLimits

    limits = LLParserLimits(initial_lexer_fuel=1_000_000, step_lexer_fuel=200_000, max_grammar_size=500_000)
    return LLMatcher(_vocabulary(tokenizer, size), grammar, log_level=0, limits=limits)


def _size(model: Served) -> int:
    return model.engine.model.config.vocab_size


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: Tokenizer, size: int) -> "LLTokenizer":
    from llguidance import LLTokenizer

    return LLTokenizer(tokenizer.backend.to_str(), n_vocab=size, eos_token=list(tokenizer.end_ids))


@dataclass(slots=True, eq=False)
class Guide:
    """The constraint of one reply (`engine.request.Constraint`): its thought may be anything but does not end the
    reply, and what follows is its grammar's."""

    _matcher: "LLMatcher"
    _tokenizer: Tokenizer
    _size: int
    _thinking: bool
    _begun: str
    _is_free: bool = field(init=False)
    _has_given_up: bool = field(init=False, default=False)  # a token was drawn that the grammar does not go on with
    _text: Detokenizer = field(init=False)
    _splitter: ReplySplitter = field(init=False)
    _mask: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        self._text = Detokenizer(self._tokenizer, skip_special=True)
        self._splitter = self._tokenizer.splitter(thinking=self._thinking)
        if self._begun:
            self._splitter.feed(self._begun)
        self._is_free = not self._splitter.finished
        self._mask = np.zeros(-(-self._size // 32), np.int32)

    def banned_ids(self) -> NDArray[np.int32]:
        if self._is_free:
            return np.array(self._tokenizer.end_ids, np.int32)
        # The answer is whole, or the grammar has given up: it ends.
        if self._has_given_up or self._matcher.is_stopped():
            allowed = np.zeros(self._size, bool)
            allowed[list(self._tokenizer.end_ids)] = True
        else:
            self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
            allowed = np.unpackbits(self._mask.view(np.uint8), bitorder="little")[: self._size].astype(bool)
        return np.flatnonzero(~allowed).astype(np.int32)

    def take(self, ids: Sequence[int]) -> None:
        for token in ids:
            if not self._is_free:
                self._has_given_up |= self._matcher.try_consume_tokens([token]) == 0
                continue
            self._splitter.feed(self._text.feed([token]))
            self._is_free = not self._splitter.finished
