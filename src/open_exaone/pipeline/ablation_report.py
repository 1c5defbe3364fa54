"""ablation.json: what an ablation's arms scored, and how they differ, paired by problem and seed."""

import filecmp
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.files import read_json, read_jsonl, write_json
from open_exaone.evaluation.paired import paired_difference
from open_exaone.evaluation.report import Entry
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.statistics import t_quantile
from open_exaone.evaluation.store import Store
from open_exaone.pipeline.ablation_arms import Ablation, drawn_for_all
from open_exaone.pipeline.folder import FILTER_FILE, RunFolder
from open_exaone.pipeline.report import versions
from open_exaone.train.config import AnyStage, RlStage

RESULTS = "ablation.json"
AVERAGED = (
    *("mean_reply_tokens", "language_mismatch", "commonest_answer_share", "truncated_share"),
    *("train_seconds", "train_tokens", "samples", "useful_groups_share"),
)  # of an arm's runs
Place = tuple[str, int]  # an arm and a seed


@dataclass(frozen=True)
class Measured:
    """One model's result on what is compared."""

    entry: Entry
    scores: Mapping[str, float]  # a problem's id -> its share of correct samples

    def row(self) -> dict[str, Any]:
        entry = self.entry
        shares = [share for part in entry.per_task.values() if (share := part.commonest_answer_share) is not None]
        mismatch = entry.rates.language_mismatch
        return {
            "score": entry.pass_at_1,
            "ci95": list(entry.ci95),
            "mean_reply_tokens": entry.tokens.reply if entry.tokens else None,
            "language_mismatch": mismatch.value if mismatch else None,
            "commonest_answer_share": fmean(shares) if shares else None,
            "truncated_share": entry.rates.truncated.value if entry.rates.truncated else None,
        }


def write_results(
    ablation: Ablation,
    out: Path,
    folders: Mapping[Place, RunFolder],
    shared: RunFolder | None,
    failures: Mapping[Place, str],
) -> dict[str, Any]:
    """Gathers what the runs measured and writes `ablation.json`; returns what it holds.

    Args:
        failures: why a run failed, of those that did.
    """
    measured, errors = dict[Place, Measured](), dict(failures)
    for place, folder in folders.items():
        if place in errors:
            continue
        try:
            _check_drawn(ablation, folder, shared)
            measured[place] = _measured(ablation, folder, ablation.until)
        except (OpenExaoneError, OSError, KeyError) as error:
            errors[place] = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    about, start = _start(ablation, shared)
    gathered = Gathered(ablation, folders, measured, errors, start)
    found = {
        "ablation": ablation.name,
        "what": ablation.config.what,
        "recipe": ablation.recipe.name,
        "config_hash": ablation.recipe.config_hash,
        "stage": ablation.config.stage,
        "until": ablation.until,
        "stages": [stage.name for stage in ablation.own],
        "seeds": list(ablation.config.seeds),
        "baseline": ablation.baseline,
        "measured": _about(measured),
        "shared": about,
        "arms": [gathered.arm(arm) for arm in ablation.arms],
        "versions": versions(),
    }
    write_json(out / RESULTS, found)
    return found


def _about(measured: Mapping[Place, Measured]) -> dict[str, Any] | None:
    """What is compared, the same for all arms; None where no run has a result."""
    if not measured:
        return None
    entry = next(iter(measured.values())).entry
    return {"name": entry.name, "mode": entry.mode, "num_problems": entry.num_problems, "k": entry.k}


def _measured(ablation: Ablation, folder: RunFolder, stage: str) -> Measured:
    """What the model that a stage left scored.

    Raises:
        DataError: it has not been measured, or not on what is compared.
    """
    names = [one.name for one in ablation.recipe.stages]
    path = folder.stage(names.index(stage), stage) / "eval"
    stored = Store(path).read()
    found = [
        (task, samples)
        for task, samples in zip(stored.tasks, stored.samples, strict=True)
        if ablation.measure in (None, task.name)
    ]
    if not found:
        raise DataError(
            f"{path}: {ablation.measure!r} was not measured; there are {', '.join(task.name for task in stored.tasks)}"
        )
    task, samples = found[0]
    rows = zip(task.problems, samples, strict=True)
    return Measured(
        score_task(task, samples), {problem.id: fmean(one.verdict.correct for one in row) for problem, row in rows}
    )


def _check_drawn(ablation: Ablation, folder: RunFolder, shared: RunFolder | None) -> None:
    """Holds an arm's problems to those that the shared stages read, or were measured on.

    Raises:
        DataError: they differ, as where another version of the code drew them.
    """
    if shared is None:
        return
    for name in drawn_for_all(ablation.recipe, ablation.shared):
        for file in sorted((shared.path / "problems").glob(f"{name}*.jsonl")):
            if file.stem != name and not file.stem.removeprefix(f"{name}-").isdecimal():
                continue
            own = folder.path / "problems" / file.name
            if not own.is_file() or not filecmp.cmp(file, own, shallow=False):
                raise DataError(
                    f"{own}: differs from {file}, which the shared stages read: both must be drawn by one version: "
                    f"remove {folder.path} and leave --from out"
                )


def _start(ablation: Ablation, shared: RunFolder | None) -> tuple[dict[str, Any] | None, Measured | None]:
    """What the model of the shared stages scored that every arm begins from."""
    if shared is None:
        return None, None
    begins = {_starts(ablation, arm) for arm in ablation.arms}
    about: dict[str, Any] = {"folder": str(shared.path), "stages": [stage.name for stage in ablation.shared]}
    [stage] = begins if len(begins) == 1 else [None]
    if stage is None:  # arms begin from different stages, or from the recipe's own model
        return about, None
    measured = _measured(ablation, shared, stage)
    return {**about, "begins_from": stage, **measured.row()}, measured


def _starts(ablation: Ablation, arm: str) -> str | None:
    """The stage whose model an arm's first own stage begins from."""
    recipe = ablation.arms[arm]
    before = recipe.start_of(recipe.stages[len(ablation.shared)])
    return None if before is None else before.name


@dataclass(frozen=True)
class Gathered:
    """What the runs of an ablation left."""

    ablation: Ablation
    folders: Mapping[Place, RunFolder]
    measured: Mapping[Place, Measured]
    errors: Mapping[Place, str]  # why there is no result
    start: Measured | None  # the model that all arms begin from

    def arm(self, arm: str) -> dict[str, Any]:
        """An arm's entry: its runs, the means over them, and its differences."""
        runs = [self._run(arm, seed) for seed in self.ablation.config.seeds]
        done = [run for run in runs if "error" not in run]
        entry: dict[str, Any] = {"name": arm, "changes": self.ablation.config.arms[arm], "runs": runs}
        if not done:
            return entry
        scores, own = [run["score"] for run in done], [self.measured[arm, run["seed"]] for run in done]
        return {
            **entry,
            "mean": fmean(scores),
            "sd": stdev(scores) if len(scores) > 1 else None,
            **{name: _mean([run.get(name) for run in done]) for name in AVERAGED},
            "difference": _difference(self._pairs(arm)),
            "gain": None if self.start is None else _difference([(one, self.start) for one in own]),
        }

    def _run(self, arm: str, seed: int) -> dict[str, Any]:
        """One run's entry; its difference to the baseline's run of the same seed."""
        run = {"seed": seed, "folder": str(self.folders[arm, seed].path)}
        if (arm, seed) in self.errors:
            return {**run, "error": self.errors[arm, seed]}
        own = self.measured[arm, seed]
        base = None if arm == self.ablation.baseline else self.measured.get((self.ablation.baseline, seed))
        return {
            **run,
            **own.row(),
            **_training(self.ablation, arm, self.folders[arm, seed]),
            "difference": asdict(paired_difference(own.scores, base.scores)) if base else None,
        }

    def _pairs(self, arm: str) -> list[tuple[Measured, Measured]]:
        """The arm's runs and the baseline's with the same seeds, of those that both have."""
        base = self.ablation.baseline
        seeds = [seed for seed in self.ablation.config.seeds if {(arm, seed), (base, seed)} <= self.measured.keys()]
        return [] if arm == base else [(self.measured[arm, seed], self.measured[base, seed]) for seed in seeds]


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def _difference(pairs: Sequence[tuple[Measured, Measured]]) -> dict[str, Any] | None:
    """Ours minus theirs over all seeds: a problem's difference is averaged over seeds, the interval is over problems.

    That interval says how far other problems would move the difference between these very models. How far other seeds
    would is another matter: `sd` is the spread of the seeds' differences, `seeds_ci95` Student's interval over them.
    """
    if not pairs:
        return None
    ours, theirs = ([pair[place].scores for pair in pairs] for place in (0, 1))
    found = paired_difference(_over_seeds(ours), _over_seeds(theirs))
    by_seed = [fmean(own.values()) - fmean(other.values()) for own, other in zip(ours, theirs, strict=True)]
    return {**asdict(found), "by_seed": by_seed, **_spread(by_seed)}


def _spread(by_seed: Sequence[float]) -> dict[str, Any]:
    """The standard deviation over seeds, and Student's interval of 95 % for the mean over all seeds; None of one seed.

    Unlike shares of a question, differences may lie below 0.
    """
    if len(by_seed) < 2:
        return {"sd": None, "seeds_ci95": None}
    middle, sd = fmean(by_seed), stdev(by_seed)
    half = t_quantile(0.975, len(by_seed) - 1) * sd / len(by_seed) ** 0.5
    return {"sd": sd, "seeds_ci95": [middle - half, middle + half]}


def _over_seeds(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Each problem's mean over the seeds.

    Raises:
        DataError: the seeds were measured on different problems.
    """
    if any(one.keys() != scores[0].keys() for one in scores):
        raise DataError("the seeds of an arm were measured on different problems: remove its folders and run it again")
    return {problem: fmean(one[problem] for one in scores) for problem in scores[0]}


def _training(ablation: Ablation, arm: str, folder: RunFolder) -> dict[str, Any]:
    """What an arm's own stages took."""
    recipe, first = ablation.arms[arm], len(ablation.shared)
    stages = recipe.stages[first : first + len(ablation.own)]
    taken = [_taken(folder.stage(first + place, stage.name), stage) for place, stage in enumerate(stages)]
    total = {name: sum(one[name] for one in taken) for name in ("train_seconds", "train_tokens")}
    groups = [one for one in taken if "groups" in one]
    if not groups:
        return total
    asked = sum(one["groups"] for one in groups)
    useful = sum(one["useful"] for one in groups)
    return {**total, "samples": sum(one["samples"] for one in groups), "useful_groups_share": useful / max(1, asked)}


def _taken(path: Path, stage: AnyStage) -> dict[str, Any]:
    """The seconds of training and of its samples, and the tokens; of RL also how many groups were sampled."""
    outcome, sampled = ({} if not file.is_file() else read_json(file) for file in _outcomes(path))
    seconds = outcome.get("train_seconds", 0.0) + sampled.get("sample_seconds", 0.0)
    taken = {"train_seconds": seconds, "train_tokens": outcome.get("train_tokens", 0)}
    if not isinstance(stage, RlStage):
        return taken
    rows = read_jsonl(path / "metrics.jsonl", drop_cut_tail=True)
    rows = [row for row in rows if "useful_groups" in row]  # not those of a second update on the same samples
    asked = sum(row.get("asked_prompts", stage.batch_prompts) for row in rows)
    useful = sum(row["useful_groups"] for row in rows)
    return {**taken, "groups": asked, "useful": useful, "samples": asked * stage.group_size}


def _outcomes(path: Path) -> tuple[Path, Path]:
    """Where a stage leaves what its training took, and its sampling."""
    filtered = path / FILTER_FILE
    return path / "outcome.json", filtered if filtered.is_file() else path / "sampling.json"


def failed(found: Mapping[str, Any]) -> list[str]:
    """The runs that failed, such as "dpo-1"."""
    return [f"{arm['name']}-{run['seed']}" for arm in found["arms"] for run in arm["runs"] if "error" in run]
