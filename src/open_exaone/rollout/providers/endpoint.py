"""Answers from any OpenAI-compatible chat endpoint: vLLM, SGLang, llama.cpp's server, a company's own."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Request, Sampling, StopReason
from open_exaone.remote.http import Caller, EndpointError, Server
from open_exaone.rollout.config import ChatEndpoint
from open_exaone.rollout.provider import prompt_text, sample_seed
from open_exaone.rollout.providers.chat import CHOSEN, Chat
from open_exaone.rollout.providers.completion import ChatReply, cut_at_budget, num_reply_tokens, split, to_generation
from open_exaone.rollout.providers.context import NoRoomError, empty, read_overflow
from open_exaone.rollout.providers.server import ServerProvider, check_model

if TYPE_CHECKING:
    from torch import Tensor

_THINKS_AGAIN = "in some replies, the model began to think again after the forced end of its thought"
_CANNOT_CONTINUE = (
    "does not continue a reply that was begun, which a thinking budget and --faithfulness need; leave these out, take"
    " the local engine or vLLM in process, or serve the model with vLLM"
)


class EndpointProvider(ServerProvider):
    """Answers requests as chat completions: only text comes back; see `Provider` and `ChatEndpoint`.

    Of the sampling it gets what differs from the model's own distribution: `top_k`, `min_p`, `repetition_penalty` and
    `stop_ids` (as `stop_token_ids`) as vLLM and SGLang name them, the rest as OpenAI does. One that refuses one of
    these answers nothing, as its samples would be others. One that refuses seeds or the switch for thinking is asked
    without, and one whose context has no room for the token limit with a limit that fits; `notes` says so.

    Raises:
        ConfigError: a setting cannot work, or the endpoint has several models: names them.
        EndpointError: the endpoint does not say which models it has.
    """

    gives_ids = False
    tokenizer = None

    def __init__(self, config: ChatEndpoint) -> None:
        super().__init__(config)
        self._tag = config.thought_tag
        self._chat = Chat(self.servers, self.limits, config.model)
        self._has_continued = False

    @property
    def identity(self) -> Mapping[str, str]:
        return {"engine": self.engine, "model": self._chat.model}

    @property
    def notes(self) -> tuple[str, ...]:
        """What a report must state of this endpoint, such as that it does not support seeds."""
        return (*self._chat.notes, *self.server_notes)

    def revive(self, server: Server) -> None:
        check_model(server, self.limits, self._chat.model, self.server)

    def update_weights(self, weights: "Iterable[tuple[str, Tensor]]", version: int) -> None:
        raise ConfigError(
            f"{self.server.url}: a chat endpoint cannot load new weights: choose the local engine or vLLM"
        )

    def answer(self, request: Request, caller: Caller) -> Generation:
        prompt, sampling = prompt_text(request), request.sampling
        body: dict[str, Any] = {
            "model": self._chat.model,
            "messages": request.messages,
            "temperature": sampling.temperature,
            "seed": sample_seed(request, prompt),
            "chat_template_kwargs": {"enable_thinking": request.thinking},
        }
        body |= _chosen(sampling)
        if "reasoning_content" in request.messages[-1]:
            return self._begun(caller, body, request)
        budget = sampling.thinking_budget if request.thinking else None
        try:
            chat, limit = self._chat.complete(caller, body, budget or sampling.max_new_tokens, request)
        except NoRoomError as full:
            return replace(empty(request, full.num_prompt_tokens), ids=None, logprobs=None)
        if limit == budget and chat.stop is StopReason.LENGTH:  # not where the context left less than the budget
            return self._continue(caller, body, chat, request)
        return to_generation(chat, prompt, thinking=request.thinking)

    def _continue(self, caller: Caller, body: Mapping[str, Any], begun: ChatReply, request: Request) -> Generation:
        """Lets the answer follow a reply that the thinking budget has cut, its thought closed where it was open."""
        thought, answer, is_open = cut_at_budget(begun)
        # The opening tag stands here where the model wrote it; elsewhere it's the template's, which puts it back.
        opening = f"<{self._tag}>\n" if begun.content.lstrip().startswith(f"<{self._tag}>") else ""
        content = f"{opening}{thought.strip()}\n</{self._tag}>\n\n{answer}"
        num_begun = num_reply_tokens(begun)
        try:
            limit = max(1, request.sampling.max_new_tokens - num_begun)
            chat = self._resume(caller, body, request.messages, content, limit, request)
        except NoRoomError:
            return to_generation(begun, prompt_text(request), thinking=True)
        rest = self._continuation(chat, caller)
        whole = replace(split(replace(begun, thought=thought, content=answer + rest, stop=chat.stop)), finished=True)
        stop = StopReason.BUDGET if is_open and chat.stop is StopReason.END else chat.stop
        first = to_generation(begun, prompt_text(request), thinking=True)
        num_thought_tokens = num_begun if is_open else first.num_thought_tokens
        num_tokens = num_begun + num_reply_tokens(chat)
        return Generation(whole, stop, first.num_prompt_tokens, num_tokens, num_thought_tokens)

    def _begun(self, caller: Caller, body: Mapping[str, Any], request: Request) -> Generation:
        """Lets the answer follow a thought that is given: the last message."""
        *asked, begun = request.messages
        thought = begun["reasoning_content"].strip()
        content = f"{thought}\n</{self._tag}>\n\n{begun['content']}"
        try:
            chat = self._resume(caller, body, asked, content, request.sampling.max_new_tokens, request)
        except NoRoomError as full:
            return replace(empty(request, full.num_prompt_tokens), ids=None, logprobs=None)
        reply = split(replace(chat, thought=thought, content=begun["content"] + self._continuation(chat, caller)))
        answered = to_generation(chat, prompt_text(request), thinking=False)
        return replace(answered, reply=replace(reply, finished=True), num_thought_tokens=0)

    def _resume(
        self,
        caller: Caller,
        body: Mapping[str, Any],
        asked: Sequence[Mapping[str, str]],
        content: str,
        limit: int,
        request: Request,
    ) -> ChatReply:
        """The rest of a reply to `asked` that begins with `content`.

        Raises:
            NoRoomError: the context has no room behind it.
            ConfigError: the endpoint does not continue replies.
        """
        further = {
            **body,
            "seed": sample_seed(request, prompt_text(request) + content),
            "messages": [*asked, {"role": "assistant", "content": content}],
            "add_generation_prompt": False,
            "continue_final_message": True,
            # EXAONE 4.0's template leaves the thought of a reply out unless skip_think is false
            "chat_template_kwargs": {"enable_thinking": True, "skip_think": False},
        }
        try:
            return self._chat.complete(caller, further, limit, request, begun=True)[0]
        except EndpointError as error:
            if error.status in (400, 422) and not self._has_continued and read_overflow(error, 1) is None:
                raise ConfigError(f"{error} (it {_CANNOT_CONTINUE})") from None
            raise

    def _continuation(self, chat: ChatReply, caller: Caller) -> str:
        """What follows the end of a thought; a server's parser that misses the thought's tags may take it for one.

        Raises:
            ConfigError: the first of them all begins with a thought: the server has not continued the reply.
        """
        thought, content = chat.thought.strip(), chat.content
        is_anew = bool(thought and content.strip()) or content.lstrip().startswith(f"<{self._tag}>")
        if not is_anew:
            self._has_continued = True
            return content if content.strip() else chat.thought
        if not self._has_continued:
            raise ConfigError(f"{caller.server.url}: the endpoint {_CANNOT_CONTINUE}")
        self._chat.note(_THINKS_AGAIN)
        return content


def _chosen(sampling: Sampling) -> dict[str, Any]:
    """The fields that choose how tokens are drawn and where a reply ends; what changes nothing is left out."""
    fields: dict[str, Any] = {
        **{name: getattr(sampling, name) for name in CHOSEN if hasattr(sampling, name)},
        "logit_bias": dict(sampling.logit_bias),
        "stop": list(sampling.stop),
        "stop_token_ids": list(sampling.stop_ids),
    }
    if sampling.temperature == 0:
        fields |= dict.fromkeys(("top_p", "top_k", "min_p"))
    if sampling.repetition_penalty == 1:
        del fields["repetition_penalty"]
    return {name: value for name, value in fields.items() if value}
