"""The error that a client gets when its request cannot be answered, in OpenAI's and in Anthropic's shape."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from open_exaone.base.config import did_you_mean, short, short_text

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large"}
_TYPES |= {429: "rate_limit_error", 500: "server_error", 503: "overloaded_error", 504: "timeout_error"}
Record = TypeVar("Record", bound=BaseModel)


class ApiError(Exception):
    """A request that is refused, or has failed.

    Args:
        param: the field that is wrong.
        code: OpenAI's word for what is wrong.
        retry_after_s: when to ask again.
        details: for programs, as Anthropic's clients read them.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: int | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self._details = status, message, param, code, details
        self.headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
        if status == 401:
            self.headers["www-authenticate"] = "Bearer"

    @property
    def type(self) -> str:
        return _TYPES.get(self.status, "invalid_request_error")

    def openai(self) -> dict[str, Any]:
        """As OpenAI answers."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    def anthropic(self) -> dict[str, Any]:
        """As Anthropic answers."""
        kind = {"server_error": "api_error"}.get(self.type, self.type)
        details = {} if self._details is None else {"details": self._details}
        return {"type": "error", "error": {"type": kind, "message": self.message, **details}}


def parsed(schema: type[Record], body: bytes, unsupported: Mapping[str, str] | None = None) -> Record:
    """A request's record.

    Args:
        unsupported: fields that clients may know from elsewhere: why they are not taken, and what to do.

    Raises:
        ApiError: it is not JSON, or a field is missing, unknown or wrong; names the field.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        details = error.errors(include_url=False)
    # Of a union each member complains; the fault that lies deepest is what was meant.
    fault = max(details, key=lambda detail: len(_path(detail["loc"])))
    path, message = _path(fault["loc"]), str(fault["msg"])
    if fault["type"] == "extra_forbidden" and path[-1:] != [fault["loc"][-1]]:
        path.append(fault["loc"][-1])  # a client's word, which may be anything
    if fault["type"] == "json_invalid":
        raise ApiError(400, f"the body is not valid JSON: {short_text(message)}", code="invalid_json")
    where = short_text(".".join(map(str, path))) or "the body"
    if fault["type"] == "extra_forbidden":
        known = schema.model_fields if len(path) == 1 else ()
        why = (unsupported or {}).get(str(path[-1])) or f"this field is not supported{did_you_mean(path[-1], known)}"
        raise ApiError(400, f"{where}: {why}", param=where, code="unsupported_parameter")
    if fault["type"] == "missing":
        raise ApiError(400, f"{where}: is missing", param=where, code="missing_required_parameter")
    message = message.removeprefix("Value error, ")
    shown = "" if isinstance(fault["input"], dict | list) else f" = {short(fault['input'])}"
    raise ApiError(400, f"{where}{shown}: {short_text(message)}", param=where, code="invalid_value")


def _path(location: Sequence[str | int]) -> list[str | int]:
    """A fault's place as a client writes it: pydantic also names the members of unions, which are no fields."""
    return [part for part in location if isinstance(part, int) or (part.isidentifier() and part not in _KINDS)]


_KINDS = {"str", "int", "float", "bool", "list", "dict", "tuple", "none"}
