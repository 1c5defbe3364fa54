"""Prompts that two sets of prepared data share."""

import hashlib
from typing import NamedTuple

import numpy as np

from open_exaone.base.normalise import normalise_prompt
from open_exaone.data.store import Prepared


class Overlap(NamedTuple):
    """Prompts that stand in two sets."""

    num_prompts: int
    one: str  # where the first of them stands in the one set, such as "train.jsonl, row 12"
    other: str  # and in the other


def prompt_hash(text: str) -> int:
    """64 bits of a prompt, above 0; 0 where there is no prompt."""
    compared = normalise_prompt(text)
    if not compared:
        return 0
    digest = hashlib.blake2b(compared.encode("utf-8", "replace"), digest_size=8).digest()
    return max(1, int.from_bytes(digest, "little"))


def find_overlap(one: Prepared, other: Prepared) -> Overlap | None:
    """The prompts that stand in both sets; None where there is none."""
    shared, ones, others = np.intersect1d(one.prompts_N, other.prompts_N, return_indices=True)
    is_prompt = shared != 0
    if not is_prompt.any():
        return None
    first = int(np.argmin(np.where(is_prompt, others, len(other))))
    return Overlap(int(is_prompt.sum()), one.place(int(ones[first])), other.place(int(others[first])))
