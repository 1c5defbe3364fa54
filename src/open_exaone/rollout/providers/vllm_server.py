"""Answers from a vLLM server, in token ids: prompts go as ids, and ids and log-probabilities come back.

vLLM >= 0.10.2 returns the ids of a completion (`return_token_ids`). `vllm_weights` hands weights over.
"""

import json
import math
import secrets
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Request
from open_exaone.remote.http import Caller, EndpointError, Server, UnreadableError, find_server
from open_exaone.rollout.config import VllmServer
from open_exaone.rollout.provider import Generations
from open_exaone.rollout.providers.context import Fitted, fit
from open_exaone.rollout.providers.pool import all_lost
from open_exaone.rollout.providers.server import ServerProvider, check_model, find_one_model
from open_exaone.rollout.providers.vllm_control import Control
from open_exaone.rollout.providers.vllm_parts import Part, Parts
from open_exaone.rollout.providers.vllm_weights import FolderPush, NcclPush, Push, nccl_classes, with_head
from open_exaone.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

_NO_IDS = "the server returns no {what}: serve the model with vLLM 0.10.2 or later, or use another engine"


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
    config: VllmServer

    def __init__(self, config: VllmServer, tokenizer: Tokenizer, *, weights: str | None = None) -> None:
        super().__init__(config)
        self._weights, self._push = weights, _push(config)
        if self._push is not None:
            weakref.finalize(self, self._push.drop)  # what is kept for a server that comes back
        self._model, self._context = find_one_model(self.servers, self.limits, config.model)
        self.tokenizer = tokenizer
        self._parts = Parts(tokenizer)
        self._version: int | None = None
        self._controls: dict[str, Control] = {}
        self._mark, self._marked = "", set[str]()  # the name of the weights, and the servers that keep it
        self._notes: dict[str, None] = {}  # in order, each once

    @property
    def identity(self) -> Mapping[str, str]:
        weights = {} if self._weights is None else {"weights": self._weights}
        return {"engine": self.engine, "model": self._model, **weights}

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self._notes, *self.server_notes)

    def stream(self, requests: Sequence[Request]) -> Generations:
        """See `Provider`; replies end where the server's context does (`context.fit`)."""
        self._check_marks(may_lose=True)
        fitted = Fitted(dict(enumerate(requests)), [], ()) if self._context is None else fit(requests, self._context)
        self._notes.update(dict.fromkeys(fitted.notes))
        yield from fitted.unanswered
        places = list(fitted.requests)
        with closing(super().stream(list(fitted.requests.values()))) as stream:
            for number, generation in stream:
                yield places[number], generation
        self._check_marks(may_lose=False)

    def answer(self, request: Request, caller: Caller) -> Generation:
        return self._answer(Part(request), caller)

    def _answer(self, part: Part, caller: Caller) -> Generation:
        params = {name: value for name, value in self._parts.params(part).items() if value is not None}
        body = json.dumps({"model": self._model, "prompt": part.prompt_ids, "return_token_ids": True, **params})
        new_ids, logprobs, is_cut = caller.exchange(
            "POST",
            "/completions",
            body.encode(),
            self.limits,
            lambda answer: self._read(answer, part, caller.server.url),
        )
        ids = (*part.begun_ids, *new_ids)
        further = self._parts.further(part, ids) if is_cut else None
        if further is not None:
            return self._answer(further, caller)
        return self._parts.generation(part, ids, logprobs, is_cut=is_cut, version=self._version)

    def update_weights(self, weights: "Iterable[tuple[str, Tensor]]", version: int) -> None:
        """Sends weights to every server; one that cannot be reached is lost until it comes back.

        Raises:
            ConfigError: a server does not take them: names it, its version and the fix.
            EndpointError: no server can be reached.
        """
        if self._push is None:
            raise ConfigError(
                f"{self.engine}: needs weights_folder, a folder that this process and the server both see, to load the "
                f"weights of each step"
            )
        if any(self._control(peer.server).device == "cpu" for peer in self.peers if peer.why_lost is None):
            weights = with_head(weights)
        self._push.keep(weights)
        self._mark = f"{secrets.token_hex(8)}-{version}"
        problems = self._push.send([self._control(peer.server) for peer in self.peers])
        for peer, problem in zip(self.peers, problems, strict=True):
            if problem is None:
                peer.find()
                self._note_mark(peer.server)
            elif isinstance(problem, ConfigError) or len(self.peers) == 1:
                raise problem
            else:
                peer.lose(problem)
        if all(problems):
            raise all_lost(self.peers)
        self._version = version
        if len(self.peers) == 1 or not self._push.can_repeat:
            self._push.drop()  # else a server that comes back gets them too

    def close(self) -> None:
        if self._push is not None:
            self._push.drop()

    def check_weights(self, *, is_tied: bool) -> None:
        """Looks whether each server takes weights, before anything is trained.

        Args:
            is_tied: the model's head is tied to its embeddings.

        Raises:
            ConfigError, EndpointError: one does not, or this process cannot send them.
        """
        if self.config.weights == "nccl":
            nccl_classes()
        for server in self.servers:
            control = self._control(server)
            control.call("/reset_prefix_cache", {})
            if is_tied:
                control.check_head()

    def revive(self, server: Server) -> None:
        check_model(server, self.limits, self._model, self.server)
        if self._version is None:
            return
        if self._push is None or not self._push.can_repeat:
            raise ConfigError(f"{server.url}: the server was restarted, and gets weights again at the next step")
        for problem in filter(None, self._push.send([self._control(server)])):
            raise problem
        self._note_mark(server)

    def _note_mark(self, server: Server) -> None:
        if self._control(server).mark(self._mark):
            self._marked.add(server.url)

    def _check_marks(self, *, may_lose: bool) -> None:
        """Finds servers that were started again since they got weights, and have others now.

        Args:
            may_lose: such a server is lost until it has the weights, where there are others.

        Raises:
            ConfigError, EndpointError: there is such a server.
        """
        for peer in self.peers:
            if peer.why_lost is not None or peer.server.url not in self._marked:
                continue
            try:
                if self._control(peer.server).marked() == self._mark:
                    continue
                why: ConfigError | EndpointError = ConfigError(
                    f"{peer.server.url}: the server was restarted after it got the weights of this step: run the same "
                    "command again, which resumes"
                )
            except EndpointError as error:
                why = error
            if isinstance(why, ConfigError) and not (may_lose and len(self.peers) > 1):
                raise why
            if may_lose:
                peer.lose(why)

    def _control(self, server: Server) -> Control:
        if server.url not in self._controls:
            root = server.url.rstrip("/").removesuffix("/v1")
            found = find_server(root, self.key_variable, server.words)
            self._controls[server.url] = Control(found, server.url, self.config.weights, self.config.timeout_s)
        return self._controls[server.url]

    def _read(self, answer: bytes, part: Part, url: str) -> tuple[list[int], list[float] | None, bool]:
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
            raise UnreadableError(f"its response is not a completion ({type(error).__name__})") from None
        if reason not in ("stop", "length"):
            raise UnreadableError(f"the reply has finish_reason {str(reason)[:40]}")
        if not isinstance(ids, list) or not ids or not all(map(_is_id, ids)):
            raise ConfigError(f"{url}: {_NO_IDS.format(what='token ids')}")
        if isinstance(prompt, list) and prompt != part.prompt_ids:
            raise ConfigError(f"{url}: the server returned other prompt token ids than were sent")
        if not part.request.sampling.is_raw:
            return ids, None, reason == "length"
        if not isinstance(logprobs, list) or len(logprobs) != len(ids) or not all(map(_is_logprob, logprobs)):
            raise ConfigError(f"{url}: {_NO_IDS.format(what='log-probabilities')}")
        return ids, logprobs, reason == "length"


def _push(config: VllmServer) -> Push | None:
    if config.weights == "nccl":
        return NcclPush(config.weights_address)
    return None if config.weights_folder is None else FolderPush(config.weights_folder)


def _is_id(token: Any) -> bool:
    return isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 1 << 31


def _is_logprob(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value <= 1e-3
