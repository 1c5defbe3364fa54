"""Answers from vLLM in this process: our prompts and our reading of the replies, its speed in between."""

import importlib
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Ask, Generation, StopReason
from open_exaone.engine.thought import Thoughts
from open_exaone.rollout.providers.context import fit
from open_exaone.rollout.providers.endpoint import sample_seed
from open_exaone.rollout.providers.prompts import ids_text, render_asks
from open_exaone.text.tokenizer import Tokenizer

MAX_UNFINISHED = 2048  # requests given to vLLM at once: more than it runs, fewer than fill its queues
_INSTALL = (
    'vLLM is not installed, or broken: pip install "open-exaone[vllm]" on a machine with a GPU, or choose the local'
    " engine or an endpoint's address"
)


@dataclass(frozen=True, slots=True)
class _Pending:
    """A request that vLLM has."""

    place: int
    prompt_ids: list[int]  # of the ask
    begun_ids: list[int]  # of the reply, before this request
    was_closed: bool  # the budget has closed the thought


class VllmProvider:
    """Answers asks with vLLM; see `Provider`.

    Seeds are per sample, but vLLM's rounding depends on what is computed together, so samples repeat up to that. Under
    a thinking budget a reply that is cut is asked for again from there on; its presence penalty then begins anew.

    Args:
        model: a model's folder or hub name, as vLLM takes it.
        tokenizer: the model's own; renders the prompts and splits the replies.
        weights: tells the model from any other, such as `local.weights_hash` of its folder.
        num_parameters: of the model, where FLOPs are to be counted.
        options: vLLM's own, such as {"tensor_parallel_size": 2, "max_model_len": 65536}.

    Raises:
        ConfigError: vLLM is not installed, or cannot open the model: gives vLLM's reason.
    """

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
            self._engine = vllm.LLM(**{"model": str(model), **(options or {})}).llm_engine
        except (ValueError, TypeError, OSError, RuntimeError) as error:  # its own, which say what it cannot do
            raise ConfigError(f"vLLM does not open {model}: {error}") from error
        self._version = str(vllm.__version__)
        self._sampling_params, self._whole_replies = vllm.SamplingParams, kinds.FINAL_ONLY
        self._model, self._weights = str(model), weights
        self._tokenizer = tokenizer
        self._num_parameters = num_parameters
        self._numbers = count()  # of requests
        self._failure: str | None = None
        self._notes: dict[str, None] = {}  # in order, each once

    @property
    def identity(self) -> Mapping[str, str]:
        weights = {} if self._weights is None else {"weights": self._weights}
        return {"engine": f"vllm {self._version}", "model": self._model, **weights}

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(self._notes)

    @property
    def failure(self) -> str | None:
        return self._failure

    def prompts(self, asks: Sequence[Ask]) -> list[str]:
        texts = {key: ids_text(ids) for key, ids in render_asks(self._tokenizer, asks).items()}
        return [texts[ask.question, ask.thinking] for ask in asks]

    def flops(self, generation: Generation) -> float | None:
        if self._num_parameters is None:
            return None
        return 2.0 * self._num_parameters * (generation.num_prompt_tokens + generation.num_tokens)

    def stream(self, asks: Sequence[Ask]) -> Generator[tuple[int, Generation], None, None]:
        """See `Provider`; replies end where the context does that vLLM was opened for (`context.fit`).

        Raises:
            DataError, CheckpointError: a question cannot be rendered.
        """
        rendered = render_asks(self._tokenizer, asks)
        prompts = [rendered[ask.question, ask.thinking] for ask in asks]
        fitted = fit(asks, prompts, self._engine.model_config.max_model_len)
        self._notes.update(dict.fromkeys(fitted.notes))
        yield from fitted.unanswered
        pending: dict[str, _Pending] = {}
        waiting = deque(fitted.asks)
        try:
            while pending or waiting:
                interrupt.check()
                while waiting and len(pending) < MAX_UNFINISHED:
                    place = waiting.popleft()
                    self._add(pending, fitted.asks[place], _Pending(place, prompts[place], [], False))
                ended = [output for output in self._engine.step() if output.finished and output.request_id in pending]
                for request, reply in [(pending.pop(output.request_id), output.outputs[0]) for output in ended]:
                    ask = fitted.asks[request.place]
                    ids = [*request.begun_ids, *reply.token_ids]
                    further = self._further(ask, request, ids) if reply.finish_reason == "length" else None
                    if further is not None:
                        self._add(pending, ask, further)
                    elif reply.finish_reason in ("stop", "length"):
                        yield request.place, self._generation(ask, request, ids, reply.finish_reason)
                    else:
                        self._failure = self._failure or f"vLLM gave a reply up ({reply.finish_reason}): see its log"
        finally:
            if pending:
                self._engine.abort_request(list(pending))

    @cached_property
    def _thoughts(self) -> Thoughts:
        return Thoughts(self._tokenizer)

    def _add(self, pending: dict[str, _Pending], ask: Ask, request: _Pending) -> None:
        sampling, budget = ask.sampling, _budget(ask)
        is_first = not request.begun_ids
        limit = budget if budget is not None and is_first else sampling.max_new_tokens - len(request.begun_ids)
        params = self._sampling_params(
            temperature=sampling.temperature,
            top_p=sampling.top_p if sampling.temperature > 0 else 1.0,
            max_tokens=limit,
            presence_penalty=sampling.presence_penalty,
            seed=sample_seed(sampling.seed, ask.index, ids_text([*request.prompt_ids, *request.begun_ids])),
            stop_token_ids=list(self._tokenizer.end_ids),
            detokenize=False,  # our tokenizer does
            output_kind=self._whole_replies,
        )
        name = f"ask-{next(self._numbers)}"
        self._engine.add_request(name, {"prompt_token_ids": [*request.prompt_ids, *request.begun_ids]}, params)
        pending[name] = request

    def _further(self, ask: Ask, request: _Pending, ids: list[int]) -> _Pending | None:
        """What is left to ask where the thinking budget, not the limit, has cut a reply."""
        if _budget(ask) is None:
            return None
        is_open = self._thoughts.is_open(request.prompt_ids, ids)
        begun = [*ids, *self._thoughts.closing_ids(ids)] if is_open else ids
        if len(begun) >= ask.sampling.max_new_tokens:
            return None
        return _Pending(request.place, request.prompt_ids, begun, is_open)

    def _generation(self, ask: Ask, request: _Pending, ids: list[int], reason: str) -> Generation:
        ended = StopReason.BUDGET if request.was_closed else StopReason.END
        reply = self._tokenizer.split(ids, thinking=ask.thinking)
        num_thought_tokens = self._thoughts.num_tokens(ids, reply)
        stop = StopReason.LENGTH if reason == "length" else ended
        return Generation(reply, stop, len(request.prompt_ids), len(ids), num_thought_tokens)


def _budget(ask: Ask) -> int | None:
    return ask.sampling.thinking_budget if ask.thinking else None
