"""Rewards of the user's own, which may be edited while a stage is cut."""

import hashlib
from pathlib import Path

from open_exaone.base.files import read_json, write_json
from open_exaone.pipeline.measure import OnEvent
from open_exaone.rewards.rubric import weights_of
from open_exaone.train.config import RlStage
from open_exaone.verify.own import file_of, is_own


def report_changed_rewards(stage: RlStage, folder: Path, on_event: OnEvent) -> None:
    """Reports which functions of the user's own were edited since the stage began: its steps are not rewarded alike.

    Args:
        folder: the stage's; gets rewards.json.
    """
    file = folder / "rewards.json"
    names = filter(is_own, weights_of(stage.reward))
    digests = {name: hashlib.sha256(Path(file_of(name)).read_bytes()).hexdigest() for name in names}
    before = read_json(file) if file.is_file() else digests
    for name in digests:
        if digests[name] != before.get(name):
            on_event({"message": f"{stage.name}: {name} has changed since this stage began"})
    if digests:
        write_json(file, digests)
