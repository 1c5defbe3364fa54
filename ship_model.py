"""Makes the small model that comes with the package from a finished run:

    python ship_model.py runs/nano-exaone-deep

The weights are rounded to bfloat16 and measured on the run's own problems, as the run was. What was measured stands in
the folder's model.json, beside the run's scores; README.md, the model's card, says the same in words.
"""

import argparse
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import open_exaone as ox
from open_exaone.base.errors import OpenExaoneError
from open_exaone.base.files import read_json, read_jsonl, write_json, write_jsonl, write_text
from open_exaone.base.records import Problem
from open_exaone.checkpoint.shipped import FACTS, FILES, MODELS, PROBLEMS, SHIPPED, SUMS
from open_exaone.evaluation.config import OWN_SAMPLING
from open_exaone.pipeline.folder import RunFolder
from open_exaone.present.formatting import duration, interval, number, percent, words

HOME = Path(__file__).parent
FAMILY = "pebble"  # the name is ours and followed by the number of parameters
MAX_BYTES = 4_000_000
OFFERED = 2  # problems of each family in each language
SCORES = ("num_problems", "k", "pass_at_1", "ci95", "cons_at_k", "per_task", "per_language")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run that began with random weights")
    parser.add_argument("--out", type=Path, default=MODELS, help="where the model's folder is put; %(default)s")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = make(args.run, Path(place))
        num_bytes = sum(file.stat().st_size for file in folder.iterdir())
        if num_bytes > MAX_BYTES:
            parser.error(f"{args.run}: the model would take {num_bytes:,} bytes, and at most {MAX_BYTES:,} are shipped")
        target = args.out / folder.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder, target)
    print(f"{target}: {num_bytes:,} bytes")
    if target.name != SHIPPED:
        print(f'Now set SHIPPED = "{target.name}" in src/open_exaone/checkpoint/shipped.py, remove {MODELS / SHIPPED},')
        print(f"and write the new name for {SHIPPED} in README.md, NOTICE, CHANGELOG.md and docs/.")


def make(run: Path, place: Path) -> Path:
    """The model's folder, with every file in it, in `place`."""
    report, recipe = read_json(run / "report.json"), RunFolder(run).recipe()
    if report["model"]["source"] is not None:
        raise SystemExit(f"{run}: began with {report['model']['source']}, whose licence its model is under")
    millions = f"{report['model']['num_parameters'] / 1e6:.1f}".removesuffix(".0")
    folder = place / f"{FAMILY}-{millions}m"
    ox.convert(run, folder, dtype="bfloat16")
    measured = {name: measure(folder, run, name, place) for name in recipe.evaluation.names}
    first = recipe.evaluation.names[0]
    offered = choose(RunFolder(run).problems(first), solved(place, first))
    facts = collect(folder.name, report, {name: task for name, (task, _) in measured.items()}, len(offered))
    facts["scores"][first]["greedy"] = measured[first][1]
    facts["families"] = {
        family: sorted({problem.language for problem in RunFolder(run).problems(first) if problem.task == family})
        for family in dict.fromkeys(problem.task for problem in offered)
    }
    write_json(folder / FACTS, facts)
    write_jsonl(folder / PROBLEMS, [without_nothing(problem) for problem in offered])
    write_text(folder / "README.md", card(facts))
    shutil.copyfile(HOME / "LICENSE", folder / "LICENSE")
    sums = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES)
    write_text(folder / SUMS, "".join(sums))
    return folder


def measure(folder: Path, run: Path, name: str, place: Path) -> tuple[dict[str, Any], float]:
    """The scores on one of the run's sets of problems, by samples as in the run, and the greedy score."""
    sampling = {**OWN_SAMPLING, **RunFolder(run).recipe().evaluation.sampling}
    sampling["max_new_tokens"] = (
        RunFolder(run).recipe().evaluation.reply_limit(ox.load_model(folder).config.max_positions)
    )
    asked = {"suite": str(run / "problems" / f"{name}.jsonl"), "device": "cpu"}
    samples = ox.evaluate(folder, out=place / f"{name}-samples", **asked, **sampling)
    greedy = ox.evaluate(
        folder, out=place / f"{name}-greedy", **asked, **sampling | {"num_samples": 1, "temperature": 0.0}
    )
    return {key: samples[key] for key in SCORES}, greedy["pass_at_1"]


def solved(place: Path, name: str) -> set[str]:
    """The problems whose every reply was right, sampled and greedy."""
    rows = [row for kind in ("samples", "greedy") for row in read_jsonl(place / f"{name}-{kind}" / "samples.jsonl")]
    return {row["problem"] for row in rows} - {row["problem"] for row in rows if row["verdict"] != "correct"}


def choose(problems: Iterable[Problem], solved: set[str]) -> list[Problem]:
    """The first ones of each family in each language that were solved; large families first, languages in turn."""
    problems = list(problems)
    size = Counter(problem.task for problem in problems)
    cells = dict.fromkeys((problem.task, problem.language) for problem in problems)
    order = sorted(cells, key=lambda cell: -size[cell[0]])
    chosen = [
        [one for one in problems if (one.task, one.language) == cell and one.id in solved][:OFFERED] for cell in order
    ]
    return [cell[turn] for turn in range(OFFERED) for cell in chosen if turn < len(cell)]


def without_nothing(problem: Problem) -> dict[str, Any]:
    """A problem's fields, without the worked solution."""
    return {key: value for key, value in asdict(problem).items() if key not in ("thought", "reply")}


def collect(name: str, report: Mapping[str, Any], scores: Mapping[str, Any], num_offered: int) -> dict[str, Any]:
    """What model.json says."""
    kept = ("name", "kind", "train_steps", "train_tokens", "train_flops", "train_seconds")
    last = {task["measured_on"]: task for task in report["stages"][-1].get("tasks", [report["stages"][-1]])}
    return {
        "name": name,
        "license": "apache-2.0",
        "num_parameters": report["model"]["num_parameters"],
        "dtype": "bfloat16",
        "context": report["model"]["max_positions"],
        "num_offered": num_offered,
        "recipe": report["recipe"],
        "seed": report["seed"],
        "config_hash": report["config_hash"],
        "seconds": report["seconds"],
        "machine": report["machine"],
        "versions": {key: value for key, value in report["versions"].items() if key != "platform"},
        "stages": [{key: stage[key] for key in kept} for stage in report["stages"]],
        "scores": {task: dict(values) for task, values in scores.items()},
        "scores_of_run": {task: {key: last[task][key] for key in ("pass_at_1", "ci95", "greedy")} for task in scores},
    }


CARD = """\
---
license: apache-2.0
language: [en, ko]
library_name: transformers
pipeline_tag: text-generation
tags: [reasoning, exaone4, open-exaone]
---
# {name}

A reasoning model of {parameters} parameters that comes with Open-EXAONE: `exaone chat` and `exaone serve` open it if no
other is named. In Python it is `ox.load_model("{name}")`; transformers, vLLM and llama.cpp open what
`exaone convert {name} DIR` writes.

It was trained from random weights by one command, in {time} on {threads} CPU threads, and made ready by a second:

```sh
exaone run {recipe}          # seed {seed}, settings {config_hash}
make shipped-model RUN=runs/{folder}
```

Open-EXAONE is independent of LG AI Research. This model holds no weights, vocabulary or texts of LG and does not bear
the name EXAONE; only its architecture follows the EXAONE 4.0 report (arXiv 2507.11407).

## What it can do
It solves generated problems of {num_families} kinds, as small as those it was trained on, and thinks before it answers.
On {num_problems} problems that are not in its training data, with {k} samples each:

{families}

## What it cannot do
- **It is no general assistant.** It knows these kinds of problems and little else; to anything else it answers
  nonsense, fluently.
- Longer problems of the same kinds than any in training (`harder`) and kinds that no stage trained on (`unseen`) are
  beyond it: see the scores below.
- Its context holds {context} tokens; a conversation is better begun anew for each problem.
- A score on generated problems says nothing about any public benchmark.
- It may state a wrong answer with a fluent thought, and a thought need not be how the answer came about.

## How it was made
{stages}

Tokens are non-padding, prompt included. The run's model was rounded from float32 to bfloat16 and measured again on the
run's own problems; pass@1 of {k} samples each, with 95% intervals clustered by problem:

{scores}

{problems_file} holds {num_offered} of the `{first}` problems, two of each kind in each language, which `exaone chat`
offers. They were chosen among those that the model solved in every sample, so they are no measure of it.

## Licence
The weights, the tokenizer and the problems are under Apache-2.0 (LICENSE). All training problems are generated by
Open-EXAONE and by reasoning-gym (Apache-2.0); no other model's output was used.

## Versions
{versions}
"""


def card(facts: Mapping[str, Any]) -> str:
    """README.md: the card, all of whose figures stand in model.json."""
    first, scores = next(iter(facts["scores"])), facts["scores"]
    of_first = scores[first]
    languages = {"en": "English", "ko": "Korean"}
    families = [
        [words(name), " and ".join(map(languages.get, codes)), *shown(of_first["per_task"][name])]
        for name, codes in facts["families"].items()
    ]
    families.append(["all", "", *shown(of_first)])
    stages = [
        [
            one["name"],
            one["kind"],
            f"{one['train_steps']:,}",
            number(one["train_tokens"]),
            duration(one["train_seconds"]),
        ]
        for one in facts["stages"]
    ]
    rows = [
        [f"`{name}`", f"{one['num_problems']:,}", *shown(one), *shown(of_run)]
        for (name, one), of_run in zip(scores.items(), facts["scores_of_run"].values(), strict=True)
    ]
    return CARD.format(
        **{key: facts[key] for key in ("name", "recipe", "seed", "config_hash", "num_offered", "context")},
        parameters=f"{facts['num_parameters']:,}",
        time=duration(facts["seconds"]),
        threads=facts["machine"]["threads"],
        folder=facts["recipe"].replace("/", "-"),
        num_families=len(facts["families"]),
        num_problems=f"{of_first['num_problems']:,}",
        k=of_first["k"],
        families=table(["kind", "language", "pass@1", "95% interval"], families),
        stages=table(["stage", "kind", "steps", "tokens", "time"], stages),
        scores=table(["problems", "number", "pass@1", "95% interval", "the run's", "95% interval"], rows),
        problems_file=f"`{PROBLEMS}`",
        first=first,
        versions=table(["", ""], [[name, version] for name, version in facts["versions"].items()]),
    )


def shown(score: Mapping[str, Any]) -> list[str]:
    return [percent(score["pass_at_1"]), interval(score["ci95"])]


def table(titles: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [titles, ["---"] * len(titles), *rows])


if __name__ == "__main__":
    try:
        main()
    except OpenExaoneError as error:
        raise SystemExit(f"{error}") from None
