"""The engine of this package as a provider. No torch at import: the engine comes in ready."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from open_exaone.base import interrupt
from open_exaone.base.errors import CheckpointError
from open_exaone.base.links import own_file
from open_exaone.base.records import Completion, Generation, Request, StopReason
from open_exaone.engine.stop import reply_text
from open_exaone.rollout.begun import read_reply
from open_exaone.rollout.provider import Generations
from open_exaone.rollout.providers.context import fit
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.text.tokenizer_files import BACKEND_FILE, MAP_FILE, MODEL_FILES, SETTINGS_FILE, TEMPLATE_FILE

if TYPE_CHECKING:
    from torch import Tensor

    from open_exaone.engine.engine import Engine, More
    from open_exaone.rollout.team import Team

_HASHED_FILES = frozenset((*MODEL_FILES, BACKEND_FILE, SETTINGS_FILE, MAP_FILE, TEMPLATE_FILE, "added_tokens.json"))


class LocalProvider:
    """Answers requests with a loaded model; see `Provider`. It shares the weights with whoever trains the model.

    Args:
        model: what the report calls it.
        weights: distinguishes the model from any other; see `weights_hash`. Left out for a policy that is trained.
        is_copy: the engine's model is a copy of the one that is trained, whose weights are handed over.
        team: the ranks that an evaluation's samples are shared out among, each with an engine of its own; None where
            this one draws them all.
    """

    gives_ids = True

    def __init__(
        self,
        engine: "Engine",
        *,
        model: str = "policy",
        weights: str | None = None,
        is_copy: bool = False,
        team: "Team | None" = None,
    ) -> None:
        self._engine, self._is_copy, self.team = engine, is_copy, team
        self._model, self._weights = model, weights
        self._notes: dict[str, None] = {}  # in order, each once
        self._failure: str | None = None

    @property
    def identity(self) -> Mapping[str, str]:
        """The model, a hash of its files, and what it is computed in and on: rounding differs between these."""
        return {
            "engine": "local",
            "model": self._model,
            **({} if self._weights is None else {"weights": self._weights}),
            "dtype": str(self._engine.model.dtype).removeprefix("torch."),
            **({"weights_dtype": "int8"} if self._engine.int8 else {}),
            "device": self._engine.model.device.type,
        }

    @property
    def tokenizer(self) -> Tokenizer:
        return self._engine.tokenizer

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether questions leave their replies less room than asked for."""
        return tuple(self._notes)

    @property
    def failure(self) -> str | None:
        return self._failure

    @property
    def num_slots(self) -> int:
        """The most samples that decode together."""
        return self._engine.num_slots

    def note(self, notes: Iterable[str], failure: str | None) -> None:
        """Reports what another rank's engine has to report of its share as this one's own."""
        self._notes.update(dict.fromkeys(notes))
        self._failure = self._failure or failure

    def stream(
        self, requests: Sequence[Request], *, more: "More | None" = None, lengths: Sequence[int] = ()
    ) -> Generations:
        """See `Provider`; a request whose logits are no numbers is left out.

        Neighbours with one prompt share its reading: ask all samples of a prompt in a row.
        Replies end where the model's context does (`context.fit`).

        Args:
            more, lengths: see `Engine.stream`.
        """
        asked, places = list[Request](), list[int]()  # all so far, and the place in `asked` of each that is generated
        unanswered: list[tuple[int, Generation]] = []
        context = self._engine.model.config.max_positions

        def fitting(new: Sequence[Request]) -> list[Request]:
            fitted = fit(new, context)
            self._notes.update(dict.fromkeys(fitted.notes))
            unanswered.extend((len(asked) + place, generation) for place, generation in fitted.unanswered)
            places.extend(len(asked) + place for place in fitted.requests)
            asked.extend(new)
            return list(fitted.requests.values())

        def further(num_running: int) -> Sequence[Request]:
            return fitting(more(num_running)) if more is not None else ()

        first, lengths = fitting(requests), [min(length, context) for length in lengths]
        while unanswered:
            yield unanswered.pop(0)
        with closing(self._engine.stream(first, _heed_interrupts, more=further, lengths=lengths)) as completions:
            for number, completion in completions:
                if completion.stop is StopReason.ERROR:
                    self._failure = self._failure or completion.error
                    continue
                yield places[number], self._generation(asked[places[number]], completion)
        yield from unanswered

    def update_weights(self, weights: "Iterable[tuple[str, Tensor]]", version: int) -> None:
        """Copies them; nothing where the engine computes with the very model that is trained."""
        if not self._is_copy:
            return
        import torch

        own = dict(self._engine.model.named_parameters())
        with torch.no_grad():  # counted by each weight: the engine looks whether what it made of them still holds
            for name, weight in weights:
                own[name].copy_(weight)
        self._engine.model.version = version

    def flops(self, generation: Generation) -> float | None:
        """Forward operations for prompt and reply, each token at the mean length that is read; prompts unshared."""
        total = generation.num_prompt_tokens + generation.num_tokens
        return float(total * self._engine.model.config.flops_per_token(total // 2))

    def _generation(self, request: Request, completion: Completion) -> Generation:
        text = reply_text(self._engine.tokenizer, completion.ids, completion.stop, request.sampling)
        engine, ids = self._engine, completion.ids
        reply, num_thought_tokens = read_reply(text, ids, request, engine.tokenizer, engine.thoughts)
        return Generation(
            reply,
            completion.stop,
            num_prompt_tokens=len(request.prompt_ids or ()),
            num_tokens=len(completion.ids),
            num_thought_tokens=num_thought_tokens,
            ids=completion.ids,
            logprobs=completion.logprobs if request.sampling.is_raw else completion.sampling_logprobs,
            policy_version=completion.policy_version,
        )


def _heed_interrupts(num_tokens: int, num_done: int) -> None:
    """Called after each of the engine's steps, so that Ctrl-C stops it midway."""
    interrupt.check()


def weights_hash(folder: Path) -> str:
    """SHA-256, in hex, over the files of a model's folder that decide what it generates: weights, config, tokenizer.

    The same files in another folder give the same hash. Files are read in blocks, several at once.

    Raises:
        CheckpointError: the folder holds no weights, or a file can't be read.
    """

    def digest(path: Path) -> str:
        with own_file(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise CheckpointError(f"{folder}: holds no .safetensors file; give a model's folder")
    files = [*weights, *(folder / name for name in sorted(_HASHED_FILES) if (folder / name).is_file())]
    try:
        with ThreadPoolExecutor(thread_name_prefix="hash") as threads:
            digests = list(threads.map(digest, files))
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read: {error.strerror}") from error
    lines = [f"{file.name} {digest}\n" for file, digest in zip(files, digests, strict=True)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
