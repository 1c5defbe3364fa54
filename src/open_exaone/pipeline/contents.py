"""What this program opens in the folder of a run: none of it may be a link that leads out.

Anything else there is left alone: wandb puts links to its own logs beside our files, and so may anybody.
"""

from pathlib import Path

from open_exaone.base.errors import RunFolderError
from open_exaone.base.links import own_file, own_folder

_MADE_WHOLE = ("data", "validation", "tokenizer", "model", "adapter", "best")  # beside its place, then renamed into it
STAGE = frozenset(
    {
        *_MADE_WHOLE,
        *(f".{name}.{end}" for name in _MADE_WHOLE for end in ("partial", "lock")),
        *(".lock", "config.toml", "fingerprint.json", "rewards.json", "sampling.json", "outcome.json"),
        *("metrics.jsonl", "pairs.jsonl", "samples.jsonl", "checkpoints", "rollouts", "eval"),
        "reference.safetensors",
    }
)  # in the folder of a stage, of a recipe or by itself
STORY = frozenset({".lock", "recipe.toml", "machine.json", "problems", "report.json", "report.html", "card.md"})


def own_training(folder: Path) -> None:
    """Holds what is opened in a stage's folder to that folder.

    Raises:
        RunFolderError: a link leads out of it.
    """
    own_folder(folder, RunFolderError, names=STAGE)


def own_story(folder: Path) -> None:
    """Holds what is opened in a story's folder, its stages' folders included, to that folder.

    Raises:
        RunFolderError: a link leads out of it.
    """
    own_folder(folder, RunFolderError, names=STORY)
    for stage in sorted(folder.glob("[0-9][0-9]*-*")):
        own_training(own_file(stage, folder, RunFolderError))
