"""Which function answers which path."""

from dataclasses import asdict
from typing import Any

from open_exaone.base.config import Config
from open_exaone.serve.answer import Answer
from open_exaone.serve.conversation import rendered
from open_exaone.serve.errors import ApiError, parsed
from open_exaone.serve.fields import UNSUPPORTED
from open_exaone.serve.openapi import description
from open_exaone.serve.routes.chat import ChatDialect, ChatRequest, ask_chat
from open_exaone.serve.routes.completions import CompletionDialect, CompletionRequest, ask_completion
from open_exaone.serve.routes.messages import (
    CountRequest,
    MessagesDialect,
    MessagesRequest,
    ask_messages,
    conversation_of,
)
from open_exaone.serve.routes.response_request import ResponsesRequest
from open_exaone.serve.routes.responses import ResponsesDialect, ask_response
from open_exaone.serve.routes.route import Route
from open_exaone.serve.routes.tokens import DetokenizeRequest, TokenizeRequest, detokenize, tokenize
from open_exaone.serve.service import Served, Service


async def chat(service: Service, body: bytes) -> Answer:
    """Goes on with a conversation."""
    request = parsed(ChatRequest, body, UNSUPPORTED)
    ask = await ask_chat(service, request)
    ticket = service.open(ask)
    return Answer(service, ask, ticket, ChatDialect(ask, ticket, request))


async def completions(service: Service, body: bytes) -> Answer:
    """Goes on with texts."""
    request = parsed(CompletionRequest, body, UNSUPPORTED)
    ask = await ask_completion(service, request)
    ticket = service.open(ask)
    return Answer(service, ask, ticket, CompletionDialect(ask, ticket, request))


async def responses(service: Service, body: bytes) -> Answer:
    """Goes on with a conversation of items."""
    request = parsed(ResponsesRequest, body, UNSUPPORTED)
    ask, turns = await ask_response(service, request)
    ticket = service.open(ask)
    return Answer(service, ask, ticket, ResponsesDialect(service, ask, ticket, request, turns))


async def messages(service: Service, body: bytes) -> Answer:
    """Goes on with a conversation, as Anthropic's clients ask."""
    request = parsed(MessagesRequest, body, UNSUPPORTED)
    ask = await ask_messages(service, request)
    ticket = service.open(ask)
    return Answer(service, ask, ticket, MessagesDialect(ask, ticket, request))


async def count_tokens(service: Service, body: bytes) -> dict[str, Any]:
    """How many tokens a conversation's prompt has."""
    request = parsed(CountRequest, body)
    conversation = conversation_of(request)
    return {"input_tokens": len(await rendered(service, service.model(request.model), conversation))}


class EndReasoning(Config):
    """A request without fields."""


async def end_reasoning(service: Service, body: bytes, id: str) -> dict[str, Any]:
    """Ends the thought of a reply that is being generated; the answer follows."""
    if body.strip():
        parsed(EndReasoning, body)
    ticket = service.tickets.get(id.rpartition("-")[2].rpartition("_")[2])
    if ticket is None:
        raise ApiError(404, "no request of this id is being answered", param="id")
    return {"id": id, "ended": await service.worker.end_thought(ticket)}


async def models(service: Service, body: bytes) -> dict[str, Any]:
    """The models that are served."""
    return {"object": "list", "data": [_model(model) for model in service.models.values()]}


async def model(service: Service, body: bytes, model: str) -> dict[str, Any]:
    """One of the models."""
    return _model(service.model(model))


def _model(model: Served) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "open-exaone",
        "max_model_len": model.context,
        "chat_format": model.tokenizer.chat_format.name,
        "can_think": model.tokenizer.chat_format.opens_thought(True),
        "examples": [asdict(example) for example in model.examples],
    }


async def health(service: Service, body: bytes) -> dict[str, Any]:
    """Whether the server is running; status 503 while it stops."""
    return {"status": "draining" if service.is_draining else "ok"}


async def metrics(service: Service, body: bytes) -> str:
    """Counters and durations, as Prometheus reads them."""
    return service.metrics.text(service.gauges())


async def openapi(service: Service, body: bytes) -> dict[str, Any]:
    """This description."""
    return description(ROUTES)


ROUTES = (
    Route("POST", "/v1/chat/completions", chat, "Generate the next message of a conversation", ChatRequest),
    Route("POST", "/v1/completions", completions, "Complete texts or token ids", CompletionRequest),
    Route("POST", "/v1/responses", responses, "Generate a response to a conversation of items", ResponsesRequest),
    Route("POST", "/v1/messages", messages, "Generate the next message of a conversation (Anthropic)", MessagesRequest),
    Route("POST", "/v1/messages/count_tokens", count_tokens, "Count a conversation's tokens", CountRequest),
    Route("POST", "/v1/requests/{id}/end_reasoning", end_reasoning, "End the thought of a running reply", EndReasoning),
    Route("GET", "/v1/models", models, "The models that are served"),
    Route("GET", "/v1/models/{model}", model, "One of the models"),
    Route("POST", "/tokenize", tokenize, "The token ids of a text or a conversation", TokenizeRequest),
    Route("POST", "/detokenize", detokenize, "The text of token ids", DetokenizeRequest),
    Route("GET", "/health", health, "Whether the server is running"),
    Route("GET", "/metrics", metrics, "What the server has done, for Prometheus"),
    Route("GET", "/openapi.json", openapi, "This description"),
)
