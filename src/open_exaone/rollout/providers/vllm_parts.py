"""What vLLM is asked for and how its tokens are read; the same in this process and behind a server.

Under a thinking budget a reply is asked for in parts: one that the budget cuts is continued, its thought closed, from
its own token ids.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.base.files import explain_os_errors
from open_exaone.base.records import Generation, Request, StopReason
from open_exaone.engine.stop import reply_text
from open_exaone.engine.thought import Thoughts
from open_exaone.rollout.begun import read_reply
from open_exaone.rollout.provider import ids_text, sample_seed
from open_exaone.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """A request, or what is left of it behind the part of the reply that is there."""

    request: Request
    begun_ids: tuple[int, ...] = ()  # of the reply
    was_closed: bool = False  # the budget has closed the thought

    @property
    def prompt_ids(self) -> list[int]:
        """What vLLM reads."""
        return [*(self.request.prompt_ids or ()), *self.begun_ids]

    @property
    def budget(self) -> int | None:
        return self.request.sampling.thinking_budget if self.request.thinking else None


class Parts:
    """The parts of the replies of one tokenizer's model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def params(self, part: Part) -> dict[str, Any]:
        """vLLM's sampling parameters; its server takes them by the same names.

        All are given, since the server's defaults are those of the model's generation_config.json. vLLM reports
        log-probabilities of the model itself, so they are asked for where those are what is sampled from.
        """
        sampling = part.request.sampling
        is_greedy = sampling.temperature == 0
        is_first = not part.begun_ids
        limit = part.budget if part.budget is not None and is_first else sampling.max_new_tokens - len(part.begun_ids)
        return {
            "temperature": sampling.temperature,
            "top_p": 1.0 if is_greedy else sampling.top_p,
            "top_k": -1 if is_greedy or sampling.top_k is None else sampling.top_k,
            "min_p": 0.0 if is_greedy else sampling.min_p,
            "max_tokens": limit,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "repetition_penalty": sampling.repetition_penalty,
            "logit_bias": dict(sampling.logit_bias) or None,
            "stop": list(sampling.stop) or None,
            "seed": sample_seed(part.request, ids_text(part.prompt_ids)),
            "stop_token_ids": [*self._tokenizer.end_ids, *sampling.stop_ids],
            "logprobs": 0 if sampling.is_raw else None,  # of each sampled token alone
        }

    def further(self, part: Part, ids: tuple[int, ...]) -> Part | None:
        """What is left to ask where the thinking budget, not the limit, has cut a reply; `ids` is all of it."""
        if part.budget is None:
            return None
        is_open = self._thoughts.is_open(part.request.prompt_ids or (), ids)
        begun = (*ids, *self._thoughts.closing_ids(ids)) if is_open else ids
        if len(begun) >= part.request.sampling.max_new_tokens:
            return None
        return Part(part.request, begun, is_open)

    def generation(
        self,
        part: Part,
        ids: tuple[int, ...],
        logprobs: Sequence[float] | None,
        *,
        is_cut: bool,
        version: int | None,
    ) -> Generation:
        """The whole reply, whose last part has come."""
        request, text = part.request, self._tokenizer.decode(ids, skip_special=True)
        stop = StopReason.LENGTH if is_cut else StopReason.BUDGET if part.was_closed else StopReason.END
        if any(string in text for string in request.sampling.stop):
            stop = StopReason.STOP_STRING
        text = reply_text(self._tokenizer, ids, stop, request.sampling)
        reply, num_thought_tokens = read_reply(text, ids, request, self._tokenizer, self._thoughts)
        return Generation(
            reply,
            stop,
            num_prompt_tokens=len(request.prompt_ids or ()),
            num_tokens=len(ids),
            num_thought_tokens=num_thought_tokens,
            ids=ids,
            logprobs=None if logprobs is None else tuple(logprobs),
            policy_version=version,
        )

    @cached_property
    def _thoughts(self) -> Thoughts:
        return Thoughts(self._tokenizer)


@contextmanager
def weights_written(weights: "Iterable[tuple[str, Tensor]]", parent: str | None) -> Iterator[Path]:
    """A folder that holds the weights as safetensors, in `parent` or where the system keeps temporary files.

    Raises:
        RunFolderError: it cannot be made or written.
    """
    from safetensors.torch import save_file

    place = Path(parent or tempfile.gettempdir())
    with explain_os_errors(place):
        made = tempfile.TemporaryDirectory(prefix="weights-", dir=place)
    with made as folder:
        with explain_os_errors(place):
            if parent is not None:
                os.chmod(folder, 0o755)  # the server may be another user's process
            tensors = {name: weight.detach().cpu().contiguous() for name, weight in weights}
            save_file(tensors, f"{folder}/model.safetensors")
        yield Path(folder)
