"""The rollouts of a step on disk: written before the update that they cause, read where the step is run again.

So a resumed run learns from the very tokens, log-probabilities and verdicts that the killed one had, whatever sampling
and judging them again would give. Where the judge model is down they are written as far as they are judged: what is
missing is null in the file, and is asked for again.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_jsonl, write_atomically, write_jsonl
from open_exaone.base.log import logger
from open_exaone.base.records import (
    Generation,
    Missing,
    Problem,
    Request,
    Rollout,
    RolloutGroup,
    StopReason,
    Term,
    Verdict,
    VerdictStatus,
)
from open_exaone.engine.stop import reply_text
from open_exaone.model.sharding import whole
from open_exaone.rollout.judge_outage import UNJUDGED
from open_exaone.rollout.records import sample_rows
from open_exaone.text.tokenizer import Tokenizer

SAMPLED_VALUES = 256  # of each weight; an update moves more than that


def write_rollouts(path: Path, rounds: Sequence[tuple[list[RolloutGroup], str]]) -> None:
    """Writes one row a sample, atomically.

    Args:
        rounds: of one step: what was sampled, with a key of what it follows from; `read_rollouts` must name the same.
    """
    rows = [{**row, "sha256": _seal(row, key)} for groups, key in rounds for row in rollout_rows(groups)]
    write_jsonl(path, rows)


def rollout_rows(groups: Sequence[RolloutGroup]) -> list[dict[str, Any]]:
    """One row a sample, as JSON."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    return [
        {**row, "ids": list(rollout.generation.ids or ()), "logprobs": _float32(rollout.generation.logprobs or ())}
        for row, rollout in zip(sample_rows(list(groups)), rollouts, strict=True)
    ]


def read_rollouts(
    path: Path,
    problems: Sequence[Problem],
    requests: Sequence[Request],
    tokenizer: Tokenizer,
    key: str,
    *,
    first: int = 0,
) -> list[RolloutGroup] | None:
    """Reads the groups of one round back; what is null is still to be asked for.

    Args:
        requests: those that the samples answer, as many for each problem.
        first: the round's first row: how many samples the rounds before it have.

    Returns:
        one group a problem; None where the file is not there, is of another key, or is not whole.
    """
    if not path.is_file():
        return None
    try:
        rows = read_jsonl(path)[first : first + len(requests)]
        if len(rows) != len(requests) or any(row.pop("sha256") != _seal(row, key) for row in rows):
            return None
    except (DataError, AttributeError, KeyError) as error:
        logger.warning("%s: cannot be read (%s); its step is sampled again", path, error)
        return None
    return rollout_groups(rows, problems, requests, tokenizer)


def rollout_groups(
    rows: Sequence[dict[str, Any]], problems: Sequence[Problem], requests: Sequence[Request], tokenizer: Tokenizer
) -> list[RolloutGroup]:
    """The groups that `rollout_rows` made rows of, one a problem."""
    size = len(rows) // max(1, len(problems))
    return [
        RolloutGroup(
            problem,
            requests[start].prompt_ids or (),
            requests[start].thinking,
            tuple(_rollout(requests[place], rows[place], tokenizer) for place in range(start, start + size)),
        )
        for problem, start in zip(problems, range(0, len(rows), max(1, size)), strict=True)
    ]


def buffer_key(model: nn.Module, asked: object) -> str:
    """A hash of what samples follow from: the weights as they are, and whatever else was asked, as JSON.

    Of a sharded model all ranks ask at the same time.
    """
    digest = hashlib.sha256(_as_json(asked))
    _add_weights(digest, model)
    return digest.hexdigest()


def weights_digest(model: nn.Module) -> str:
    """A hash of the weights as they are, for `asked_key`."""
    digest = hashlib.sha256()
    _add_weights(digest, model)
    return digest.hexdigest()


def asked_key(weights: str, asked: object) -> str:
    """What `buffer_key` is for weights of which only the digest is left."""
    return hashlib.sha256(weights.encode() + _as_json(asked)).hexdigest()


def _as_json(asked: object) -> bytes:
    return json.dumps(asked, sort_keys=True, default=str).encode()


def _add_weights(digest: "hashlib._Hash", model: nn.Module) -> None:
    for name, weight in model.named_parameters():
        values = whole(weight.detach()).flatten()
        some = values[:: max(1, len(values) // SAMPLED_VALUES)].cpu().contiguous()
        digest.update(name.encode() + some.view(torch.uint8).numpy().tobytes())


def write_logprobs(path: Path, logprobs_DM: Sequence[NDArray[np.float32]], key: str) -> None:
    """Writes the log-probabilities of a step's tokens under the model that sampled them, atomically."""
    values_M = torch.from_numpy(np.concatenate([*logprobs_DM, np.zeros(0, np.float32)]))
    seal = hashlib.sha256(key.encode() + values_M.numpy().tobytes()).hexdigest()
    write_atomically(path, lambda temporary: save_file({"logprobs": values_M}, temporary, {"seal": seal}))


def read_logprobs(path: Path, lengths_D: Sequence[int], key: str) -> list[NDArray[np.float32]] | None:
    """Reads them back; None where the file is not there, is of another key, or is not whole."""
    try:
        with safe_open(path, "pt") as file:
            metadata, values_M = file.metadata(), file.get_tensor("logprobs").numpy()
    except (SafetensorError, OSError):
        return None
    seal = hashlib.sha256(key.encode() + values_M.tobytes()).hexdigest()
    if metadata != {"seal": seal} or len(values_M) != sum(lengths_D):
        return None
    return np.split(values_M, np.cumsum(lengths_D)[:-1])


def _rollout(request: Request, row: dict[str, Any], tokenizer: Tokenizer) -> Rollout:
    stop = StopReason(row["stop"])
    generation = Generation(
        tokenizer.split(reply_text(tokenizer, row["ids"], stop, request.sampling), thinking=request.thinking),
        stop,
        num_prompt_tokens=len(request.prompt_ids or ()),
        num_tokens=row["num_tokens"],
        num_thought_tokens=row["num_thought_tokens"],
        ids=tuple(row["ids"]),
        logprobs=tuple(row["logprobs"]),
        policy_version=row["policy_version"],
    )
    verdict = UNJUDGED
    if row["verdict"] is not None:
        verdict = Verdict(VerdictStatus(row["verdict"]), row["extracted"], row["why"])
    terms = {name: _term(value) for name, value in row["terms"].items()}
    return Rollout(generation, verdict, row["reward"], terms)


def _term(value: float | dict[str, str] | None) -> Term:
    if value is None:
        return Missing(UNJUDGED.why, UNJUDGED.outage)
    return Missing(value["missing"]) if isinstance(value, dict) else value


def _seal(row: dict[str, Any], key: str) -> str:
    """Of the row, its key and the format's number: rows of an older format are not read."""
    return hashlib.sha256(f"2\n{key}\n{json.dumps(row, sort_keys=True)}".encode()).hexdigest()


def _float32(values: Sequence[float]) -> list[float]:
    """The shortest decimals that are the same in float32, in which batches hold them."""
    return [float(str(value)) for value in np.asarray(values, np.float32)]
