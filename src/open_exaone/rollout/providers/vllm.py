"""Answers from vLLM in this process: our prompts and our reading of the replies, its speed in between."""

import copy
import importlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Generation, Request
from open_exaone.rollout.provider import Generations
from open_exaone.rollout.providers.context import fit
from open_exaone.rollout.providers.vllm_parts import Part, Parts, weights_written
from open_exaone.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

MAX_UNFINISHED = 2048  # requests given to vLLM at once: more than it runs, fewer than fill its queues
_INSTALL = (
    'vLLM is not installed, or broken: pip install "open-exaone[vllm]" on a machine with a GPU, or use the local'
    " engine or the address of an endpoint"
)


class VllmProvider:
    """Answers requests with vLLM; see `Provider`.

    Seeds are per sample, but vLLM's rounding depends on what is computed together, so samples repeat up to that. Under
    a thinking budget a reply that is cut is asked for again from there on; presence and frequency penalties begin anew.
    Log-probabilities come with samples of the model's own distribution (temperature 1, top_p 1), as online RL draws.

    Args:
        model: a model's folder or hub name, as vLLM takes it.
        tokenizer: the model's own; renders the prompts and splits the replies.
        weights: distinguishes the model from any other, such as `local.weights_hash` of its folder.
        num_parameters: of the model, where FLOPs are to be counted.
        options: vLLM's own, such as {"tensor_parallel_size": 2, "max_model_len": 65536}.

    Raises:
        ConfigError: vLLM is not installed, or cannot open the model: gives vLLM's reason.
    """

    gives_ids = True

    def __init__(
        self,
        model: str | Path,
        tokenizer: Tokenizer,
        *,
        weights: str | None = None,
        num_parameters: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            vllm = importlib.import_module("vllm")
            kinds = importlib.import_module("vllm.sampling_params").RequestOutputKind
        except ImportError as error:
            raise ConfigError(f"{_INSTALL} ({error})") from error
        try:
            self._llm = vllm.LLM(**{"model": str(model), **(options or {})})
        except (ValueError, TypeError, OSError, RuntimeError) as error:  # its own, which say what it cannot do
            raise ConfigError(f"vLLM cannot load {model}: {error}") from error
        self._engine = self._llm.llm_engine
        self._name = f"vllm {vllm.__version__}"
        self._sampling_params, self._whole_replies = vllm.SamplingParams, kinds.FINAL_ONLY
        self._model, self._weights = str(model), weights
        self.tokenizer = tokenizer
        self._parts = Parts(tokenizer)
        self._num_parameters = num_parameters
        self._numbers = count()  # of requests
        self._version: int | None = None
        self._failure: str | None = None
        self._notes: dict[str, None] = {}  # in order, each once

    def of(self, model: str | Path, weights: str | None) -> "VllmProvider":
        """The same vLLM for another model of this shape, whose weights `update_weights` hands over."""
        other = copy.copy(self)
        other._model, other._weights, other._failure, other._notes = str(model), weights, None, {}
        return other

    @property
    def identity(self) -> Mapping[str, str]:
        weights = {} if self._weights is None else {"weights": self._weights}
        return {"engine": self._name, "model": self._model, **weights}

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    @property
    def failure(self) -> str | None:
        return self._failure

    def flops(self, generation: Generation) -> float | None:
        if self._num_parameters is None:
            return None
        return 2.0 * self._num_parameters * (generation.num_prompt_tokens + generation.num_tokens)

    def update_weights(self, weights: "Iterable[tuple[str, Tensor]]", version: int) -> None:
        """Has vLLM's workers, which may be other processes, read the weights from a temporary folder."""
        with weights_written(weights, None) as folder:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
        self._llm.reset_prefix_cache()  # its keys and values are of the weights before
        self._version = version

    def stream(self, requests: Sequence[Request]) -> Generations:
        """See `Provider`; replies end where the context does that vLLM was opened for (`context.fit`)."""
        fitted = fit(requests, self._engine.model_config.max_model_len)
        self._notes.update(dict.fromkeys(fitted.notes))
        yield from fitted.unanswered
        pending: dict[str, tuple[int, Part]] = {}
        waiting = deque(fitted.requests.items())
        try:
            while pending or waiting:
                interrupt.check()
                while waiting and len(pending) < MAX_UNFINISHED:
                    place, request = waiting.popleft()
                    self._add(pending, place, Part(request))
                ended = [output for output in self._engine.step() if output.finished and output.request_id in pending]
                for (place, part), reply in [(pending.pop(output.request_id), output.outputs[0]) for output in ended]:
                    ids = (*part.begun_ids, *reply.token_ids)
                    further = self._parts.further(part, ids) if reply.finish_reason == "length" else None
                    if further is not None:
                        self._add(pending, place, further)
                    elif reply.finish_reason in ("stop", "length"):
                        yield place, self._generation(part, ids, reply)
                    else:
                        self._failure = (
                            self._failure or f"vLLM did not finish a reply ({reply.finish_reason}): see its log"
                        )
        finally:
            if pending:
                self._engine.abort_request(list(pending))

    def _add(self, pending: dict[str, tuple[int, Part]], place: int, part: Part) -> None:
        params = self._sampling_params(
            **self._parts.params(part),
            detokenize=bool(part.request.sampling.stop),  # else our tokenizer does
            output_kind=self._whole_replies,
        )
        name = f"request-{next(self._numbers)}"
        self._engine.add_request(name, {"prompt_token_ids": part.prompt_ids}, params)
        pending[name] = (place, part)

    def _generation(self, part: Part, ids: tuple[int, ...], reply: Any) -> Generation:
        logprobs = None
        if part.request.sampling.is_raw:
            logprobs = [
                float(found[token].logprob) for token, found in zip(reply.token_ids, reply.logprobs, strict=True)
            ]
        is_cut = reply.finish_reason == "length"
        return self._parts.generation(part, ids, logprobs, is_cut=is_cut, version=self._version)
