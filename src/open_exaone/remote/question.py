"""One question to a language model that judges, behind an OpenAI-compatible endpoint.

Every question has a connection of its own and nothing is shared, so threads may ask at once; `remote.http` says what a
peer may do.
"""

import json
from collections.abc import Mapping, Sequence

from open_exaone.base.records import Outage
from open_exaone.remote.http import Caller, EndpointError, Limits, Server, Words, find_server
from open_exaone.remote.settings import Endpoint

__all__ = ["MAX_RESPONSE_BYTES", "EndpointError", "ask", "find_outage", "outage_of"]

MAX_RESPONSE_BYTES = 1 << 20
_PROBE_TOKENS = 16
_KEY = "check the key in the environment variable that [judge.endpoint] api_key_variable names"
_WORDS = Words(
    address="[judge.endpoint] base_url",
    key_variable="[judge.endpoint] api_key_variable",
    wrong_peer="check that [judge.endpoint] base_url names an OpenAI-compatible endpoint",
    fixes={
        400: "check [judge.endpoint] model, and that its context holds 8192 tokens",
        401: _KEY,
        403: _KEY,
        404: "check [judge.endpoint] base_url, which mostly ends in /v1, and model",
        429: "send fewer requests at the same time, or raise [judge.endpoint] timeout_s and max_attempts",
    },
)


def outage_of(error: EndpointError) -> Outage | None:
    """Whether the endpoint is down or refuses everybody; None where it only failed this question."""
    return Outage.DOWN if error.is_down else Outage.REFUSED if error.is_refusal else None


def ask(endpoint: Endpoint, messages: Sequence[Mapping[str, str]], *, max_tokens: int, temperature: float = 0.0) -> str:
    """The text of one chat completion.

    Attempts are repeated as `remote.http` says; all of them together take at most `endpoint.timeout_s`.

    Raises:
        ConfigError: the endpoint's settings cannot work: the address is none, or the key's variable is not set.
        EndpointError: no whole answer was got, or `max_tokens` cut it.
    """
    server = find_server(endpoint.base_url, endpoint.api_key_variable, _WORDS)
    question = {"model": endpoint.model, "messages": messages, "max_tokens": max_tokens, "temperature": temperature}
    return Caller(server).exchange(
        "POST",
        "/chat/completions",
        json.dumps(question).encode(),
        Limits(endpoint.timeout_s, endpoint.max_attempts, MAX_RESPONSE_BYTES),
        lambda body: _content(server, endpoint.model, body),
    )


def find_outage(endpoint: Endpoint) -> EndpointError | None:
    """Asks for a word or two: the error where the endpoint is down or refuses; None where it answers, whatever it says.

    Raises:
        ConfigError: see `ask`.
    """
    once = endpoint.model_copy(update={"max_attempts": 1})
    try:
        ask(once, [{"role": "user", "content": "Say OK."}], max_tokens=_PROBE_TOKENS)
    except EndpointError as error:
        return error if outage_of(error) else None
    return None


def _content(server: Server, model: str, body: bytes) -> str:
    """The text that a completion holds."""
    try:
        choice = json.loads(body)["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = f"its response is not a chat completion ({type(error).__name__})"
        raise server.problem(what, _WORDS.wrong_peer) from None
    if reason == "length":
        fix = "let it think less, or use a model that does not think"
        raise server.problem(f"the model {model} did not finish its reply", fix)
    if not isinstance(text, str):
        raise server.problem(f"the model {model} returned no text", "use a model that answers in text")
    return text
