"""/tokenize and /detokenize, as vLLM has them."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from open_exaone.base.config import Config
from open_exaone.serve.conversation import FunctionTool
from open_exaone.serve.errors import parsed
from open_exaone.serve.routes.chat import ChatMessage, TemplateKwargs
from open_exaone.serve.service import Service


class TokenizeRequest(Config):
    """A text or a conversation to tokenise."""

    model: str | None = None
    """The model's name; the first if left out."""
    prompt: str | None = None
    """A text; a marker's name in it is text."""
    messages: tuple[ChatMessage, ...] | None = Field(default=None, min_length=1)
    """A conversation, rendered up to where the reply begins."""
    tools: tuple[FunctionTool, ...] | None = None
    """The functions on offer in it."""
    chat_template_kwargs: TemplateKwargs | None = None
    """What the chat template is given."""
    add_special_tokens: bool = True
    """Whether a text gets what stands before plain texts, such as BOS."""

    @model_validator(mode="after")
    def _has_one(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give a prompt or messages, and not both")
        return self


class DetokenizeRequest(Config):
    """Ids to turn into text."""

    model: str | None = None
    """The model's name; the first if left out."""
    tokens: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...]
    """The ids."""


async def tokenize(service: Service, body: bytes) -> dict[str, Any]:
    """The token ids of a text or of a conversation's prompt."""
    request = parsed(TokenizeRequest, body)
    model = service.model(request.model)
    if request.prompt is not None:
        begin = model.tokenizer.text_begin_ids if request.add_special_tokens else []
        ids = (*begin, *await service.run(model.tokenizer.encode, request.prompt, size=len(request.prompt)))
    else:
        kwargs = request.chat_template_kwargs or TemplateKwargs()
        thinking = kwargs.enable_thinking if kwargs.enable_thinking is not None else kwargs.thinking
        ids = await service.render(
            model,
            [message.rendered() for message in request.messages or ()],
            thinking=service.config.thinking if thinking is None else thinking,
            tools=[tool.model_dump(exclude_none=True) for tool in request.tools or ()] or None,
            keeps_thoughts=bool(kwargs.preserve_thinking),
        )
    return {"count": len(ids), "max_model_len": model.context, "tokens": list(ids)}


async def detokenize(service: Service, body: bytes) -> dict[str, Any]:
    """The text of token ids; an id that no token has gives none."""
    request = parsed(DetokenizeRequest, body)
    model = service.model(request.model)
    return {"prompt": await service.run(model.tokenizer.decode, request.tokens, size=len(request.tokens))}
