"""Rejection-sampling fine-tuning: which of a model's own replies it learns; `pairs.sampled_units` draws them.

A reply is kept as `exaone data build` keeps a teacher's: it is correct, whole, readable and unlike the others that are
kept of its problem. RFT keeps correct replies with distinct ways of working them out (arXiv 2308.01825, section 3.3).
"""

from collections import Counter
from typing import Any

from open_exaone.base.records import MODES
from open_exaone.data.document import Document, Unit, prompt_ids
from open_exaone.evaluation.run import Samples
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.responses import BuildConfig, select
from open_exaone.pipeline.start import Run
from open_exaone.train.config import RejectionStage

REPLIES_FILE = "replies.jsonl"  # in the stage's folder: what it learns
NOTHING = "no reply is correct"


def kept_replies(
    run: Run, stage: RejectionStage, task: Task, samples: Samples
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The replies of one mode's samples that are learned, and how many were left out for which reason."""
    config = BuildConfig(keep=stage.replies_per_problem, min_distance=stage.min_distance)
    rows, left_out = list[dict[str, Any]](), Counter[str]()
    prompts = prompt_ids(task.problems, run.tokenizer, thinking=task.thinking)
    for problem, prompt, row in zip(task.problems, prompts, samples, strict=True):
        for choice in select(problem, task.thinking, row, config, run.recipe.name):
            if choice.reason is not None:
                left_out[f"replies: {choice.reason}"] += 1
                continue
            asked = {"problem": problem.id, "question": problem.question, "mode": MODES[task.thinking]}
            rows.append({**asked, "prompt_ids": prompt, "reply_ids": choice.sample.generation.ids})
    return rows, left_out


def reply_unit(row: dict[str, Any]) -> Unit:
    """A kept reply behind its prompt; the loss counts the reply."""
    prompt, reply = row["prompt_ids"], row["reply_ids"]
    return [Document([*prompt, *reply], [False] * len(prompt) + [True] * len(reply))]
