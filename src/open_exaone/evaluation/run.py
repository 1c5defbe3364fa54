"""Measures a model on a set of problems: the same Task, the same rollout as in training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open_exaone.base.errors import DataError
from open_exaone.base.files import write_json, write_jsonl
from open_exaone.base.records import Problem, RolloutGroup, Sampling
from open_exaone.evaluation.config import EvaluationConfig
from open_exaone.evaluation.score import summarise
from open_exaone.rollout.records import sample_rows
from open_exaone.rollout.run import Generate, Judging, run
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.settings import JudgeSettings


def evaluate_problems(
    problems: Sequence[Problem],
    generate: Generate,
    tokenizer: Tokenizer,
    config: EvaluationConfig,
    settings: JudgeSettings | None = None,
    *,
    thinking: bool,
    folder: Path,
) -> dict[str, Any]:
    """Draws k samples and one greedy reply of every problem, judges them, and writes down all of it.

    Args:
        folder: gets `samples.jsonl`, `greedy.jsonl` and, last, `report.json`.

    Returns:
        the fields of `evaluation.score.summarise`, with `mode` and `split`.

    Raises:
        DataError: there are no problems.
    """
    if not problems:
        raise DataError(f"{folder}: there are no problems to measure on: give the split at least one")
    judging = Judging(settings or JudgeSettings())
    samples = _sample(problems, generate, tokenizer, config, judging, thinking, greedy=False)
    greedy = _sample(problems, generate, tokenizer, config, judging, thinking, greedy=True)
    summary = {
        "mode": "reasoning" if thinking else "non-reasoning",
        "split": config.split,
        **summarise(samples, greedy, lambda text: len(tokenizer.encode(text))),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "samples.jsonl", sample_rows(samples))
    write_jsonl(folder / "greedy.jsonl", sample_rows(greedy))
    write_json(folder / "report.json", summary)
    return summary


def _sample(
    problems: Sequence[Problem],
    generate: Generate,
    tokenizer: Tokenizer,
    config: EvaluationConfig,
    judging: Judging,
    thinking: bool,
    greedy: bool,
) -> list[RolloutGroup]:
    sampling = Sampling(
        max_new_tokens=config.max_new_tokens,
        temperature=0.0 if greedy else config.temperature,
        top_p=config.top_p,
        num_samples=1 if greedy else config.num_samples,
        seed=config.seed,
    )
    return run(problems, generate, tokenizer, sampling, thinking=thinking, judging=judging)
