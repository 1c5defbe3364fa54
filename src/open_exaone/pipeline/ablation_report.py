"""ablation.json: what an ablation's arms scored, and how they differ, paired by problem and seed."""

import filecmp
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from open_exaone.base.errors import DataError, OpenExaoneError
from open_exaone.base.files import write_json
from open_exaone.evaluation.config import GREEDY
from open_exaone.evaluation.paired import paired_difference
from open_exaone.evaluation.report import Entry
from open_exaone.evaluation.score import score_task
from open_exaone.evaluation.statistics import t_quantile
from open_exaone.evaluation.store import Store
from open_exaone.pipeline.ablation_arms import Ablation, drawn_for_all
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.report import versions
from open_exaone.pipeline.spent import stage_spent
from open_exaone.train.config import RlStage

RESULTS = "ablation.json"
AVERAGED = (
    *("mean_reply_tokens", "language_mismatch", "commonest_answer_share", "truncated_share"),
    *("train_seconds", "train_tokens", "sampled_tokens", "flops", "passes", "samples", "useful_groups_share"),
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
    measured, errors, costs = dict[Place, dict[str, Measured]](), dict(failures), dict[Place, dict[str, Any]]()
    for place, folder in folders.items():
        if place in errors:
            continue
        try:
            _check_drawn(ablation, place[0], folder, shared)
            of_run = _measured(ablation, place[0], folder)
            costs[place] = _costs(ablation, place[0], folder, shared)
            measured[place] = of_run
        except (OpenExaoneError, OSError, KeyError) as error:
            errors[place] = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
    tasks = _common([*measured.values()])
    task = ablation.measure or next(iter(tasks), "")
    start = _start(ablation, shared)
    gathered = Gathered(ablation, folders, measured, errors, start, task, costs)
    found = {
        "ablation": ablation.name,
        "what": ablation.config.what,
        "recipe": ablation.recipe.name,
        "config_hash": ablation.recipe.config_hash,
        "stage": ablation.config.stage,
        "stages": [stage.name for stage in ablation.own(ablation.baseline)],
        "seeds": list(ablation.seeds),
        "baseline": ablation.baseline,
        "measured": gathered.about(task) if measured else None,
        "shared": _about_shared(ablation, shared, start.get(task)),
        "match": {arm: match.model_dump(exclude_defaults=True) for arm, match in ablation.config.match.items()},
        "constant_answer": gathered.constant() if measured else None,
        "families": gathered.families() if measured else [],
        "arms": [gathered.arm(arm) for arm in ablation.arms],
        "others": [gathered.other(name) for name in tasks if name != task],
        "versions": versions(),
    }
    write_json(out / RESULTS, found)
    return found


def _measured(ablation: Ablation, arm: str, folder: RunFolder) -> dict[str, Measured]:
    """What the model that an arm left scored, by the name of the task; that which is compared first is among them.

    Raises:
        DataError: it has not been measured, or not on what is compared.
    """
    recipe, until = ablation.arms[arm], ablation.until(arm)
    found = stage_scores(recipe, until.name, folder)
    if ablation.measure not in (None, *found):
        path = folder.stage(recipe.stages.index(until), until.name) / "eval"
        raise DataError(f"{path}: {ablation.measure!r} was not measured; there are {', '.join(found)}")
    return found


def stage_scores(recipe: Recipe, stage: str, folder: RunFolder, *, greedy: bool = False) -> dict[str, Measured]:
    """What the model that a stage of a run left scored, by the name of the task: of its samples, or of greedy replies.

    Raises:
        DataError: it has not been measured.
    """
    place = [one.name for one in recipe.stages].index(stage)
    stored = Store(folder.stage(place, stage) / "eval").read()
    return {
        task.name.removesuffix(GREEDY): Measured(
            score_task(task, samples),
            {
                problem.id: fmean(one.verdict.correct for one in row)
                for problem, row in zip(task.problems, samples, strict=True)
            },
        )
        for task, samples in zip(stored.tasks, stored.samples, strict=True)
        if task.name.endswith(GREEDY) == greedy
    }


def _check_drawn(ablation: Ablation, arm: str, folder: RunFolder, shared: RunFolder | None) -> None:
    """Holds an arm's problems to those that the stages read, or were measured on, that it did not train.

    Raises:
        DataError: they differ, as where another version of the code drew them.
    """
    if shared is None:
        return
    for name in drawn_for_all(ablation.recipe, ablation.taken(arm)):
        for file in sorted((shared.path / "problems").glob(f"{name}*.jsonl")):
            if file.stem != name and not file.stem.removeprefix(f"{name}-").isdecimal():
                continue
            own = folder.path / "problems" / file.name
            if not own.is_file() or not filecmp.cmp(file, own, shallow=False):
                raise DataError(
                    f"{own}: differs from {file}, which the shared stages read: both must be drawn by one version: "
                    f"remove {folder.path} and "
                    f"{'train that run anew' if ablation.config.begins_from_run else 'leave --from out'}"
                )


def _common(measured: Sequence[Mapping[str, Measured]]) -> list[str]:
    """The tasks that all models were measured on, with the same problems."""
    first = measured[0] if measured else {}
    return [
        name
        for name, own in first.items()
        if all(name in one and one[name].scores.keys() == own.scores.keys() for one in measured)
    ]


def _start(ablation: Ablation, shared: RunFolder | None) -> dict[str, Measured]:
    """What the model of the shared stages scored that every arm begins from, by the name of the task; nothing where
    arms begin from different stages, or from the recipe's own model."""
    stage = _begins_from(ablation)
    return {} if shared is None or stage is None else stage_scores(ablation.recipe, stage, shared)


def _about_shared(ablation: Ablation, shared: RunFolder | None, start: Measured | None) -> dict[str, Any] | None:
    """The shared stages, and what the model scored that every arm begins from, where it was measured on the task."""
    if shared is None:
        return None
    about: dict[str, Any] = {"folder": str(shared.path), "stages": [stage.name for stage in ablation.shared]}
    if ablation.config.begins_from_run:
        about["taken"] = {arm: [stage.name for stage in ablation.taken(arm)] for arm in ablation.arms}
    return {**about, "begins_from": _begins_from(ablation), **start.row()} if start else about


def _begins_from(ablation: Ablation) -> str | None:
    """The stage whose model all arms begin from; None where they differ."""
    begins = {_starts(ablation, arm) for arm in ablation.arms}
    return next(iter(begins)) if len(begins) == 1 else None


def _starts(ablation: Ablation, arm: str) -> str | None:
    """The stage whose model an arm's first own stage begins from."""
    own = ablation.own(arm)
    before = ablation.arms[arm].start_of(own[0]) if own else None
    return None if before is None else before.name


def _costs(ablation: Ablation, arm: str, folder: RunFolder, shared: RunFolder | None) -> dict[str, Any]:
    """What an arm's stages behind those that all arms share took, also where it did not train them itself."""
    taken, recipe = ablation.taken(arm), ablation.arms[arm]
    parts = {
        stage.name: stage_spent(recipe, stage, shared if shared is not None and stage in taken else folder)
        for stage in ablation.own(arm)
    }
    flops, sampled = [one.flops for one in parts.values()], [one.sampled_tokens for one in parts.values()]
    asked = sum(one.asked_groups for one in parts.values())
    total: dict[str, Any] = {
        "train_seconds": sum(one.seconds for one in parts.values()),
        "train_tokens": sum(one.trained_tokens for one in parts.values()),
        "sampled_tokens": None if None in sampled else sum(filter(None, sampled)),
        "flops": None if None in flops else sum(filter(None, flops)),
        "passes": [*parts.values()][-1].passes if parts else None,
    }
    if asked:
        groups = {stage.name: stage.group_size for stage in ablation.own(arm) if isinstance(stage, RlStage)}
        total["samples"] = sum(parts[name].asked_groups * size for name, size in groups.items())
        total["useful_groups_share"] = sum(one.useful_groups for one in parts.values()) / asked
    return total


@dataclass(frozen=True)
class Gathered:
    """What the runs of an ablation left."""

    ablation: Ablation
    folders: Mapping[Place, RunFolder]
    measured: Mapping[Place, Mapping[str, Measured]]  # by the name of the task
    errors: Mapping[Place, str]  # why there is no result
    start: Mapping[str, Measured]  # the model that all arms begin from
    task: str  # which is compared first
    costs: Mapping[Place, Mapping[str, Any]] = field(default_factory=dict)  # what each run's own stages took

    def about(self, task: str) -> dict[str, Any]:
        """A task that is compared, the same for all arms."""
        entry = next(iter(self.measured.values()))[task].entry
        return {"name": entry.name, "mode": entry.mode, "num_problems": entry.num_problems, "k": entry.k}

    def arm(self, arm: str) -> dict[str, Any]:
        """An arm's entry: its runs, the means over them, and its differences."""
        runs = [self._run(arm, seed) for seed in self.ablation.seeds]
        done = [run for run in runs if "error" not in run]
        about = {"changes": self.ablation.config.arms[arm], "stages": [one.name for one in self.ablation.own(arm)]}
        entry: dict[str, Any] = {"name": arm, **about, "runs": runs}
        if not done:
            return entry
        return {
            **entry,
            **self._compared(arm, self.task),
            **{name: mean([run.get(name) for run in done]) for name in AVERAGED},
        }

    def other(self, task: str) -> dict[str, Any]:
        """What the arms scored on another task than the one that is compared first."""
        arms = [arm for arm in self.ablation.arms if any(arm == place[0] for place in self.measured)]
        return {**self.about(task), "arms": [{"name": arm, **self._compared(arm, task)} for arm in arms]}

    def constant(self) -> float | None:
        """What always giving the commonest gold answer of each family would score on what is compared first."""
        parts = next(iter(self.measured.values()))[self.task].entry.per_task.values()
        if any(part.constant_baseline is None for part in parts):
            return None
        total = sum(part.num_problems for part in parts)
        return sum((part.constant_baseline or 0.0) * part.num_problems for part in parts) / total

    def families(self) -> list[dict[str, Any]]:
        """Of each family, what a constant answer would score, and each arm's score, a mean over its seeds."""
        first = next(iter(self.measured.values()))[self.task].entry.per_task
        rows = list[dict[str, Any]]()
        for name, part in first.items():
            of_arm = {
                arm: [
                    found[self.task].entry.per_task[name] for place, found in self.measured.items() if place[0] == arm
                ]
                for arm in self.ablation.arms
            }
            scores = {arm: fmean(one.pass_at_1 for one in parts) for arm, parts in of_arm.items() if parts}
            about = {"num_problems": part.num_problems, "constant_answer": part.constant_baseline}
            rows.append({"name": name, **about, "arms": scores})
        return rows

    def _compared(self, arm: str, task: str) -> dict[str, Any]:
        """An arm's score on a task over its seeds, and its difference to the baseline and to where it began."""
        own = [found[task] for place, found in self.measured.items() if place[0] == arm]
        scores, start = [one.entry.pass_at_1 for one in own], self.start.get(task)
        return {
            "mean": fmean(scores),
            "sd": stdev(scores) if len(scores) > 1 else None,
            "by_seed": scores,
            "difference": mean_difference(self._pairs(arm, task)),
            "gain": None if start is None else mean_difference([(one, start) for one in own]),
        }

    def _run(self, arm: str, seed: int) -> dict[str, Any]:
        """One run's entry; its difference to the baseline's run of the same seed."""
        run = {"seed": seed, "folder": str(self.folders[arm, seed].path)}
        if (arm, seed) in self.errors:
            return {**run, "error": self.errors[arm, seed]}
        own = self.measured[arm, seed][self.task]
        base = None if arm == self.ablation.baseline else self.measured.get((self.ablation.baseline, seed))
        return {
            **run,
            **own.row(),
            **self.costs[arm, seed],
            "difference": asdict(paired_difference(own.scores, base[self.task].scores)) if base else None,
        }

    def _pairs(self, arm: str, task: str) -> list[tuple[Measured, Measured]]:
        """The arm's runs and the baseline's with the same seeds, of those that both have."""
        base = self.ablation.baseline
        seeds = [seed for seed in self.ablation.seeds if {(arm, seed), (base, seed)} <= self.measured.keys()]
        return (
            [] if arm == base else [(self.measured[arm, seed][task], self.measured[base, seed][task]) for seed in seeds]
        )


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def mean_difference(pairs: Sequence[tuple[Measured, Measured]]) -> dict[str, Any] | None:
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


def failed(found: Mapping[str, Any]) -> list[str]:
    """The runs that failed, such as "dpo-1"."""
    return [f"{arm['name']}-{run['seed']}" for arm in found["arms"] for run in arm["runs"] if "error" in run]
