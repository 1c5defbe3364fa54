"""The engine of this package as a provider. No torch at import: the engine comes in ready."""

import hashlib
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from open_exaone.base.errors import CheckpointError
from open_exaone.base.links import own_file
from open_exaone.base.records import Ask, Completion, Generation
from open_exaone.engine.request import Request
from open_exaone.rollout.providers.context import fit, note
from open_exaone.rollout.providers.prompts import ids_text, render_asks
from open_exaone.text.tokenizer_files import BACKEND_FILE, MAP_FILE, MODEL_FILES, SETTINGS_FILE, TEMPLATE_FILE

if TYPE_CHECKING:
    from open_exaone.engine.engine import Engine

_HASHED_FILES = frozenset((*MODEL_FILES, BACKEND_FILE, SETTINGS_FILE, MAP_FILE, TEMPLATE_FILE, "added_tokens.json"))


class LocalProvider:
    """Answers asks with a loaded model.

    Args:
        model: what the report calls it.
        weights: tells the model from any other; see `weights_hash`.
        on_step: called after each of the engine's steps with how many tokens it made and how many replies it finished;
            may raise to stop.
    """

    def __init__(
        self,
        engine: "Engine",
        *,
        model: str,
        weights: str,
        on_step: Callable[[int, int], None] | None = None,
    ) -> None:
        self._engine = engine
        self._model = model
        self._weights = weights
        self._on_step = on_step
        self._notes: dict[str, None] = {}  # in order, each once

    @property
    def identity(self) -> Mapping[str, str]:
        """The model, a hash of its files, and what it is computed in and on: rounding differs between these."""
        return {
            "engine": "local",
            "model": self._model,
            "weights": self._weights,
            "dtype": str(self._engine.model.dtype).removeprefix("torch."),
            "device": self._engine.model.device.type,
        }

    @property
    def failure(self) -> str | None:
        """None: the engine leaves no ask out."""
        return None

    @property
    def notes(self) -> tuple[str, ...]:
        """Whether questions leave their replies less room than asked for."""
        return tuple(self._notes)

    def prompts(self, asks: Sequence[Ask]) -> list[str]:
        """Each ask's token ids, as text.

        Raises:
            DataError, CheckpointError: a question can't be rendered, such as by a model without a chat format.
        """
        rendered = render_asks(self._engine.tokenizer, asks)
        context = self._engine.model.config.max_positions
        if any(len(rendered[ask.question, ask.thinking]) + ask.sampling.max_new_tokens > context for ask in asks):
            self._notes[note(context)] = None
        texts = {key: ids_text(ids) for key, ids in rendered.items()}
        return [texts[ask.question, ask.thinking] for ask in asks]

    def stream(self, asks: Sequence[Ask]) -> Generator[tuple[int, Generation], None, None]:
        """(place in `asks`, what was generated), each as soon as it is there. Closing the iterator stops the rest.

        Neighbours that ask one question share the reading of its prompt: ask all samples of a question in a row.
        Replies end where the model's context does (`context.fit`).

        Raises:
            DataError, CheckpointError: as `prompts`.
        """
        rendered = render_asks(self._engine.tokenizer, asks)
        prompts = [rendered[ask.question, ask.thinking] for ask in asks]
        fitted = fit(asks, prompts, self._engine.model.config.max_positions)
        self._notes.update(dict.fromkeys(fitted.notes))
        yield from fitted.unanswered
        places = list(fitted.asks)
        requests = [Request(prompts[place], ask.sampling, ask.index) for place, ask in fitted.asks.items()]
        with closing(self._engine.stream(requests, self._on_step)) as completions:
            for number, completion in completions:
                place = places[number]
                yield place, self._generation(asks[place], prompts[place], completion)

    def flops(self, generation: Generation) -> float | None:
        """Forward operations for prompt and reply, each token at the mean length that is read; prompts unshared."""
        total = generation.num_prompt_tokens + generation.num_tokens
        return float(total * self._engine.model.config.flops_per_token(total // 2))

    def _generation(self, ask: Ask, prompt_ids: Sequence[int], completion: Completion) -> Generation:
        reply = self._engine.tokenizer.split(completion.ids, thinking=ask.thinking)
        return Generation(
            reply,
            completion.stop,
            num_prompt_tokens=len(prompt_ids),
            num_tokens=len(completion.ids),
            num_thought_tokens=self._engine.thoughts.num_tokens(completion.ids, reply),
        )


def weights_hash(folder: Path) -> str:
    """SHA-256, in hex, over the files of a model's folder that decide what it says: weights, config, tokenizer.

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
