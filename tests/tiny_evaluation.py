"""An evaluation's folder as `exaone eval` leaves it, made up: any number of samples, some of them hostile."""

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HOSTILE = '</script><img src=x onerror="document.title=\'pwned\'"><script>document.title="pwned"</script><!--'
STEERING = "\x00\x1b[31m\u202eabc\u202c\u2028\ud800\x85"
TASKS = ("aime_2025", "math_500", "csat_2025_math", "aime_2025@1024", "aime_2025@4096")
NOTES = ("left out: gpqa_diamond: its rows are missing", "the endpoint does not support seed")
VERDICTS = ("correct", "wrong", "unparsed", "truncated", "timeout", "error")
SHARES = (60, 25, 5, 7, 2, 1)
WORDS = ("so", "the", "sum", "of", "digits", "is", "then", "wait", "check", "modulo", "prime", "root", "따라서", "값은")


def report(names: Iterable[str] = TASKS) -> dict[str, Any]:
    """A report.json of schema 1."""
    entries = [_entry(name, place) for place, name in enumerate(names)]
    points = [
        {"budget": budget, "pass_at_1": score, "ci95": [score - 0.08, score + 0.07], "mean_thought_tokens": 900.0}
        for budget, score in ((1024, 0.21), (4096, 0.38), (16384, 0.47), (None, 0.52))
    ]
    return {
        "schema_version": 1,
        "suite": "exaone-deep",
        "model": {"engine": "local", "model": "nano-exaone-deep/rl", "sha256": "5f2b" * 16, "dtype": "bfloat16"}
        | {"notes": list(NOTES)},
        "code_version": "0.1.0+3f2a9c01b7de",
        "versions": {"open_exaone": "0.1.0", "torch": "2.13.0", "python": "3.11.9"},
        "started": "2026-03-04T05:06:07+00:00",
        "seconds": 4210.5,
        "tasks": entries,
        "curve": [{"benchmark": "aime_2025", "mode": "reasoning", "points": points}],
        "faithfulness": [],
    }


def _entry(name: str, place: int) -> dict[str, Any]:
    score = 0.52 - 0.09 * place

    def estimate(value: float) -> dict[str, float]:
        return {"value": value, "low": max(0, value - 0.02), "high": value + 0.02}

    entry: dict[str, Any] = {
        "name": name,
        "benchmark": name.partition("@")[0],
        "mode": "reasoning",
        "num_problems": 30,
        "k": 8,
        "seed": 0,
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20 if place == 1 else None,
        "min_p": 0.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "logit_bias": [],
        "stop_ids": [],
        "stop": ["Question:"] if place == 1 else [],
        "max_new_tokens": 32768,
        "thinking_budget": int(name.partition("@")[2]) if "@" in name else None,
        "source": f"rows/{name}.jsonl",
        "sha256": "ab" * 32,
        "is_pinned": place not in (1, 3),
        "is_whole": place != 3,
        "not_published": ["presence_penalty"] if place in (2, 4) else [],
        "pass_at_1": score,
        "ci95": [score - 0.061, score + 0.063],
        "ci95_bootstrap": [score - 0.06, score + 0.06],
        "ci95_normal": [score - 0.06, score + 0.06],
        "correlation": 0.4,
        "pass_at": {"1": score, "8": score + 0.2},
        "cons_at": {"1": score, "8": score + 0.1},
        "pass_at_k": score + 0.2,
        "cons_at_k": score + 0.1,
        "cons_ci95": [score, score + 0.2],
        "rates": {
            "no_answer": estimate(0.031),
            "truncated": estimate(0.047),
            "language_mismatch": estimate(0.012) if place == 2 else None,
            "error": estimate(0.0),
        },
        "tokens": {
            **{"prompt": 120.0, "thought": 1834.2, "answer": 210.9, "reply": 2045.1},
            **{"thought_correct": 1500.0, "thought_wrong": 2200.0},
        },
        "cost": {"prompt_tokens": 28_800, "reply_tokens": 490_824, "flops": 1.3e15},
        "missing": [],
        "notes": [],
        "stops": {"end": 230, "length": 10},
        "per_task": {
            "algebra": {
                "num_problems": 20,
                "pass_at_1": score,
                "ci95": [0.1, 0.6],
                "constant_baseline": 0.1,
                "commonest_answer_share": 0.2,
            }
        },
        "per_language": {},
        "per_cell": [],
        "csat": None,
        "published": [],
        "grader": None,
    }
    if place == 0:
        names = ("EXAONE Deep 2.4B", "DeepSeek-R1-Distill-Qwen-1.5B", "OpenAI o1-mini", "EXAONE Deep 2.4B")
        metrics = ("pass@1", "pass@1", "pass@1", "cons@64")
        differences, within_ours = (0.041, 0.281, -0.028, 0.02), (True, False, True, True)
        rows = zip(names, metrics, (47.9, 23.9, 54.8, 60.0), differences, within_ours, strict=True)
        entry["published"] = [
            {
                "model": model,
                "table": "exaone-deep",
                "mode": "reasoning",
                "metric": metric,
                "setting": "",
                "percent": percent,
                "difference": difference,
                "within": within,
                "difference_ci95": [difference - 0.1, difference + 0.1] if within else None,
                "source": "arXiv 2503.12524, table 2",
                "tag": "P",
            }
            for model, metric, percent, difference, within in rows
        ]
        entry["per_task"]["geometry"] = {
            "num_problems": 10,
            "pass_at_1": 0.31,
            "ci95": [0.2, 0.5],
            "constant_baseline": 0.1,
            "commonest_answer_share": 0.3,
        }
    if name.startswith("csat"):
        elective = {"points": 62.5, "accuracy": 0.61}
        entry["csat"] = {"electives": {"calculus": elective}, "mean_points": 62.5, "mean_accuracy": 0.61}
        entry["csat"] |= {"points_ci95": [0.55, 0.7]}
        entry["grader"] = {"score": 0.33, "agreement": 0.987, "only_ours": 3, "only_theirs": 1}
    return entry


def problems(num_problems: int, names: Iterable[str] = TASKS) -> Iterator[dict[str, Any]]:
    """Rows of problems.jsonl: every task of one benchmark has the same questions."""
    for name in names:
        benchmark = name.partition("@")[0]
        language = "ko" if benchmark.startswith("csat") else "en"
        for number in range(num_problems):
            question = f"Problem {number} of {benchmark}: what is {number} + {number * 7 % 31}?"
            yield {
                "task": name,
                "id": f"{benchmark}/{number:03d}",
                "family": benchmark,
                "language": language,
                "question": f"다음 값을 구하시오. {question}" if language == "ko" else question,
                "answer": str(number + number * 7 % 31),
                "verifier": "math",
                "metadata": {},
            }


def samples(rows: Iterable[dict[str, Any]], k: int, num_words: int = 60, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of samples.jsonl, k a problem; `num_words` is the mean length of a thought."""
    draw = random.Random(seed)
    for problem in rows:
        for index in range(k):
            verdict = draw.choices(VERDICTS, SHARES)[0]
            words = draw.choices(WORDS, k=1 + int(draw.expovariate(1 / num_words)))
            gold = problem["answer"]
            extracted = {"correct": gold, "wrong": str(int(gold) + 1)}.get(verdict)
            tokens = len(words) * 2
            yield {
                "key": f"{draw.getrandbits(64):016x}",
                "task": problem["task"],
                "problem": problem["id"],
                "index": index,
                "thought": f"{problem['question']}\n" + " ".join(words),
                "answer": f"The answer is \\boxed{{{extracted}}}." if extracted else "I cannot tell.",
                "finished": verdict != "truncated",
                "stop": "length" if verdict == "truncated" else "end",
                "num_prompt_tokens": 40,
                "num_tokens": tokens + 12,
                "num_thought_tokens": tokens,
                "verdict": verdict,
                "extracted": extracted,
                "why": f"{extracted} is {'' if verdict == 'correct' else 'not '}{gold}.",
            }


def write(folder: Path, num_problems: int = 4, k: int = 3, num_words: int = 60) -> Path:
    """Writes the three files that a page is drawn from."""
    rows = list(problems(num_problems))
    write_files(folder, report(), rows, samples(rows, k, num_words))
    return folder


def write_files(folder: Path, told: object, rows: Iterable[dict[str, Any]], sampled: Iterable[dict[str, Any]]) -> None:
    """Writes a report and rows as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(told), encoding="utf-8")
    for name, lines in (("problems", rows), ("samples", sampled)):
        with open(folder / f"{name}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
