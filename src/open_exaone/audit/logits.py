"""Part 1 of `verify-real`: the same weights, the same texts, our log-probabilities beside transformers'."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import count
from typing import TYPE_CHECKING, Any

from open_exaone.audit.part import Check, Found, Trial, clean_folder, need_transformers
from open_exaone.audit.reference import NUM_GREEDY, NUM_SCORED, Reading, Texts, read
from open_exaone.base.errors import ConfigError

if TYPE_CHECKING:
    from open_exaone.model.config import ModelConfig
    from open_exaone.text.tokenizer import Tokenizer

TEXTS = {
    "english": "A lighthouse keeper writes down the weather every morning. On Monday the wind came from the north and "
    "the sea was calm; by Wednesday it had turned, and 14 of the 23 boats stayed in the harbour. If each boat that "
    "stays loses 120 coins a day, how many coins did the harbour lose that week? Let us work through it step by step: "
    "14 boats stayed for three days, so the loss is 14 times 120 times 3, which is",
    "korean": "등대지기는 매일 아침 날씨를 적는다. 월요일에는 북풍이 불고 바다가 잔잔했지만, 수요일에는 바람이 바뀌어 "
    "배 스물세 척 가운데 열네 척이 항구에 남았다. 남은 배 한 척이 하루에 120원씩 손해를 본다면, 사흘 동안 항구 전체의 "
    "손해는 얼마인지 차근차근 계산해 보자. 먼저 하루의 손해는 14에 120을 곱한 값이므로",
    "code": "def longest_run(values: list[int]) -> tuple[int, int]:\n"
    '    """The start and the length of the longest run of equal values."""\n'
    "    best_start, best_length, start = 0, 0, 0\n    for index, value in enumerate(values):\n"
    "        if value != values[start]:\n            start = index\n"
    "        if index - start + 1 > best_length:\n            best_start, best_length = start, index - start + 1\n"
    "    return best_start, best_length\n\n\n"
    "assert longest_run([1, 1, 2, 2, 2, 3]) == (2, 3)\nassert longest_run([]) ==",
}
PAST = 1024  # tokens by which the long text passes the window, or the context before RoPE was scaled
PLAIN_LONG = 4096  # tokens of the long text of a model that has neither

# What is tolerated, in nats. float32's is 1 % of what bfloat16 costs, and no less than this: a rounding apart, the two
# compute the same. bfloat16's is a multiple of what it costs transformers itself: two roundings of one size differ by
# √2 of it on average. Without that yardstick, ours by judgement.
FLOAT32_MAX, FLOAT32_MEAN = 1e-3, 1e-4
FLOAT32_SHARE = 0.01
BFLOAT16_MAX_TIMES, BFLOAT16_MEAN_TIMES = 3.0, 2.0
BFLOAT16_MAX, BFLOAT16_MEAN = 1.0, 0.05
SPARE_DISAGREEMENT = 0.01  # of the tokens, beside twice what bfloat16 costs transformers


@dataclass(frozen=True, slots=True)
class Tolerance:
    """In nats: of one token's log-probability, and of their mean."""

    max: float
    mean: float


def settings_of() -> dict[str, Any]:
    """What decides this part's outcome besides the model."""
    try:
        transformers = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        transformers = "not installed"
    return {"num_scored": NUM_SCORED, "num_greedy": NUM_GREEDY, "transformers": transformers}


def compare_logits(trial: Trial, settings: Mapping[str, Any]) -> Found:
    """Reads the texts in float32, where that fits, and in bfloat16, by ours and by transformers.

    Raises:
        ConfigError: transformers is not installed, or the model does not fit.
        CheckpointError: transformers cannot open the model.
    """
    from open_exaone.checkpoint.folder import load_tokenizer

    need_transformers()
    tokenizer = load_tokenizer(trial.folder)
    texts = make_texts(trial.config, tokenizer)
    dtypes = [dtype for dtype in ("float32", "bfloat16") if _fits(trial, dtype, texts)]
    if not dtypes:
        raise ConfigError(
            f"{trial.config.num_parameters:,} parameters do not fit this device even in bfloat16: take a larger one, "
            "a smaller model, or --device cpu"
        )
    folder = clean_folder(trial.out / "logits", settings)
    readings = {
        (reader, dtype): read(trial, folder, reader, dtype, texts, tokenizer.end_ids)
        for reader in ("transformers", "ours")
        for dtype in dtypes
    }
    shutil.rmtree(folder / "EXAONE-as-llama", ignore_errors=True)
    return judge(readings, texts, trial.config)


def make_texts(config: "ModelConfig", tokenizer: "Tokenizer") -> dict[str, list[int]]:
    """The texts as ids, each short enough for what is generated behind it; "long" passes the window by `PAST`."""
    room = config.max_positions - NUM_GREEDY
    ids = {name: tokenizer.encode(text)[:room] for name, text in TEXTS.items()}
    scaled = config.rope_scaling.original_max_positions if config.rope_scaling else None
    border = config.window if config.is_hybrid else scaled
    length = min(room, border + PAST if border else PLAIN_LONG)
    return {**ids, "long": _long_text(tokenizer, length)}


def _long_text(tokenizer: "Tokenizer", length: int) -> list[int]:
    """A ledger whose lines all differ."""
    ids: list[int] = []
    for day in count(1):
        boats, coins = 3 + day * 7 % 41, 11 + day * 13 % 97
        ids += tokenizer.encode(f"Day {day}: {boats} boats stayed, {coins} coins each, {boats * coins} in all.\n")
        ids += tokenizer.encode(f"{day}일째: 배 {boats}척이 남아 모두 {boats * coins}원의 손해를 보았다.\n")
        if len(ids) >= length:
            break
    return ids[:length]


def _fits(trial: Trial, dtype: str, texts: Texts) -> bool:
    """Whether the weights and the work on the longest text have room on the device."""
    from open_exaone.engine.memory import free_bytes

    config, size = trial.config, {"float32": 4, "bfloat16": 2}[dtype]
    longest = max(map(len, texts.values())) + NUM_GREEDY
    work = longest * (8 * config.width + 3 * config.ffn_width) * size + 16 * NUM_SCORED * config.vocab_size
    masks = 2 * longest**2 if config.is_hybrid else 0
    return 1.1 * config.num_parameters * size + work + masks < free_bytes(trial.device)


# Comparing


def judge(readings: Mapping[tuple[str, str], Reading], texts: Texts, config: "ModelConfig") -> Found:
    """The differences as figures, and what is tolerated as checks."""
    dtypes = [dtype for reader, dtype in readings if reader == "ours"]
    pairs = {dtype: differ(readings["ours", dtype], readings["transformers", dtype], texts) for dtype in dtypes}
    has_both = len(dtypes) == 2
    cost = (
        differ(readings["transformers", "bfloat16"], readings["transformers", "float32"], texts) if has_both else None
    )
    checks: list[Check] = []
    for dtype, pair in pairs.items():
        checks += _checks(dtype, pair, tolerance(dtype, cost), cost)
    if not has_both:
        missing = ({"float32", "bfloat16"} - set(dtypes)).pop()
        checks.append(Check(f"{missing}", None, f"Not compared: the weights do not fit in {missing}."))
    figures: dict[str, Any] = {"texts": {name: len(ids) for name, ids in texts.items()}, "num_scored": NUM_SCORED}
    figures |= {"window": config.window if config.is_hybrid else None, **pairs, "bfloat16_costs": cost}
    return Found(tuple(checks), figures)


def tolerance(dtype: str, cost: Mapping[str, Any] | None) -> Tolerance:
    """What is tolerated, given what bfloat16 costs transformers itself."""
    if dtype == "float32":
        share = FLOAT32_SHARE if cost else 0.0
        costs = (cost["max"] or 0.0, cost["mean"] or 0.0) if cost else (0.0, 0.0)
        return Tolerance(max(FLOAT32_MAX, share * costs[0]), max(FLOAT32_MEAN, share * costs[1]))
    if cost is None:
        return Tolerance(BFLOAT16_MAX, BFLOAT16_MEAN)
    return Tolerance(
        max(FLOAT32_MAX, BFLOAT16_MAX_TIMES * (cost["max"] or 0.0)),
        max(FLOAT32_MEAN, BFLOAT16_MEAN_TIMES * (cost["mean"] or 0.0)),
    )


def differ(found: Reading, reference: Reading, texts: Texts) -> dict[str, Any]:
    """How far two readings are apart, text by text and in all; a number that is not finite is None."""
    by_text, gaps, odd, total = {}, [], 0, 0
    for name in texts:
        gap_T = (found[f"{name}.logprobs"] - reference[f"{name}.logprobs"]).abs()
        other_T = found[f"{name}.best"] != reference[f"{name}.best"]
        margins = reference[f"{name}.margin"][other_T].tolist()
        by_text[name] = {
            "num_tokens": len(gap_T),
            "max": _finite(float(gap_T.max())),
            "mean": _finite(float(gap_T.mean())),
            "other_best": len(margins),
            "other_best_margin": _finite(max(margins, default=0.0)),
            **_parting(found, reference, name),
        }
        gaps += gap_T.tolist()
        odd, total = odd + len(margins), total + len(gap_T)
    return {
        "max": _finite(max(gaps, key=lambda gap: math.inf if math.isnan(gap) else gap)),
        "mean": _finite(math.fsum(gaps) / total),
        "same_best": (total - odd) / total,
        "texts": by_text,
    }


def _parting(found: Reading, reference: Reading, name: str) -> dict[str, Any]:
    """Where two greedy texts part, and how far apart the reference's two best were there."""
    ours, theirs = found[f"{name}.greedy"].tolist(), reference[f"{name}.greedy"].tolist()
    num_same = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    if num_same is None and len(ours) == len(theirs):
        return {"greedy_same": len(ours), "greedy_parts": False, "greedy_margin": None}
    place = min(len(ours), len(theirs)) if num_same is None else num_same
    margins = reference[f"{name}.greedy_margin"].tolist()
    return {
        "greedy_same": place,
        "greedy_parts": True,
        "greedy_margin": _finite(margins[place]) if place < len(margins) else None,
    }


def _checks(dtype: str, pair: Mapping[str, Any], allowed: Tolerance, cost: Mapping[str, Any] | None) -> list[Check]:
    texts = pair["texts"].values()
    parted = [text for text in texts if text["greedy_parts"]]
    widest = max((_or_inf(text["greedy_margin"]) for text in parted), default=0.0)
    if dtype == "float32":
        odd = max(_or_inf(text["other_best_margin"]) for text in texts)
        apart = (
            f"; elsewhere the two best are at most {odd:.2g} apart (tolerated: {2 * allowed.max:.2g})" if odd else ""
        )
        text = f"The same at {pair['same_best']:.2%} of the places{apart}."
        same = Check(f"{dtype}: most likely token", odd <= 2 * allowed.max, text)
    else:
        least = 1 - SPARE_DISAGREEMENT - 2 * (1 - (cost["same_best"] if cost else 0.99))
        same = Check(
            f"{dtype}: most likely token",
            pair["same_best"] >= least,
            f"The same at {pair['same_best']:.2%} of the places (tolerated: {least:.2%}).",
        )
    text = f"{len(parted)} of {len(texts)} texts part, where the two best are at most {widest:.2g} apart"
    return [
        _within(f"{dtype}: largest difference", pair["max"], allowed.max),
        _within(f"{dtype}: mean difference", pair["mean"], allowed.mean),
        same,
        Check(
            f"{dtype}: greedy text",
            widest <= 2 * allowed.max,
            f"{text} (tolerated: {2 * allowed.max:.2g})." if parted else f"All {len(texts)} are equal.",
        ),
    ]


def _within(name: str, value: float | None, limit: float) -> Check:
    text = "not finite" if value is None else f"{value:.2g} nats"
    return Check(name, value is not None and value <= limit, f"{text} (tolerated: {limit:.2g}).")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value
