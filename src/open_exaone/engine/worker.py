"""A process that samples for another (`workers.py`): a model, an engine and a socket, which is its standard input.

It ends when the other end of the socket closes, however the other process ended.
"""

import select
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.base.machine import prepare_process
from open_exaone.sandbox import wire

if TYPE_CHECKING:
    from open_exaone.base.records import Completion, Request
    from open_exaone.engine.engine import Engine

MAX_BYTES = 1 << 31  # of one message


def has_news(link: socket.socket) -> bool:
    """Whether something has arrived, or the other end has closed; `select` would fail above descriptor 1023."""
    poll = select.poll()
    poll.register(link, select.POLLIN)
    return bool(poll.poll(0))


def main() -> None:
    """Takes jobs until nobody is there to give any."""
    prepare_process()
    with socket.socket(fileno=0) as link:
        try:
            _serve(link)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except BaseException as error:
            wire.send(link, {"error": f"failed with {type(error).__name__}: {error}"})


def _serve(link: socket.socket) -> None:
    engine: Engine | None = None
    while (received := wire.receive(link, max_bytes=MAX_BYTES)) is not None:
        header, blobs = received
        if "config" in header:
            engine = _opened(header, blobs)
        else:
            assert engine is not None
            _work(link, engine, header, blobs)


def _opened(header: dict[str, Any], files: Sequence[bytes]) -> "Engine":
    import torch

    from open_exaone.engine.engine import Engine
    from open_exaone.model.config import ModelConfig
    from open_exaone.model.transformer import LanguageModel
    from open_exaone.text.tokenizer import Tokenizer

    with tempfile.TemporaryDirectory() as folder:
        for name, content in zip(header["files"], files, strict=True):
            (Path(folder) / name).write_bytes(content)
        tokenizer = Tokenizer.load(Path(folder), chat_format=header["chat_format"])
    model = LanguageModel(ModelConfig.model_validate(header["config"])).to(dtype=getattr(torch, header["dtype"]))
    engine = Engine(model, tokenizer, num_slots=header["num_slots"])
    engine.end_ids = frozenset(header["end_ids"])
    return engine


def _work(link: socket.socket, engine: "Engine", header: dict[str, Any], blobs: Sequence[bytes]) -> None:
    """Completes what is asked and sends each completion as soon as it is there."""
    import torch
    from safetensors.torch import load

    weights, model = load(blobs[0]), engine.model
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(weights[name])
    model.version, engine.memory_share = header["version"], header["memory_share"]
    num_tokens = 0
    done: list[tuple[int, Completion]] = []

    def on_step(num_new: int, num_done: int) -> None:
        nonlocal num_tokens, done
        num_tokens += num_new
        if num_done:
            _send(link, num_tokens, done, is_last=False)
            num_tokens, done = 0, []
        elif has_news(link):  # nothing is due to come: the other end has closed
            raise BrokenPipeError

    for found in engine.stream(_requests(header, blobs[1]), on_step):
        done.append(found)
    _send(link, num_tokens, done, is_last=True)


def _requests(header: dict[str, Any], ids: bytes) -> list["Request"]:
    import numpy as np

    from open_exaone.base.records import Request, Sampling

    rest = iter(np.frombuffer(ids, np.int64).tolist())
    prompts = [tuple(next(rest) for _ in range(length)) for length in header["lengths"]]
    samplings = [Sampling(**fields) for fields in header["samplings"]]
    return [
        Request((), prompts[prompt], False, samplings[number], index, occurrence)
        for prompt, number, index, occurrence in header["requests"]
    ]


def _send(link: socket.socket, num_tokens: int, done: Sequence[tuple[int, "Completion"]], *, is_last: bool) -> None:
    import numpy as np

    rows = [(place, len(found.ids), found.stop.value, found.policy_version, found.error) for place, found in done]
    ids = np.array([token for _, found in done for token in found.ids], np.int64)
    logprobs = np.array([value for _, found in done for value in found.logprobs], np.float64)
    sampling_logprobs = np.array([value for _, found in done for value in found.sampling_logprobs], np.float64)
    header = {"num_tokens": num_tokens, "done": rows, "is_last": is_last}
    wire.send(link, header, ids.tobytes(), logprobs.tobytes(), sampling_logprobs.tobytes())


if __name__ == "__main__":
    main()
    sys.exit()
