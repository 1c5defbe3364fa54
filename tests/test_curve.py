"""benchmarks/curve.py: a share of the data as settings, finished runs as points, and the figure of both."""

import importlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from open_exaone.base.errors import DataError, RunFolderError
from open_exaone.base.files import read_json
from open_exaone.base.interrupt import Interrupted
from open_exaone.evaluation.paired import paired_difference
from open_exaone.pipeline.spent import stages_spent

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
STAGES = ["base", "sft", "prefer", "rl"]


@pytest.fixture
def modules() -> Iterator[Callable[[str], ModuleType]]:
    """The benchmarks' modules by name, importable while a test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        known = set(sys.modules)
        yield importlib.import_module
        for name in set(sys.modules) - known:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(BENCHMARKS):
                del sys.modules[name]


@pytest.fixture
def curve(modules: Callable[[str], ModuleType]) -> ModuleType:
    return modules("curve")


@pytest.fixture
def tiny(curve: ModuleType, recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """curve.py with the tiny recipe and a table of three runs: the recipe itself and two halves."""
    monkeypatch.setattr(curve, "RECIPE", str(recipe_file))
    monkeypatch.setattr(curve, "SHAPES", {"small": {}, "large": {"num_layers": 3}})
    whole, half = Fraction(1), Fraction(1, 2)
    cells = (curve.Cell("small", half), curve.Cell("small", whole), curve.Cell("large", half))
    monkeypatch.setattr(curve, "CELLS", cells)
    return curve


def test_a_share_scales_what_stages_learn_and_nothing_that_is_measured(curve: ModuleType) -> None:
    whole, quarter = (curve.recipe_of(curve.Cell("0.9M", share)) for share in (Fraction(1), Fraction(1, 4)))

    def problems(recipe, name):
        return [source.num_problems for source in recipe.data[name].sources]

    assert whole.model == quarter.model and whole.evaluation == quarter.evaluation
    assert quarter.evaluation.faithfulness is None and quarter.evaluation.num_samples == 4
    assert problems(quarter, "test") == [1000] and problems(quarter, "validation") == [300]
    learned = {stage.data for stage in whole.stages}
    assert learned == {"base", "sft", "preference", "rl"}
    for name in learned:
        assert problems(quarter, name) == [number / 4 for number in problems(whole, name)]
    assert (whole.stages[-1].num_steps, quarter.stages[-1].num_steps) == (180, 45)


def test_the_sizes_are_in_the_proportions_of_the_recipe(curve: ModuleType) -> None:
    models = {cell.size: curve.recipe_of(cell).model for cell in curve.CELLS}
    for size, model in models.items():
        assert f"{model.num_parameters / 1e6:.1f}M" == size
        assert model.head_width == 32 and model.num_heads == model.width // 32
        assert model.ffn_width == 3 * model.width and 25 < model.width / model.num_layers < 40
    assert models["1.9M"].num_parameters * 2 < 3.9e6  # in bfloat16


def test_a_finished_run_becomes_points(
    tiny: ModuleType, modules: Callable[[str], ModuleType], finished_run: tuple[Path, list[object]]
) -> None:
    folder = tiny.check_run(tiny.CELLS[1], finished_run[0])
    assert folder.recipe().evaluation.faithfulness == 6  # what the table leaves out may be there
    points, flops = modules("curve_points"), 0.0
    run = points.read_run(folder)
    report = read_json(finished_run[0] / "report.json")["stages"]
    spent = stages_spent(folder.recipe(), folder)
    assert [stage["stage"] for stage in run.found["stages"]] == STAGES
    for stage, reported in zip(run.found["stages"], report, strict=True):
        assert (stage["score"], stage["ci95"]) == (reported["pass_at_1"], reported["ci95"])
        flops += spent[stage["stage"]].flops
        assert stage["flops_so_far"] == flops
    gains = [stage["gain"] for stage in run.found["stages"]]
    assert gains[0] is None
    assert gains[1]["value"] == pytest.approx(report[1]["pass_at_1"] - report[0]["pass_at_1"])
    assert run.found["measured"] == {"name": "test", "num_problems": 12, "k": 2}


def test_unfinished_and_other_runs_are_refused_with_the_fix(
    tiny: ModuleType, finished_run: tuple[Path, list[object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half, whole, _ = tiny.CELLS
    with pytest.raises(RunFolderError, match=r"is no run of small-x0\.5 \(it differs in data\.base.*name another fol"):
        tiny.check_run(half, finished_run[0])
    begun = tmp_path / whole.name
    shutil.copytree(finished_run[0], begun, ignore=shutil.ignore_patterns("04-rl"))
    with pytest.raises(RunFolderError, match=r"not finished: finish it with `python .* --out .* --only small-x1`"):
        tiny.check_run(whole, begun)
    with pytest.raises(RunFolderError, match="not finished: finish it with `exaone run .*recipe.toml --out "):
        tiny.check_run(whole, begun.rename(tmp_path / "elsewhere"))
    with pytest.raises(RunFolderError, match="is no run's folder"):
        tiny.finished(tmp_path / "none", {whole: tmp_path})
    (tmp_path / "elsewhere").rename(begun)
    assert tiny.finished(tmp_path, {}) == {}
    told = capsys.readouterr().err
    assert "small-x0.5: was not run" in told and "this run of small-x1 is not finished" in told


def test_the_command_runs_what_is_missing_and_draws_what_is_there(
    tiny: ModuleType,
    finished_run: tuple[Path, list[object]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun = []

    def copied(jobs, num_at_once, on_event):
        assert num_at_once == 1
        for job in jobs:
            begun.append(job.place[0])
            own = job.folder / "recipe.toml"
            text = own.read_text(encoding="utf-8")
            shutil.copytree(finished_run[0], job.folder, dirs_exist_ok=True)
            own.write_text(text, encoding="utf-8")
        return {}

    monkeypatch.setattr(tiny, "run_jobs", copied)
    figure = tmp_path / "curve.svg"
    given = ["", "--out", str(tmp_path), "--have", f"small-x1={finished_run[0]}", "--figure", str(figure)]
    monkeypatch.setattr(sys, "argv", [*given, "--only", "small-x1", "small-x0.5"])
    with pytest.raises(SystemExit, match="0"):
        tiny.main()
    assert begun == ["small-x0.5"] and not (tmp_path / "small-x1").exists()
    found = read_json(tmp_path / "curve.json")
    assert [run["name"] for run in found["runs"]] == ["small-x0.5", "small-x1"]
    assert found["missing"] == ["large-x0.5"] and found["sizes"] == []
    printed = capsys.readouterr().out
    assert re.search(r"^\| small \| 1 \| [\d.]+% \| .* \([\d.]+ to [\d.]+\) \| [\d.]+e\+\d+ \|$", printed, re.MULTILINE)
    assert "| large | 0.5 | – | – | – | – | not run to its end |" in printed
    assert len(re.findall(r"^\| small \| (?:0\.5|1) (?:\| \S+ \(\S+ to \S+\) ){3}\|$", printed, re.MULTILINE)) == 2
    monkeypatch.setattr(sys, "argv", [*given, "--only"])
    with pytest.raises(SystemExit, match="0"):
        tiny.main()
    assert begun == ["small-x0.5"]
    text = figure.read_text(encoding="utf-8")
    assert re.findall('https?://[^"]*|href|url\\(|@import', text) == ["http://www.w3.org/2000/svg"]
    words = " | ".join(ElementTree.fromstring(text).itertext())
    score = found["runs"][1]["stages"][-1]
    assert f"small on 1 of the data, {score['flops_so_far']:.2g} FLOPs: {100 * score['score']:.1f}" in words
    assert "12 problems, 2 samples; 95 % intervals, one seed" in words and "not run: large-x0.5" in words
    assert text.count('class="mark of-1"') == 1 + 2 + 3  # in the legend, of both runs, of each stage's gain


def test_a_command_that_is_stopped_says_how_it_goes_on(
    tiny: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*arguments):
        raise Interrupted

    monkeypatch.setattr(tiny, "run_jobs", stopped)
    monkeypatch.setattr(sys, "argv", ["", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="its state is saved: run the same command again"):
        tiny.main()


def test_sizes_are_paired_on_the_same_share_of_the_data(modules: Callable[[str], ModuleType]) -> None:
    points = modules("curve_points")
    scores = {"a-x0.5": (0.0, 0.5), "a-x1": (0.5, 0.5), "b-x1": (1.0, 0.5), "c-x0.5": (1.0, 1.0)}
    runs = {name: points.ReadRun({"stages": []}, {"p": one, "q": two}) for name, (one, two) in scores.items()}
    found = points.find_points(runs, [*scores, "d-x1"])
    assert [(one["larger"], one["smaller"], one["value"]) for one in found["sizes"]] == [
        ("c-x0.5", "a-x0.5", 0.75),
        ("b-x1", "a-x1", 0.25),
    ]
    assert asdict(paired_difference(runs["b-x1"].scores, runs["a-x1"].scores)).items() <= found["sizes"][1].items()
    assert points.shared_share(found) == 1 and found["missing"] == ["d-x1"]
    with pytest.raises(DataError, match="paired runs need the same questions"):
        points.find_points({**runs, "d-x1": points.ReadRun({"stages": []}, {"p": 1.0})}, [*scores, "d-x1"])


def test_wrong_names_are_answered_with_the_table(curve: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for given, said in (
            (["--only", "2M-x1"], "'2M-x1': is no run of the table; there are 0.3M-x0.25, "),
            (["--have", "0.9M-x1"], "write SIZE-xSHARE=FOLDER, such as 0.9M-x1=runs/nano-exaone-deep"),
        ):
            patch.setattr(sys, "argv", ["curve.py", *given])
            with pytest.raises(SystemExit, match="2"):
                curve.main()
            assert said in " ".join(capsys.readouterr().err.split())
