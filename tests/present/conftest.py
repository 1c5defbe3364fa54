"""A run's folder as a story leaves it: four stages, metrics, three showcase problems, one of them hostile."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

TASKS = ("basic_arithmetic", "chain_sum", "clock_hands", "letter_count", "sorting", "spell_backward", "조사_고르기")
STAGES = (  # name, kind, mode, pass@1, greedy, cons@k, pass@k, thought tokens, truncated, tokens, seconds
    ("base", "base", "non_reasoning", 0.183, 0.191, 0.201, 0.262, 0.0, 0.004, 5_400_000, 262.4),
    ("sft", "sft", "reasoning", 0.512, 0.534, 0.561, 0.690, 71.2, 0.031, 3_900_000, 301.0),
    ("prefer", "prefer", "reasoning", 0.544, 0.556, 0.588, 0.701, 66.8, 0.012, 812_345, 84.6),
    ("rl", "rl", "reasoning", 0.631, 0.640, 0.655, 0.737, 63.1, 0.007, 2_100_000, 288.9),
)
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31m\u202e'


@pytest.fixture
def report() -> dict[str, Any]:
    """A report.json of the shape that the story writes."""
    return fake_report()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run's folder with that report and metrics for each stage."""
    return write_run(tmp_path / "run")


@pytest.fixture
def trained_folder(tmp_path: Path) -> Path:
    """The folder of a run of two stages that nothing evaluated."""
    common = {"train_tokens": 1_234_567, "train_seconds": 75.0, "peak_rss_bytes": 2_100_000_000}
    sft = {"name": "sft", "kind": "sft", "folder": "01-sft", "train_steps": 10, "skipped_steps": 1, **common}
    rl = {"name": "rl", "kind": "rl", "folder": "02-rl", "train_steps": 4, "skipped_steps": 0, **common}
    report = {
        "recipe": "mine",
        "seed": 0,
        "config_hash": "9f86d081884c7d65",
        "versions": {"torch": "2.13.0"},
        "machine": {"device": "cpu", "dtype": "float32", "threads": 2},
        "seconds": 180.0,
        "peak_rss_bytes": 2_100_000_000,
        "model": {"num_parameters": 3_412_224, "source": "path/to/checkpoint"},
        "num_problems": {},
        "stages": [
            {**sft, "sample_seconds": 0.0},
            {**rl, "sample_seconds": 30.0, "retries": {"429": 2, "500": 1}},
        ],
        "showcase": [],
    }
    rows = {
        "01-sft": [
            {"step": n, "num_steps": 10, "loss": 1 / n, "gradient_norm": 1.0 / n, "tokens_per_second": 1e4 + n}
            for n in range(1, 11)
        ],
        "02-rl": [{"step": n, "num_steps": 4, "reward_mean": n / 4, "entropy": 1 / n} for n in range(1, 5)],
    }
    for folder, lines in rows.items():
        (tmp_path / folder).mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    return tmp_path


def fake_report(num_problems: int = 1000, k: int = 4) -> dict[str, Any]:
    return {
        "recipe": "nano/exaone-deep",
        "seed": 0,
        "config_hash": "9f86d081884c7d65",
        "seconds": 1010.2,
        "peak_rss_bytes": 1_912_340_480,
        "versions": {"open_exaone": "0.1.0", "torch": "2.13.0", "python": "3.11.9"},
        "model": {"num_parameters": 3_412_224, "num_layers": 8, "width": 192, "pattern": "LLLG", "vocabulary": 1024},
        "stages": [_entry(index, num_problems, k) for index in range(len(STAGES))],
        "showcase": [_english(), _korean(), _hostile()],
    }


def _entry(index: int, num_problems: int, k: int) -> dict[str, Any]:
    name, kind, mode, score, greedy, cons, any_k, thought, truncated, tokens, seconds = STAGES[index]
    draw = random.Random(index)
    parts = {task: min(1.0, max(0.0, score + draw.uniform(-0.3, 0.3))) for task in TASKS}
    return {
        "name": name,
        "kind": kind,
        "folder": f"{index + 1:02d}-{name}",
        "mode": mode,
        "measured_on": "test",
        "num_problems": num_problems,
        "k": k,
        "pass_at_1": score,
        "ci95": _around(score, num_problems),
        "greedy": greedy,
        "cons_at_k": cons,
        "pass_at_k": any_k,
        "mean_thought_tokens": thought,
        "mean_reply_tokens": thought + 18.5,
        "truncated_share": truncated,
        "unparsed_share": 0.002,
        "error_share": 0.0,
        "train_tokens": tokens,
        "train_seconds": seconds,
        "train_flops": 6 * 3_412_224 * tokens,
        "per_task": {
            task: {"pass_at_1": part, "num_problems": 142, "ci95": _around(part, 142)} for task, part in parts.items()
        },
        "per_language": {
            code: {"pass_at_1": score + shift, "num_problems": 500, "ci95": _around(score + shift, 500)}
            for code, shift in (("en", 0.04), ("ko", -0.04))
        },
    }


def _around(score: float, num_problems: int) -> list[float]:
    half = 1.7 * math.sqrt(score * (1 - score) / num_problems)
    return [max(0.0, score - half), min(1.0, score + half)]


def _replies(*told: tuple[str, str, str, str, str]) -> list[dict[str, str]]:
    modes = {name: mode for name, _, mode, *_ in STAGES}
    keys = ("stage", "thought", "answer", "verdict", "why")
    return [{**dict(zip(keys, row, strict=True)), "mode": modes[row[0]]} for row in told]


def _english() -> dict[str, Any]:
    thought = "17 + 45 = 62.\n62 - 8: 62 - 2 = 60, 60 - 6 = 54.\nWait, 62 - 8 = 54. Yes.\nSo the answer is 54."
    return {
        "problem": {
            "id": "chain_sum/en/1",
            "task": "chain_sum",
            "language": "en",
            "question": "What is 17 + 45 - 8?",
            "answer": "54",
        },
        "replies": _replies(
            ("base", "", "The answer is \\boxed{52}.", "wrong", "52 is not 54"),
            ("sft", thought + "\nHmm, again: 17 + 45", "", "truncated", "the thought was never closed"),
            ("prefer", thought, "17 + 45 - 8 is \\boxed{54}.", "correct", "54 is 54"),
            ("rl", thought.split("\nWait")[0], "17 + 45 - 8 is \\boxed{54}.", "correct", "54 is 54"),
        ),
    }


def _korean() -> dict[str, Any]:
    return {
        "problem": {
            "id": "clock/ko/7",
            "task": "clock_hands",
            "language": "ko",
            "question": "지금은 3시 40분입니다. 95분 뒤는 몇 시 몇 분입니까?",
            "answer": "5시 15분",
        },
        "replies": _replies(
            ("base", "", "답은 \\boxed{4시 15분}입니다.", "wrong", "4시 15분 is not 5시 15분"),
            (
                "sft",
                "95분은 1시간 35분이다.\n3시 40분 + 1시간 = 4시 40분.",
                "답을 모르겠습니다.",
                "unparsed",
                "no \\boxed{}",
            ),
            (
                "prefer",
                "95분은 1시간 35분이다.\n4시 40분 + 35분 = 5시 15분.",
                "답은 \\boxed{5시 15분}입니다.",
                "correct",
                "same time",
            ),
            ("rl", "1시간 35분.\n4시 40분 + 35분 = 5시 15분.", "답은 \\boxed{5시 15분}입니다.", "correct", "same time"),
        ),
    }


def _hostile() -> dict[str, Any]:
    return {
        "problem": {
            "id": HOSTILE,
            "task": HOSTILE,
            "language": '"><script>',
            "question": f"Say {HOSTILE}",
            "answer": HOSTILE,
        },
        "replies": _replies(*((name, HOSTILE * 3, HOSTILE, "error", HOSTILE) for name, *_ in STAGES)),
    }


def write_run(folder: Path, num_steps: int = 300) -> Path:
    """Writes report.json and each stage's metrics.jsonl; returns the folder."""
    told = fake_report()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    for entry in told["stages"]:
        stage = folder / entry["folder"]
        stage.mkdir(exist_ok=True)
        rows = [_rl_row(step) if entry["kind"] == "rl" else _row(step, num_steps) for step in range(1, num_steps + 1)]
        (stage / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def _row(step: int, num_steps: int) -> dict[str, Any]:
    noise = random.Random(step).gauss(0, 0.05)
    return {
        "step": step,
        "tokens": 9000 * step,
        "loss": 0.4 + 4.5 * math.exp(-step / 40) + noise,
        "learning_rate": 3e-3 * min(1, step / 20) * (1 - step / (num_steps + 1)),
        "tokens_per_second": 19_000 + 2_000 * noise,
        "grad_norm": 1 + abs(noise),
        "slips_seen": step % 7,
    }


def _rl_row(step: int) -> dict[str, Any]:
    noise = random.Random(step).gauss(0, 0.04)
    return {
        "step": step,
        "reward_mean": 0.5 + 0.15 * (1 - math.exp(-step / 80)) + noise,
        "entropy": 0.35 * math.exp(-step / 200) + 0.1 * abs(noise),
        "kl": 0.0004 * step,
        "truncated_share": max(0.0, 0.03 + noise / 4),
        "logprob_gap": 2e-5 * (1 + abs(noise)),
        "mean_reply_tokens": 88 - 0.05 * step + 20 * noise,
    }
