"""Answers from a vLLM server, in token ids: prompts go as ids, and ids and log-probabilities come back.

vLLM >= 0.10.2 returns the ids of a completion (`return_token_ids`). Weights go over its `/collective_rpc`, which it
serves in its development mode: it reads them as safetensors from a folder that both see.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Request
from open_exaone.remote.http import Caller, EndpointError, UnreadableError, find_server
from open_exaone.rollout.config import VllmServer
from open_exaone.rollout.provider import Generations
from open_exaone.rollout.providers.context import fit
from open_exaone.rollout.providers.server import ServerProvider, find_model
from open_exaone.rollout.providers.vllm_parts import Part, Parts, weights_written
from open_exaone.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

_NO_IDS = "the server returns no {what}: serve the model with vLLM 0.10.2 or later, or take another engine"
_DEV_MODE = (
    "the server takes no weights: start vLLM with the environment variable VLLM_SERVER_DEV_MODE=1, and let nobody else"
    " reach it"
)


class VllmServerProvider(ServerProvider):
    """Answers requests with a vLLM server; see `Provider` and `VllmServer`.

    Log-probabilities come with samples of the model's own distribution (temperature 1, top_p 1), as online RL draws.

    Args:
        tokenizer: the model's own; renders the prompts and splits the replies.
        weights: distinguishes the model from any other, such as `local.weights_hash` of its folder.

    Raises:
        ConfigError: a setting cannot work, or the server has several models: names them.
        EndpointError: the server does not say which models it has.
    """

    gives_ids = True

    def __init__(self, config: VllmServer, tokenizer: Tokenizer, *, weights: str | None = None) -> None:
        super().__init__(config)
        self._weights_folder, self._weights = config.weights_folder, weights
        self._model, self._context = find_model(self.server, self.limits, config.model)
        self.tokenizer = tokenizer
        self._parts = Parts(tokenizer)
        self._version: int | None = None
        self._notes: dict[str, None] = {}  # in order, each once

    @property
    def identity(self) -> Mapping[str, str]:
        weights = {} if self._weights is None else {"weights": self._weights}
        return {"engine": self.server.url.rstrip("/"), "model": self._model, **weights}

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._notes, *self.server.notes)

    def stream(self, requests: Sequence[Request]) -> Generations:
        """See `Provider`; replies end where the server's context does (`context.fit`)."""
        if self._context is None:
            yield from super().stream(requests)
            return
        fitted = fit(requests, self._context)
        self._notes.update(dict.fromkeys(fitted.notes))
        yield from fitted.unanswered
        places = list(fitted.requests)
        with closing(super().stream(list(fitted.requests.values()))) as stream:
            for number, generation in stream:
                yield places[number], generation

    def answer(self, request: Request, caller: Caller) -> Generation:
        return self._answer(Part(request), caller)

    def _answer(self, part: Part, caller: Caller) -> Generation:
        params = {name: value for name, value in self._parts.params(part).items() if value is not None}
        body = json.dumps({"model": self._model, "prompt": part.prompt_ids, "return_token_ids": True, **params})
        new_ids, logprobs, is_cut = caller.exchange(
            "POST", "/completions", body.encode(), self.limits, lambda answer: self._read(answer, part)
        )
        ids = (*part.begun_ids, *new_ids)
        further = self._parts.further(part, ids) if is_cut else None
        if further is not None:
            return self._answer(further, caller)
        return self._parts.generation(part, ids, logprobs, is_cut=is_cut, version=self._version)

    def update_weights(self, weights: "Iterable[tuple[str, Tensor]]", version: int) -> None:
        if self._weights_folder is None:
            raise ConfigError(
                f"{self.server.url}: needs weights_folder, a folder that this process and the server both see, to get "
                f"the weights of each step"
            )
        root = self.server.url.rstrip("/").removesuffix("/v1")
        caller = Caller(find_server(root, self.key_variable, self.server.words))
        with weights_written(weights, self._weights_folder) as folder:
            self._call(caller, "/collective_rpc", method="reload_weights", kwargs={"weights_path": str(folder)})
        self._call(caller, "/reset_prefix_cache")  # its keys and values are of the weights before
        self._version = version

    def _call(self, caller: Caller, path: str, **body: object) -> None:
        try:
            caller.exchange("POST", path, json.dumps(body).encode(), self.limits, lambda answer: None)
        except EndpointError as error:
            if error.status in (404, 405):
                raise ConfigError(f"{self.server.url}: {_DEV_MODE}") from error
            raise

    def _read(self, answer: bytes, part: Part) -> tuple[list[int], list[float] | None, bool]:
        """The ids of a completion, their log-probabilities where they were asked for, and whether the limit cut it.

        Raises:
            UnreadableError: it is no completion, or one that the server gave up.
            ConfigError: the server returns no ids or log-probabilities, or has read another prompt.
        """
        try:
            choice = json.loads(answer)["choices"][0]
            reason, ids, prompt = choice["finish_reason"], choice.get("token_ids"), choice.get("prompt_token_ids")
            logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UnreadableError(f"its answer is no completion ({type(error).__name__})") from None
        if reason not in ("stop", "length"):
            raise UnreadableError(f"the reply ended by {str(reason)[:40]}")
        if not isinstance(ids, list) or not ids or not all(map(_is_id, ids)):
            raise ConfigError(f"{self.server.url}: {_NO_IDS.format(what='token ids')}")
        if isinstance(prompt, list) and prompt != part.prompt_ids:
            raise ConfigError(f"{self.server.url}: the server has read another prompt than the ids that were sent")
        if not part.request.sampling.is_raw:
            return ids, None, reason == "length"
        if not isinstance(logprobs, list) or len(logprobs) != len(ids) or not all(map(_is_logprob, logprobs)):
            raise ConfigError(f"{self.server.url}: {_NO_IDS.format(what='log-probabilities')}")
        return ids, logprobs, reason == "length"


def _is_id(token: Any) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 1 << 31


def _is_logprob(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value <= 1e-3
