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
from torch import nn

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_jsonl, write_jsonl
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
from open_exaone.rollout.judge_outage import UNJUDGED
from open_exaone.rollout.records import sample_rows
from open_exaone.text.tokenizer import Tokenizer

SAMPLED_VALUES = 256  # of each weight; an update moves more than that


def write_rollouts(path: Path, groups: list[RolloutGroup], key: str) -> None:
    """Writes one row a sample, atomically.

    Args:
        key: what the samples follow from; `read_rollouts` must name the same.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    rows = [
        {**row, "ids": list(rollout.generation.ids or ()), "logprobs": _float32(rollout.generation.logprobs or ())}
        for row, rollout in zip(sample_rows(groups), rollouts, strict=True)
    ]
    write_jsonl(path, [{**row, "sha256": _seal(row, key)} for row in rows])


def read_rollouts(
    path: Path,
    problems: Sequence[Problem],
    requests: Sequence[Request],
    tokenizer: Tokenizer,
    key: str,
) -> list[RolloutGroup] | None:
    """Reads the groups back; what is null is still to be asked for.

    Args:
        requests: those that the samples answer, as many for each problem.

    Returns:
        one group a problem; None where the file is not there, is of another key, or is not whole.
    """
    if not path.is_file():
        return None
    try:
        rows = read_jsonl(path)
        if len(rows) != len(requests) or any(row.pop("sha256") != _seal(row, key) for row in rows):
            return None
    except (DataError, AttributeError, KeyError) as error:
        logger.warning("%s: cannot be read (%s); its step is sampled again", path, error)
        return None
    size = len(rows) // len(problems)
    return [
        RolloutGroup(
            problem,
            requests[start].prompt_ids or (),
            requests[start].thinking,
            tuple(_rollout(requests[place], rows[place], tokenizer) for place in range(start, start + size)),
        )
        for problem, start in zip(problems, range(0, len(rows), size), strict=True)
    ]


def buffer_key(model: nn.Module, asked: object) -> str:
    """A hash of what samples follow from: the weights as they are, and whatever else was asked, as JSON."""
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode())
    for name, weight in model.named_parameters():
        values = weight.detach().flatten()
        some = values[:: max(1, len(values) // SAMPLED_VALUES)].cpu().contiguous()
        digest.update(name.encode() + some.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
