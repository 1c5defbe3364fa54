"""A page of every kind that the package writes, from made-up numbers; nothing is trained or sampled."""

from pathlib import Path
from typing import Any

import tiny_evaluation
from made_up_run import make_run
from open_exaone.base.files import write_json
from open_exaone.base.records import Flip, Generation, Problem, Reply, Sample, StopReason, Verdict, VerdictStatus
from open_exaone.data.lengths import ExampleLength, lengths
from open_exaone.model.cluster import Cluster, plan_meshes
from open_exaone.model.gpus import GPUS
from open_exaone.pipeline.card import write_cards
from open_exaone.pipeline.leaderboard import build_leaderboard
from open_exaone.pipeline.plan import plan_recipe, shape_of
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.watch import Watcher
from open_exaone.present import plan_page, watch
from open_exaone.present.ablation import write_ablation_page
from open_exaone.present.against import write_against_page
from open_exaone.present.build_page import write_build_page
from open_exaone.present.cluster import Money, sections
from open_exaone.present.evaluation import write_evaluation_page
from open_exaone.present.filter_page import write_filter_page
from open_exaone.present.lengths import write_lengths
from open_exaone.present.report import write_report
from open_exaone.present.seeds import write_seeds_page
from present.conftest import write_run

MEASURED = {"name": "test", "mode": "reasoning", "num_problems": 1000, "k": 4}
LENGTHS = [ExampleLength(name, "reasoning", 900 + n, 700, 100) for name in ("math", "code") for n in range(30)]


def write_pages(folder: Path) -> dict[str, Path]:
    """Each kind of page with its path; the leaderboard stands for all of its pages."""
    run = make_run(folder / "mine")
    evaluation = tiny_evaluation.write(folder / "eval")
    own = folder / "own"
    write_json(own / "report.json", tiny_evaluation.report(["aime_2025", "mine"]))
    write_json(own / "evaluation.json", {})
    _, site = build_leaderboard([run, own], folder / "leaderboard")
    _, cards = write_cards(run, out=folder / "card")
    found = {path.name: path for path in cards if path.suffix == ".html"}
    live = folder / "watch.html"
    live.write_bytes(watch.page(Watcher(run).look()))
    write_lengths(lengths(LENGTHS), folder / "lengths.html")
    return {
        "leaderboard": site[0],
        "card": found["card.html"],
        "Korean card": found["card.ko.html"],
        "run": write_report(write_run(folder / "run")),
        "evaluation": write_evaluation_page(evaluation),
        "against": against(folder / "against"),
        "watch": live,
        "ablation": ablation(folder / "ablation"),
        "seeds": seeds(folder / "seeds"),
        "filter": filtered(folder / "filter"),
        "build": built(folder / "build"),
        "lengths": folder / "lengths.html",
        "plan": plan(folder / "plan.html"),
    }


def difference(value: float) -> dict[str, Any]:
    bounds = {"value": value, "low": value - 0.02, "high": value + 0.02, "num_questions": 1000, "p_value": 0.01}
    return {**bounds, "by_seed": [value, value + 0.01], "sd": 0.01, "seeds_ci95": [value - 0.05, value + 0.05]}


def ablation(folder: Path) -> Path:
    runs = [{"seed": seed, "folder": f"runs/{seed}", "score": 0.8, "ci95": [0.77, 0.83]} for seed in (0, 1)]
    rest = {"mean_reply_tokens": 42.3, "language_mismatch": 0.0, "commonest_answer_share": 0.04, "truncated_share": 0.0}
    spent = {"train_seconds": 219.1, "train_tokens": 3_567_738, "sampled_tokens": 0, "flops": 2.5e13, "passes": 3.1}
    each = {**rest, **spent, "samples": 46_080}
    arms = [
        {"name": name, "changes": {"loss": name}, "stages": ["rl"], "mean": 0.8, "sd": 0.01, "by_seed": [0.8, 0.81]}
        | {"runs": [{**run, **each} for run in runs], "difference": more and difference(more), "gain": difference(0.5)}
        | rest
        | spent
        for name, more in (("agapo", None), ("grpo", -0.03), ("a_loss_with_a_long_name", 0.02))
    ]
    names = {arm["name"]: 0.8 for arm in arms}
    family = {"name": "chain_sum", "num_problems": 67, "constant_answer": 0.04, "arms": names}
    head = {"ablation": "rl_loss", "what": "Losses.", "recipe": "nano", "config_hash": "df4d", "stage": "rl"}
    about = {"stages": ["rl"], "seeds": [0, 1], "baseline": "agapo", "measured": MEASURED, "shared": None}
    write_json(folder / "ablation.json", {**head, **about, "constant_answer": 0.03, "families": [family], "arms": arms})
    return write_ablation_page(folder)


def seeds(folder: Path) -> Path:
    by_seed = {"0": 0.79, "1": 0.75}
    stages = [
        {
            "name": name,
            "by_seed": by_seed,
            "mean": 0.77,
            "sd": 0.02,
            "commonest_answer_share": 0.04,
            "train_seconds": 66.0,
        }
        for name in ("sft", "rl")
    ]
    change = {
        "stage": "rl",
        "start": "sft",
        "by_seed": dict.fromkeys(by_seed, difference(0.1)),
        "pooled": difference(0.1),
    }
    way = {"stages": stages, "changes": [change]}
    head = {"recipe": "nano/exaone-deep", "config_hash": "df4d", "seeds": [0, 1], "errors": {"2": "it was stopped"}}
    folders = {seed: f"runs/seed-{seed}" for seed in by_seed}
    write_json(
        folder / "seeds.json",
        {**head, "folders": folders, "measured": MEASURED, "ways": {"samples": way, "greedy": way}},
    )
    return write_seeds_page(folder)


def filtered(folder: Path) -> Path:
    folder.mkdir(parents=True)
    part = {
        **{"num_problems": 100, "num_kept": 60, "mean_pass_rate": 0.55, "histogram": [20, 10, 15, 20, 15, 20]},
        "dropped": {"not judged": 0, "never solved": 20, "always solved": 20},
    }
    found = {**part, "num_samples": 5, "min_correct": 1, "max_correct": 4, "per_mode": {}}
    return write_filter_page(folder, "Kept for a model", {**found, "per_task": {"chain_sum": part, "sorting": part}})


def built(folder: Path) -> Path:
    folder.mkdir(parents=True)
    part = {"num_problems": 50, "num_problems_kept": 40, "num_responses": 200, "num_kept": 120}
    dropped = {"wrong": 60, "too_long": 20}
    example = {"problem": "chain_sum/en/1", "response": 2, "why": "52 is not 54"}
    found = {
        **{**part, "dropped": dropped, "examples": dict.fromkeys(dropped, example), "teacher": {"model": "a teacher"}},
        "settings": {"keep": 4, "min_distance": 0.3},
        **{"licence": None, "per_domain": {"math": {**part, "dropped": dropped}}, "per_mode": {}},
    }
    return write_build_page(folder, found, lengths(LENGTHS))


def plan(path: Path) -> Path:
    recipe, cluster = load_recipe("exaone-deep-2.4b"), Cluster(GPUS["h100"], 16)
    plans = plan_meshes(plan_recipe(recipe, shape_of(recipe)), cluster)
    found = sections(plans, cluster, Money(700, 2.5), None)
    path.write_text(plan_page.render("A plan", "16 GPUs.", found, plans, cluster), encoding="utf-8")
    return path


def against(folder: Path) -> Path:
    folder.mkdir(parents=True)
    rows = [["task", "theirs", "ours", "difference"], ["sums", "50.0%", "60.0%", "+10.0"]]
    (folder / "report.html").write_text("<!doctype html><title>beside it</title>", encoding="utf-8")
    flips = [flip(number, is_gained=number % 2 == 0) for number in range(6)]
    return write_against_page(folder, Path("runs/eval/other"), rows, flips)


def flip(number: int, *, is_gained: bool) -> Flip:
    def sample(is_correct: bool) -> Sample:
        status = VerdictStatus.CORRECT if is_correct else VerdictStatus.WRONG
        generation = Generation(Reply("17 + 45 = 62. " * 20, "It is 62."), StopReason.END, 9, 9, 0)
        return Sample(f"{number}", "sums", f"q{number}", 0, generation, Verdict(status, "62", "62 is 62"))

    problem = Problem(f"q{number}", "sums", "en", "What is 17 + 45?", "62", "math")
    correct = {"our_correct": (int(is_gained), 1), "their_correct": (int(not is_gained), 1)}
    return Flip("sums", problem, sample(is_gained), sample(not is_gained), is_gained=is_gained, **correct)
