"""How often our verdicts agree with other people's: graders' own cases, real replies, IFEval's official verdicts.

    python benchmarks/verify_agreement.py [--show]

With --show, every disagreement is printed. The data are read from the folder that OPEN_EXAONE_DATA names, or
../shared/data.
"""

import argparse
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from math_verify import parse, verify

import open_exaone as ox
from open_exaone.verify.constraints.judge import follow

logging.disable(logging.CRITICAL)
DATA = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[2] / "shared" / "data"))
SHOW = "--show" in sys.argv[1:]
REPLIES = (
    "qwen_math_cot_100x8",
    "skythought_math500_gemma-2-27b",
    "skythought_aime24_sky-t1-correct-32B-ckpt70",
)
GSM8K_MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")


def rows(name: str) -> Iterator[dict[str, Any]]:
    with (DATA / name).open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def tell(name: str, agree: int, total: int) -> None:
    print(f"{name:<66} {agree:>6,} of {total:>6,}  {agree / total:7.2%}")


def graders_cases() -> None:
    """Rows of the graders' own tests, with the options that they set, and with none."""
    cases = list(rows("grader/grader_cases_half.jsonl"))
    for label, with_options in (("options of the row", True), ("no options", False)):
        ours = theirs = 0
        for case in cases:
            options = {name: case[name] for name in ("strict", "allow_set_relation_comp") if case[name] is not None}
            options |= {"float_rounding": case["precision"]} if case["precision"] else {}
            metadata = {"precision": case["precision"]} if case["precision"] and with_options else {}
            verdict = ox.judge("math", case["pred"], case["gold"], metadata=metadata)
            ours += verdict.correct == case["expected"]
            theirs += (
                verify(parse(case["gold"]), parse(case["pred"]), **(options if with_options else {}))
                == case["expected"]
            )
            if SHOW and verdict.correct != case["expected"]:
                print("  ", case["gold"], "|", case["pred"], "|", verdict)
        tell(f"graders' own cases, {label}: ox.judge", ours, len(cases))
        tell(f"graders' own cases, {label}: Math-Verify", theirs, len(cases))


def real_replies() -> None:
    for name in REPLIES:
        count: Counter[bool] = Counter()
        for row in rows(f"outputs/{name}.jsonl"):
            for reply, label in zip(row["code"], row["score"], strict=True):
                count[_agrees(reply, str(row.get("answer") or row["gt"]), label)] += 1
        tell(f"real replies, {name}", count[True], count.total())
    count = Counter()
    for row in rows("outputs/gsm8k_example_model_solutions.jsonl"):
        gold = row["ground_truth"].split("A:")[-1].strip()
        for model in GSM8K_MODELS:
            count[_agrees(row[model]["solution"], gold, row[model]["is_correct"])] += 1
    tell("real replies, gsm8k_example_model_solutions", count[True], count.total())


def _agrees(reply: str, gold: str, label: bool) -> bool:
    verdict = ox.judge("math", reply, gold)
    if SHOW and verdict.correct != label:
        print("  ", gold, "|", reply[-160:], "|", verdict, "| their verdict:", label)
    return verdict.correct == label


def ifeval() -> None:
    prompts = {row["prompt"]: row for row in rows("ifeval/input_data.jsonl")}
    for mode in ("strict", "loose"):
        instructions: list[bool] = []
        whole: list[bool] = []
        for official in rows(f"ifeval/gpt4_eval_results_{mode}.jsonl"):
            ours = list(follow(official["response"], prompts[official["prompt"]], mode))
            instructions += [a == b for a, b in zip(ours, official["follow_instruction_list"], strict=True)]
            whole.append(all(ours) == official["follow_all_instructions"])
        tell(f"IFEval's official verdicts, {mode}, instructions", sum(instructions), len(instructions))
        tell(f"IFEval's official verdicts, {mode}, prompts", sum(whole), len(whole))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print every disagreement")
    parser.parse_args()
    graders_cases()
    real_replies()
    ifeval()
