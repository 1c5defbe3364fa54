"""What stands in a folder leads nowhere else; what the hub's cache links to its own blobs does."""

import os
from pathlib import Path

import pytest

from open_exaone.base.errors import CheckpointError, DataError, RunFolderError
from open_exaone.base.files import append_jsonl, locked, write_text
from open_exaone.base.links import own_file, own_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("precious")
    (tmp_path / "model" / "sub").mkdir(parents=True)
    (tmp_path / "model" / "real").write_text("own")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("link", "target", "is_own"),
    [
        ("a", "../secret", False),
        ("a", "/etc/passwd", False),
        ("a", "/dev/zero", False),
        ("a", "../gone", False),
        ("a", "..", False),
        ("sub/a", "../../secret", False),
        ("sub/a", "../real", True),
        ("a", "real", True),
        ("a", "sub", True),
        ("a", ".", True),
        ("a", "a", False),
    ],
)
def test_a_link_stays_in_its_folder(folder, link, target, is_own):
    (folder / link).symlink_to(target)
    for kind in (CheckpointError, DataError):
        for check in (
            lambda kind=kind: own_file(folder / link, folder, kind),
            lambda kind=kind: own_folder(folder, kind),
        ):
            if is_own:
                check()
            else:
                with pytest.raises(
                    kind, match=r"is a link to .*: copy (the file|that folder) itself into|cannot be opened"
                ):
                    check()


def test_a_linked_folder_on_the_way_counts(folder, tmp_path):
    (folder / "linked").symlink_to(tmp_path)
    with pytest.raises(CheckpointError, match="is a link to"):
        own_file(folder / "linked" / "secret", folder)


def test_the_folder_itself_may_be_a_link(folder, tmp_path):
    (tmp_path / "current").symlink_to(folder)
    assert own_file(tmp_path / "current" / "real").read_text() == "own"
    own_folder(tmp_path / "current")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000])
def test_a_name_that_no_file_can_have_is_said(folder, name):
    with pytest.raises(CheckpointError, match="cannot be opened: File name too long"):
        own_file(folder / name)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "gone", "\x1b[31m"])
def test_a_name_that_no_file_has_is_the_readers_affair(folder, name):
    assert own_file(folder / name) == folder / name


def test_the_hub_s_blobs_are_the_snapshot_s_own(tmp_path):
    repository = tmp_path / "models--o--n"
    snapshot = repository / "snapshots" / "abc"
    (snapshot / "templates").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "1").write_text("x")
    (snapshot / "a.json").symlink_to("../../blobs/1")
    (snapshot / "templates" / "b.json").symlink_to("../../../blobs/1")
    for folder in (snapshot, snapshot / "templates"):
        own_folder(folder)
    own_file(snapshot / "templates" / "b.json", snapshot)
    (tmp_path / "link").symlink_to(snapshot)
    own_file(tmp_path / "link" / "a.json")
    (repository / "blobs" / "2").symlink_to("/etc/passwd")
    (snapshot / "c.json").symlink_to("../../blobs/2")
    (snapshot / "d.json").symlink_to("../../refs")
    for name in ("c.json", "d.json"):
        with pytest.raises(CheckpointError, match="is a link to"):
            own_file(snapshot / name)


def test_what_is_not_opened_is_left_alone(folder, tmp_path):
    """As wandb's link to its log in the user's cache, which may be gone, and a note of the user's own."""
    (folder / "wandb" / "run-1" / "logs").mkdir(parents=True)
    (folder / "wandb" / "run-1" / "logs" / "debug-core.log").symlink_to(tmp_path / "gone.log")
    (folder / "notes").symlink_to(tmp_path / "secret")
    (folder / "checkpoints" / "step-1").mkdir(parents=True)
    own_folder(folder, RunFolderError, names={"checkpoints", "metrics.jsonl"})
    (folder / "checkpoints" / "step-1" / "state.json").symlink_to(tmp_path / "secret")
    with pytest.raises(RunFolderError, match=r"state.json: is a link to .*: copy the file itself into the folder"):
        own_folder(folder, RunFolderError, names={"checkpoints", "metrics.jsonl"})
    own_folder(folder, RunFolderError, names={"metrics.jsonl"})


def test_a_folder_on_another_disk_is_named_with_out(folder, tmp_path):
    (tmp_path / "large").mkdir()
    (folder / "checkpoints").symlink_to(tmp_path / "large")
    with pytest.raises(RunFolderError, match="checkpoints: is a link to .* and name the real folder with --out"):
        own_folder(folder, RunFolderError)


def test_nothing_is_written_through_a_link(folder, tmp_path):
    secret = tmp_path / "secret"
    (folder / ".lock").symlink_to(secret)
    (folder / "metrics.jsonl").symlink_to(secret)
    (folder / ".report.json.partial").symlink_to(secret)
    (folder / "report.json").symlink_to(secret)
    with pytest.raises(RunFolderError, match="it is a link"), locked(folder / ".lock", "busy"):
        pass
    with pytest.raises(RunFolderError, match="it is a link"):
        append_jsonl(folder / "metrics.jsonl", {})
    write_text(folder / "report.json", "new")
    assert secret.read_text() == "precious" and not (folder / "report.json").is_symlink()
    assert sorted(os.listdir(folder)) == [".lock", "metrics.jsonl", "real", "report.json", "sub"]
