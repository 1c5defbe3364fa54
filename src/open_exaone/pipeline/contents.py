"""What this program opens in the folder of a run: none of it may be a link that leads out.

Anything else there is left alone: wandb puts links to its own logs beside our files, and so may anybody.
"""

from pathlib import Path

from open_exaone.base.errors import RunFolderError
from open_exaone.base.links import own_file, own_folder

_MADE_WHOLE = (
    "data",
    "prompts",
    "validation",
    "tokenizer",
    "model",
    "adapter",
    "best",
)  # beside its place, then renamed into it
STAGE = frozenset(
    {
        *_MADE_WHOLE,
        *(f".{name}.{end}" for name in _MADE_WHOLE for end in ("partial", "lock")),
        *("rewards.json", "sampling.json", "outcome.json", "reference.safetensors", "metrics.jsonl", "pairs.jsonl"),
        *("groups.jsonl", "replies.jsonl", "pass_rates.jsonl", "kept.jsonl", "filter.json"),
        *("samples.jsonl", "samples", "checkpoints", "rollouts", "reference", "eval"),
    }
)  # in the folder of a stage
RUN = frozenset(
    {
        *(".lock", ".ranks", "recipe.toml", "machine.json", "rendering.json", "prepared.json", "problems"),
        *("log.jsonl",),
        *("tokenizer", ".tokenizer.partial", "report.json", "report.html", "card.md", "card.html", "card.json"),
        *("card.ko.md", "card.ko.html"),
        *(".eval_results", "every_eval_ever"),
    }
)


def own_stage(folder: Path) -> None:
    """Holds what is opened in a stage's folder to that folder.

    Raises:
        RunFolderError: a link leads out of it.
    """
    own_folder(folder, RunFolderError, names=STAGE)


def own_run(folder: Path) -> None:
    """Holds what is opened in a run's folder, its stages' folders included, to that folder.

    Raises:
        RunFolderError: a link leads out of it.
    """
    own_folder(folder, RunFolderError, names=RUN)
    for stage in sorted(folder.glob("[0-9][0-9]*-*")):
        own_stage(own_file(stage, folder, RunFolderError))
