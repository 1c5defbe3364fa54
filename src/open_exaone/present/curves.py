"""The plots of a stage's metrics.jsonl: which series are shown, in which order, and which share a plot."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from open_exaone.present import formatting, plots
from open_exaone.present.stages import is_number

Series = dict[str, tuple[list[float], list[float]]]  # per metric, its steps and its values


class Joint(NamedTuple):
    """Several series in one plot."""

    title: str
    names: Mapping[str, str]  # metrics.jsonl key: its name beside the others
    is_stacked: bool = False  # counts that add up, as areas on one another


class Plot(NamedTuple):
    """A plot as the page shows it."""

    title: str
    svg: str
    legend: Sequence[tuple[int, str]] = ()  # of a joint plot: each series' colour, from 1, and its name
    is_stacked: bool = False  # areas, not lines


MAX_NUMBERS = 12  # rows of the table behind the plots
AXES = frozenset(  # never plotted as a series
    {"step", "num_steps", "tokens", "epoch", "seconds", "seconds_left", "time", "policy_version"}
)
SERIES: dict[str, str | Joint] = {  # metrics.jsonl key: its plot's title; in this order, other series are folded away
    "loss": "loss",
    "validation_loss": "validation loss",
    "reward_mean": "mean reward",
    "reward_mean_reasoning": "mean reward, reasoning",
    "reward_mean_non_reasoning": "mean reward, non-reasoning",
    "pass_rate": "pass rate",
    "commonest_answer": Joint(
        "a family's commonest answer",
        {"commonest_answer_share": "share of the samples", "constant_score": "what it would score alone"},
    ),
    "set_aside": Joint(
        "groups set aside",
        {
            "set_aside_equal_rewards": "equal rewards",
            "masked_groups": "masked",
            "set_aside_all_correct": "all correct",
            "set_aside_all_wrong": "all wrong",
        },
        is_stacked=True,
    ),
    "useful_groups": "groups that are learned from",
    "reward_margin": "reward margin, chosen over rejected",
    "accuracy": "pairs ranked right",
    "probability": Joint(
        "probability of a token (geometric mean)", {"chosen_probability": "chosen", "rejected_probability": "rejected"}
    ),
    "entropy": "entropy (nats per token)",
    "kl": "KL to the reference (nats per token; KTO: per reply)",
    "ratio_mean": "probability ratio to the policy that sampled, mean",
    "max_ratio": "probability ratio to the policy that sampled, largest",
    "clip_share": "clipped share of tokens",
    "sampler_ratio_mean": "correction for the sampler, mean ratio",
    "mean_reply_tokens": "reply length (tokens)",
    "mean_reply_tokens_reasoning": "reply length, reasoning (tokens)",
    "mean_reply_tokens_non_reasoning": "reply length, non-reasoning (tokens)",
    "thought": Joint(
        "thought length (tokens)",
        {"mean_thought_tokens_correct": "correct replies", "mean_thought_tokens_wrong": "incorrect replies"},
    ),
    "truncated_share": "truncated share",
    "truncated_masked": "truncated samples that are not learned from",
    "language_mismatch_share": "share in another language than the problem",
    "error_share": "share that could not be judged",
    "masked_rollouts": "samples that could not be rewarded",
    "asked_prompts": "prompts asked",
    "pool_epoch": "passes over the prompts",
    "max_logprob_gap": "log-probability gap to the engine (nats)",
    "gradient_norm": "gradient norm",
    "learning_rate": "learning rate",
    "tokens_per_second": "tokens per second",
    "skipped_steps": "skipped steps",
    "empty_steps": "steps without anything to learn from",
    "retries": "retries",
}
FOLDED = {  # metrics.jsonl key: the title of a plot that is folded away, where the key's own words do not do
    "mfu": "model FLOPs utilisation (0 to 1)",
    "flops_per_second": "FLOPs per second",
    "peak_memory_bytes": "peak memory (bytes)",
}
QUIET = {  # the value that says nothing: a series that has no other is folded away
    **dict.fromkeys(("error_share", "masked_rollouts", "skipped_steps", "empty_steps", "retries"), 0),
    **dict.fromkeys(("clip_share", "truncated_masked", "language_mismatch_share", "pool_epoch"), 0),
    **dict.fromkeys(("ratio_mean", "max_ratio", "sampler_ratio_mean"), 1),
}
FAMILY = {  # metrics.jsonl key before a family's name: its name in the plot
    "commonest_answer_share": "share of the commonest answer",
    "constant_score": "what it would score alone",
    "pass_rate": "pass rate",
}


def stage_plots(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Plot], list[Plot]]:
    """The plots that are shown at once, and those that are folded away.

    Args:
        rows: of a stage's metrics.jsonl.
    """
    series = numeric_series(rows)
    known = [joint for joint in _shown(series) if joint.names.keys() & series.keys()]
    rest = series.keys() - {key for joint in known for key in joint.names}
    pairs = sorted(key.split("/", 1)[::-1] for key in rest if key.partition("/")[0] in FAMILY)
    others = [
        Joint(formatting.words(family), {f"{key}/{family}": name for key, name in FAMILY.items()})
        for family in dict.fromkeys(family for family, _ in pairs)
    ]
    single = sorted(rest - {key for joint in others for key in joint.names})
    others = [Joint(FOLDED.get(key) or formatting.words(key), {key: ""}) for key in single] + others
    return [_plot(joint, series) for joint in known], [_plot(joint, series) for joint in others]


def numbers(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The values behind the plots that are shown at once, at up to `MAX_NUMBERS` steps: headings, and a row a step."""
    series = numeric_series(rows)
    found = [(joint, key) for joint in _shown(series) for key in joint.names if key in series]
    titles = [f"{joint.title}: {joint.names[key]}" if len(joint.names) > 1 else joint.title for joint, key in found]
    values = [dict(zip(*series[key], strict=True)) for _, key in found]
    steps = list(dict.fromkeys(step for some in values for step in some))
    places = sorted({round(i * (len(steps) - 1) / (MAX_NUMBERS - 1)) for i in range(MAX_NUMBERS)}) if steps else []
    picked = [steps[place] for place in places]
    table = [[formatting.number(step), *(formatting.number(some.get(step)) for some in values)] for step in picked]
    return ["step", *titles], table


def _shown(series: Series) -> list[Joint]:
    """What is shown at once, a reward's terms too where there are several; series that say nothing are left out."""
    terms = [key for key in series if key.startswith("reward_") and key not in SERIES]
    wanted = {**SERIES, **{key: f"reward: {key.removeprefix('reward_')}" for key in terms if len(terms) > 1}}
    joints = [title if isinstance(title, Joint) else Joint(title, {key: ""}) for key, title in wanted.items()]
    return [joint for joint in joints if not _is_quiet(joint, series)]


def _is_quiet(joint: Joint, series: Series) -> bool:
    nothing = {**QUIET, **dict.fromkeys(joint.names, 0)} if joint.is_stacked else QUIET
    return all(key in nothing and set(series[key][1]) <= {nothing[key]} for key in joint.names if key in series)


def _plot(joint: Joint, series: Series) -> Plot:
    """Of the joint's series, those that there are; areas need a value of each at every step."""
    found = [(colour, key) for colour, key in enumerate(joint.names, start=1) if key in series]
    if len(joint.names) == 1:
        return Plot(joint.title, plots.curve(joint.title, *series[found[0][1]]))
    lines = [plots.Line(joint.names[key], colour, *series[key]) for colour, key in found]
    if joint.is_stacked:
        lines = [line for line in lines if any(line.ys) and line.xs == lines[0].xs] or lines[:1]
    svg = plots.curves(joint.title, lines, is_stacked=joint.is_stacked)
    return Plot(joint.title, svg, [(line.colour, line.name) for line in lines], joint.is_stacked)


def numeric_series(rows: Sequence[Mapping[str, Any]]) -> Series:
    """Per metric, the steps and the values at which it is a finite number; at least two of them."""
    series: Series = {}
    for index, row in enumerate(rows, start=1):
        for key, value in row.items():
            if key not in AXES and is_number(value):
                steps, values = series.setdefault(key, ([], []))
                steps.append(row.get("step", index))
                values.append(value)
    return {key: pair for key, pair in series.items() if len(pair[0]) > 1}
