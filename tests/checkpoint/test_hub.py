"""Names on the hub, over a cache that the tests make and a hub that they play: what is fetched, and what is said."""

import json
import logging
import shutil
import subprocess
import sys

import huggingface_hub
import pytest
from httpx2 import Request, Response
from huggingface_hub import constants, errors
from huggingface_hub.utils import filter_repo_objects

import open_exaone as ox
from doubles import make_model, make_tokenizer
from open_exaone.base.errors import CheckpointError, ConfigError
from open_exaone.checkpoint import hub, licence
from open_exaone.checkpoint.folder import save_model
from open_exaone.pipeline.source import resolve_model

COMMIT = "a" * 40


@pytest.fixture(autouse=True)
def nothing_told_yet():
    licence.warn_of_licence.cache_clear()
    licence.warn_before_generating.cache_clear()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache with one model in it, laid out as huggingface_hub does: links into blobs."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--EXAONE-4.0-tiny"
    snapshot = repository / "snapshots" / COMMIT
    model = make_model()
    save_model(snapshot, model.config, dict(model.named_parameters()), make_tokenizer(), {}, max_shard_bytes=60_000)
    (repository / "blobs").mkdir()
    for number, path in enumerate(sorted(snapshot.iterdir())):
        blob = repository / "blobs" / f"{number:064x}"
        path.rename(blob)
        path.symlink_to(f"../../blobs/{blob.name}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "refs" / "v1").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize(
    "name", ["someone/EXAONE-4.0-tiny", "someone/EXAONE-4.0-tiny@v1", f"someone/EXAONE-4.0-tiny@{COMMIT}"]
)
def test_a_cached_model_opens_offline(cache, name):
    assert resolve_model(hub.Path(name)) == cache
    model, tokenizer = ox.load_model(name), ox.load_tokenizer(name)
    assert model.config == make_model().config and tokenizer.end_id == make_tokenizer().end_id


def test_a_snapshot_opens_from_within_and_through_a_link(cache, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(cache)
    assert ox.load_model(tmp_path / "link").config == make_model().config
    monkeypatch.chdir(cache)
    assert ox.load_model(".").config == make_model().config


def test_a_snapshot_without_weights_says_that_the_download_was_cut(cache):
    for path in cache.glob("model*"):
        path.unlink()
    with pytest.raises(CheckpointError, match="or the download was cut: name the model again, with a network"):
        ox.load_model("someone/EXAONE-4.0-tiny")


@pytest.mark.parametrize("source", ["someone/EXAONE-4.0-tiny@v1", "."])
def test_a_revision_is_for_names_and_given_once(cache, source):
    with pytest.raises(ConfigError, match="revision = 'main': is for names on the hub, and given once"):
        ox.load_model(source, revision="main")


def test_the_model_is_called_by_its_name(cache, caplog):
    with caplog.at_level(logging.WARNING):
        ox.load_model("someone/EXAONE-4.0-tiny")
    assert [record.args[0] for record in caplog.records] == ["someone/EXAONE-4.0-tiny"]


def test_a_revision_pins_the_files(cache):
    assert ox.load_model("someone/EXAONE-4.0-tiny", revision="v1").config == make_model().config
    with pytest.raises(
        CheckpointError, match="someone/EXAONE-4.0-tiny at revision v2: is not a folder here and is incomplete"
    ):
        ox.load_model("someone/EXAONE-4.0-tiny", revision="v2")


def test_a_link_in_the_cache_that_leaves_its_model_is_refused(cache, tmp_path):
    elsewhere = tmp_path / "elsewhere.safetensors"
    shard = sorted(cache.glob("model-*.safetensors"))[0]
    shutil.copyfile(shard, elsewhere)
    shard.unlink()
    shard.symlink_to(elsewhere)
    with pytest.raises(CheckpointError, match=r"is a link to .*elsewhere.safetensors"):
        ox.load_model("someone/EXAONE-4.0-tiny")


def test_without_a_network_the_error_says_so_quickly():
    code = "import open_exaone as ox; ox.load_model('someone/nothing-by-this-name')"
    environment = {"PYTHONPATH": ":".join(sys.path), "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, env=environment)
    assert (
        "CheckpointError: someone/nothing-by-this-name: is not a folder here and is incomplete in the hub's cache"
        in ran.stderr
    )
    assert "check the network, or copy the model's folder from" in ran.stderr


def raised(error):
    def snapshot_download(*args, **options):
        raise error

    return snapshot_download


RESPONSE = Response(404, request=Request("GET", "https://huggingface.co/x/y"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.RepositoryNotFoundError("x", response=RESPONSE), "x/y: the hub has no such model"),
        (errors.GatedRepoError("x", response=RESPONSE), "x/y: is behind a form on the hub: accept it at https://hugg"),
        (errors.RevisionNotFoundError("x", response=RESPONSE), "x/y: the model has no such revision"),
        (errors.HFValidationError("bad"), "x/y: is no name of a model: bad"),
        (errors.LocalEntryNotFoundError("no network"), r"the hub cannot be reached \(no network\)"),
        (OSError(28, "No space left on device"), r"No space left on device"),
        (ValueError("403 Forbidden"), r"the hub cannot be reached \(403 Forbidden\)"),  # what a proxy answers
        (RuntimeError(), r"the hub cannot be reached \(RuntimeError\)"),
    ],
)
def test_what_the_hub_says_is_explained(monkeypatch, error, message):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", raised(error))
    with pytest.raises(CheckpointError, match=message):
        hub.download("x/y")


def test_only_harmless_files_are_asked_for(monkeypatch):
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return "/there"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert str(hub.download("x/y@main")) == "/there"
    assert asked["name"] == "x/y" and asked["revision"] == "main"
    files = [
        *("model.safetensors", "config.json", "chat_template.jinja", "merges.txt", "LICENSE"),
        *("modeling_exaone.py", "pytorch_model.bin", "x.pkl", "model.gguf", "original/consolidated.safetensors"),
    ]
    taken = filter_repo_objects(files, allow_patterns=asked["allow_patterns"], ignore_patterns=asked["ignore_patterns"])
    assert list(taken) == files[:5]


def test_the_licence_is_named_before_anything_is_fetched(monkeypatch, caplog):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", raised(errors.LocalEntryNotFoundError("no network")))
    with caplog.at_level(logging.WARNING), pytest.raises(CheckpointError):
        hub.download("LGAI-EXAONE/EXAONE-Deep-2.4B")
    assert "EXAONE-Deep-2.4B is under the EXAONE AI Model License Agreement 1.1 - NC: research only" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("models/none", "models/none: is neither .* nor looked up on the hub, as models/ is a folder here"),
        ("runs/none", "runs/none: there is no such folder; no run is in runs/ yet: `exaone run` makes one"),
        ("a" * 5000, "a{100}: cannot be opened: File name too long"),
        ("no-such-folder", "no-such-folder: is neither a model's folder"),
        ("./a/b/c", "is neither a model's folder .* nor a name on the hub"),
        ("../owner/name", "is neither a model's folder .* nor a name on the hub"),
    ],
)
def test_a_path_is_not_taken_for_a_name(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(ConfigError, match=message):
        ox.load_model(source)


def test_an_index_in_the_cache_is_held_to_the_same_rules(cache):
    index = cache / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    index.unlink()
    index.write_text(json.dumps({"weight_map": dict.fromkeys(values["weight_map"], "../../../x.safetensors")}))
    with pytest.raises(CheckpointError, match="must be the name of a .safetensors file in the same folder"):
        ox.load_model("someone/EXAONE-4.0-tiny")
