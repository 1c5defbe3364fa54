"""What a run opens in its folder leads nowhere else; what trackers and users put beside it is theirs."""

from pathlib import Path

import pytest

from open_exaone.base.errors import RunFolderError
from open_exaone.pipeline.contents import RUN, STAGE, own_run, own_stage

OPENED = (
    "metrics.jsonl",
    "checkpoints/step-000002/state.json",
    "rollouts/step-000001.jsonl",
    "outcome.json",
)


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("precious")
    (tmp_path / "run" / "problems").mkdir(parents=True)
    logs = tmp_path / "run" / "01-base" / "wandb" / "run-1" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(tmp_path / "cache" / "core.log")
    (tmp_path / "run" / "notes").symlink_to(tmp_path / "secret")
    return tmp_path / "run" / "01-base"


def test_a_tracker_s_links_stop_nothing(stage: Path) -> None:
    own_stage(stage)
    own_run(stage.parent)


@pytest.mark.parametrize("name", OPENED)
def test_what_is_opened_may_not_lead_out(stage: Path, name: str) -> None:
    (stage / name).parent.mkdir(parents=True, exist_ok=True)
    (stage / name).symlink_to(stage.parents[1] / "secret")
    for check, folder in ((own_stage, stage), (own_run, stage.parent)):
        with pytest.raises(RunFolderError, match="is a link to"):
            check(folder)


def test_a_stage_s_folder_may_not_lead_out(stage: Path) -> None:
    (stage.parent / "02-sft").symlink_to(stage.parents[1])
    with pytest.raises(RunFolderError, match="02-sft: is a link to .*name the real folder with --out"):
        own_run(stage.parent)


def test_all_that_a_run_leaves_is_known(finished_run: tuple[Path, object]) -> None:
    """So that no new file is opened unchecked."""
    folder, _ = finished_run
    stages = sorted(folder.glob("[0-9]*-*"))
    assert stages and {path.name for path in folder.iterdir()} - {path.name for path in stages} <= RUN
    assert {path.name for stage in stages for path in stage.iterdir()} <= STAGE
