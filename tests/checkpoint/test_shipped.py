"""The model that comes with the package: whole, ours and small, as good as its card says, and opened by its name."""

import importlib.util
import shutil
from pathlib import Path

import pytest

import open_exaone as ox
from open_exaone.base.errors import CheckpointError
from open_exaone.checkpoint import shipped
from open_exaone.checkpoint.licence import licence_of
from open_exaone.pipeline.source import resolve_model
from open_exaone.rollout.run import judge_reply

FOLDER = shipped.MODELS / shipped.SHIPPED
ROOT = Path(__file__).parents[2]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy that may be damaged stands in the shipped model's place."""
    monkeypatch.setattr(shipped, "MODELS", tmp_path)
    return Path(shutil.copytree(FOLDER, tmp_path / shipped.SHIPPED))


def test_one_model_is_shipped_under_a_free_licence_with_a_name_of_its_own() -> None:
    assert [path.name for path in shipped.MODELS.iterdir()] == [shipped.SHIPPED]
    assert "exaone" not in shipped.SHIPPED.lower() and licence_of(FOLDER) is None
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "license: apache-2.0\n" in (FOLDER / "README.md").read_text("utf-8")
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 4_000_000
    facts = shipped.shipped_facts()
    num_parameters = ox.load_model(shipped.SHIPPED).config.num_parameters
    assert facts["name"] == shipped.SHIPPED and facts["num_parameters"] == num_parameters
    assert shipped.SHIPPED.endswith(f"-{num_parameters / 1e6:.1f}".removesuffix(".0") + "m")


def test_the_card_says_what_was_measured() -> None:
    spec = importlib.util.spec_from_file_location("ship_model", ROOT / "ship_model.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    facts = shipped.shipped_facts()
    assert script.card(facts) == (FOLDER / "README.md").read_text("utf-8")
    first, other = facts["scores"].values(), facts["scores_of_run"].values()
    for score, of_run in zip(first, other, strict=True):  # rounding the weights has not changed what it can do
        assert of_run["ci95"][0] <= score["pass_at_1"] <= of_run["ci95"][1]


def test_it_solves_what_it_offers() -> None:
    model, tokenizer = ox.load_model(shipped.SHIPPED, "float32"), ox.load_tokenizer(shipped.SHIPPED)
    problems = offered()
    prompts = [
        tokenizer.render([{"role": "user", "content": problem.question}], thinking=True, generation_prompt=True)
        for problem in problems
    ]
    replies = ox.Engine(model, tokenizer).generate(prompts, ox.Sampling(max_new_tokens=160, temperature=0))
    verdicts = [
        judge_reply(problem, tokenizer.split(reply.ids, thinking=True))
        for problem, [reply] in zip(problems, replies, strict=True)
    ]
    assert sum(verdict.correct for verdict in verdicts) >= 25 / 30 * len(problems)
    assert {problem.language for problem in problems} == {"en", "ko"}


def offered():
    problems = shipped.shipped_problems()
    facts = shipped.shipped_facts()
    assert len(problems) == facts["num_offered"] >= 25
    assert {problem.task for problem in problems} == set(facts["families"])
    assert all(problem.language in facts["families"][problem.task] for problem in problems)
    return problems


@pytest.mark.parametrize("file", [shipped.SUMS, *shipped.FILES])
@pytest.mark.parametrize("damage", ["missing", "cut", "altered", "a folder"])
def test_a_damaged_file_is_named_with_the_fix(copied, file, damage) -> None:
    path = copied / file
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(content[:-1] if damage == "cut" else content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(CheckpointError) as failed:
        resolve_model(Path(shipped.SHIPPED))
    text = str(failed.value)
    assert file in text and "pip install --force-reinstall open-exaone" in text and "\n" not in text


def test_a_model_that_is_gone_is_damaged_too(copied) -> None:
    shutil.rmtree(copied)
    with pytest.raises(CheckpointError, match="SHA256SUMS: is missing, .* --force-reinstall open-exaone"):
        shipped.shipped_model()


def test_a_further_line_of_the_sums_is_refused(copied) -> None:
    with open(copied / shipped.SUMS, "a") as sums:
        sums.write(f"{'0' * 64}  ../other\n")
    with pytest.raises(CheckpointError, match="does not list the files"):
        shipped.shipped_model()


def test_a_folder_of_that_name_comes_first(copied, tmp_path, monkeypatch) -> None:
    (copied / shipped.SUMS).unlink()  # it is not asked
    monkeypatch.chdir(tmp_path)
    assert resolve_model(Path(shipped.SHIPPED)) == Path(shipped.SHIPPED)
    monkeypatch.chdir("/")
    with pytest.raises(CheckpointError, match="damaged"):
        resolve_model(Path(shipped.SHIPPED))
