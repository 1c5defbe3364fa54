"""Suites: as published, marked where not; and from a suite to tasks, with every error that says its mend."""

import re
from pathlib import Path
from typing import Any

import pytest

from open_exaone.base import records
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.evaluation.plan import plan
from open_exaone.evaluation.suite import MODES, SHIPPED, load_suite, suite_names
from open_exaone.tasks.benchmarks.fetch import fetch_benchmark
from open_exaone.tasks.benchmarks.registry import BENCHMARKS, get_benchmark
from tasks.benchmarks.rows import MADE_UP, write_rows

DOCS = Path(__file__).parents[2] / "docs"
OWN = [{"question": "2+3?", "answer": "5"}, {"question": "2+2?", "answer": "4"}]


@pytest.fixture(autouse=True)
def no_network(tmp_path_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and nothing that somebody fetched on this machine."""

    def snapshot_download(repo, **options):
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, str]:
    """Made-up rows of every benchmark that has none of its own, with a field more than the copies that we know."""
    folder = tmp_path / "rows"
    folder.mkdir()
    more = {name: [{**row, "remark": "made up"} for row in some] for name, some in MADE_UP.items()}
    return {name: write_rows(folder / f"{name}.jsonl", some) for name, some in more.items()}


def rows_for(suite, rows: dict[str, str]) -> dict[str, str]:
    return {task.benchmark: rows[task.benchmark] for task in suite.tasks if task.benchmark in rows}


def write_suite(path: Path, tasks: str, more: str = "") -> str:
    path.write_text(
        f'name = "mine"\nwhat = "Mine."\ntasks = [{tasks}]\n[defaults]\nk = 2\ntemperature = 0.6\ntop_p = 0.95\n'
        f"max_new_tokens = 512\n{more}"
    )
    return str(path)


# ---- what is shipped


def test_k_and_sampling_are_as_published() -> None:
    deep = {task.label: task for task in load_suite("exaone-deep").tasks}
    assert {name: deep[name].k for name in ("math_500", "csat_2025_math", "aime_2024", "aime_2025")} == {
        "math_500": 8, "csat_2025_math": 16, "aime_2024": 64, "aime_2025": 64
    }  # fmt: skip
    assert {(task.temperature, task.top_p, task.max_new_tokens) for task in deep.values()} == {(0.6, 0.95, 32768)}
    assert "cons@64" in deep["aime_2024"].metrics and "cons@64" in deep["aime_2025"].metrics
    for name, penalty in (("exaone-4.0", 1.5), ("exaone-4.0-1.2b", 0.0)):
        assert set(MODES) == set(records.MODES)  # one spelling in suites, recipes and reports
        by_mode = {mode: load_suite(f"{name}-{mode}").tasks for mode in MODES}
        for mode, tasks in by_mode.items():
            k = {task.benchmark: task.k for task in tasks}
            assert k.pop("gpqa_diamond") == 8 and k.pop("aime_2025") == k.pop("hmmt_feb_2025") == 32
            assert k.pop("livecodebench_v5") == k.pop("livecodebench_v6") == k.pop("math_500_es") == 4
            assert set(k.values()) == {1}
            for task in tasks:
                assert task.presence_penalty == (penalty if mode == "reasoning" else 0.0)
                is_greedy = mode == "non_reasoning" and task.k == 1
                assert (task.temperature == 0) == is_greedy
                assert is_greedy or mode == "reasoning" or "temperature" in task.not_published
    (aime, code) = load_suite("exaone-4.0-budget").tasks
    assert aime.budgets == code.budgets == tuple(1024 << power for power in range(7))
    assert load_suite("nano-budget").tasks[0].budgets == (16, 32, 64, 128, 256)


def test_every_setting_without_a_source_is_marked() -> None:
    """k of the benchmarks for which no report that we have seen gives one."""
    unmarked = {task.label for task in load_suite("exaone-deep").tasks if "k" not in task.not_published}
    assert unmarked == {"math_500", "aime_2024", "aime_2025", "csat_2025_math"}
    for name in SHIPPED:
        for task in load_suite(name).tasks:
            assert "seed" in task.not_published, (name, task.label)
            assert not task.budgets or "answer_tokens" in task.not_published
            if name.startswith("exaone-4.0"):
                assert "prompt" in task.not_published


def test_the_suites_of_the_issue_are_there() -> None:
    assert {"exaone-deep", "exaone-4.0", "exaone-4.0-1.2b", "korean", "nano"} <= SHIPPED.keys()
    assert {"exaone-4.0-reasoning", "exaone-4.0-non-reasoning"} <= set(suite_names())
    for name in suite_names():
        suite = load_suite(name)
        assert suite.name == name
        for task in suite.tasks:
            assert task.benchmark in BENCHMARKS or task.benchmark.startswith("run:")


def test_the_document_has_every_task_as_it_is() -> None:
    """docs/suites.md is written from the files: `python tests/evaluation/suite_tables.py` writes its tables anew."""
    from evaluation.suite_tables import table

    said = (DOCS / "suites.md").read_text(encoding="utf-8")
    for name in SHIPPED:
        assert table(name) in said, f"{name}: write the tables anew"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_suite_plans(name: str, rows: dict[str, str], tmp_path: Path) -> None:
    suite = load_suite(name)
    own = write_rows(tmp_path / "test.jsonl", OWN)
    asked = rows_for(suite, rows) | {task.benchmark: own for task in suite.tasks if task.benchmark == "run:test"}
    tasks = plan(suite, rows=asked, limit=2)
    assert len({task.name for task in tasks}) == len(tasks)
    assert len(tasks) == sum(max(1, len(task.budgets)) for task in suite.tasks)
    for task in tasks:
        told = next(item for item in suite.tasks if item.label == task.name.partition("@")[0])
        assert task.sampling.num_samples == told.k and task.sampling.seed == told.seed
        assert task.mode == told.mode and 1 <= len(task.problems) <= 2 and task.sha256 and task.source
        assert suite.not_published(task.name) == told.not_published


# ---- one benchmark, and a user's own


def test_a_benchmark_is_a_suite_of_one(rows: dict[str, str]) -> None:
    (task,) = plan(load_suite("aime_2025"), rows={"aime_2025": rows["aime_2025"]})
    assert (task.name, task.benchmark, task.thinking, len(task.problems)) == ("aime_2025", "aime_2025", True, 2)
    sampling = task.sampling
    assert (sampling.temperature, sampling.top_p, sampling.num_samples) == (0.6, 0.95, 1)
    assert task.source == rows["aime_2025"] and not task.is_pinned


def test_a_benchmark_by_itself_takes_either_mode(rows: dict[str, str], tmp_path: Path) -> None:
    suite, asked = load_suite("math_500"), {"math_500": rows["math_500"]}
    (task,) = plan(suite, rows=asked, modes=["non_reasoning"])
    assert (task.name, task.thinking) == ("math_500-non-reasoning", False)
    assert (task.sampling.temperature, task.sampling.max_new_tokens, task.sampling.num_samples) == (0, 32768, 1)
    assert "max_new_tokens" in suite.not_published(task.name) and "k" in suite.not_published("math_500")
    assert [task.name for task in plan(suite, rows=asked)] == ["math_500"]
    both = plan(suite, rows=asked, modes=MODES)
    assert [(task.name, task.mode) for task in both] == list(
        zip(["math_500", "math_500-non-reasoning"], MODES, strict=True)
    )
    (drawn,) = plan(
        suite, rows=asked, modes=["non_reasoning"], sampling={"num_samples": 4, "temperature": 0.5, "top_p": 0.9}
    )
    assert (drawn.sampling.num_samples, drawn.sampling.temperature, drawn.sampling.top_p) == (4, 0.5, 0.9)
    (tmp_path / "my.toml").write_text('name = "capitals"\nwhat = "Capitals."\nfile = "rows.jsonl"\n')
    source = write_rows(tmp_path / "rows.jsonl", OWN)
    for own, name in ((str(tmp_path / "my.toml"), "capitals"), (source, "rows")):
        assert [task.name for task in plan(load_suite(own), modes=MODES)] == [name, f"{name}-non-reasoning"]


def test_several_are_one_suite(rows: dict[str, str], tmp_path: Path) -> None:
    own = write_rows(tmp_path / "a,b.jsonl", OWN)
    assert load_suite(own).name == "a,b"  # a file may have a comma
    for names in ("math_500,aime_2025", "MATH-500, aime_2025"):
        suite = load_suite(names)
        tasks = plan(suite, rows={"MATH-500": rows["math_500"], "aime_2025": rows["aime_2025"]})
        assert [task.name for task in tasks] == ["math_500", "aime_2025"] and suite.name == "math_500,aime_2025"
    assert len(load_suite("exaone-4.0-reasoning,gsm8k").tasks) == 14
    assert len(load_suite(",".join(BENCHMARKS)).tasks) == len(BENCHMARKS)  # longer than a file's name may be
    assert len(load_suite("exaone-deep,gsm8k").of_modes(["non_reasoning"]).tasks) == 1
    with pytest.raises(ConfigError, match="exaone-deep and aime_2025 both have a task 'aime_2025': name one of them"):
        load_suite("exaone-deep,aime_2025")
    with pytest.raises(ConfigError, match="suite 'math_500,': a name is empty: write them as math_500,aime_2025"):
        load_suite("math_500,")
    with pytest.raises(ConfigError, match="suite 'aime': unknown"):
        load_suite("math_500,aime")


@pytest.mark.parametrize(
    ("written", "meant"),
    [("math500", "math_500"), ("MATH-500", "math_500"), ("MMLU Pro", "mmlu_pro"), ("EXAONE-Deep", "exaone-deep")],
)
def test_case_and_punctuation_of_a_name_play_no_part(written: str, meant: str) -> None:
    assert load_suite(written) == load_suite(meant)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("aime24", 'aime_2024" or'),
        ("AIME 25", 'aime_2025" or'),
        ("aime", 'aime_2024" or "aime_2025"'),
        ("gpqa", "gpqa_diamond"),
        ("csat", "csat_2025_math"),
        ("HMMT 2025", "hmmt_feb_2025"),
        ("livecodebench_v7", "livecodebench_v"),
        ("exaone-4", 'exaone-4.0" or'),
    ],
)
def test_a_name_that_is_none_suggests_the_nearest(written: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f'suite {written!r}: unknown; did you mean "{meant}')):
        load_suite(written)


def test_a_limit_says_whether_rows_were_left_out(rows: dict[str, str], tmp_path: Path) -> None:
    asked = {"aime_2025": rows["aime_2025"]}  # two rows
    own = write_rows(tmp_path / "own.jsonl", OWN)
    for suite, where in ((load_suite("aime_2025"), asked), (load_suite(own), {})):
        whole = {limit: plan(suite, rows=where, limit=limit)[0].is_whole for limit in (None, 1, 2, 3)}
        assert whole == {None: True, 1: False, 2: True, 3: True}


def test_what_was_fetched_needs_no_rows(rows: dict[str, str]) -> None:
    with pytest.raises(DataError, match="--rows csat_2025_math=FILE"):
        plan(load_suite("csat_2025_math"))
    fetched = fetch_benchmark("csat_2025_math", rows["csat_2025_math"])
    (task,) = plan(load_suite("csat_2025_math"))
    assert (task.source, task.sha256, len(task.problems)) == (str(fetched.path), fetched.sha256, 46)


def test_a_described_benchmark_and_problems_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('name = "capitals"\nwhat = "Capitals."\nfile = "rows.jsonl"\n')
    write_rows(tmp_path / "rows.jsonl", OWN)
    (task,) = plan(load_suite(str(tmp_path / "my.toml")))
    assert (task.name, task.benchmark, len(task.problems)) == ("capitals", "capitals", 2)
    (task,) = plan(load_suite(str(tmp_path / "rows.jsonl")), limit=1)
    assert (task.name, task.benchmark, len(task.problems), len(task.sha256)) == ("rows", "rows", 1, 64)
    (tmp_path / "mine.py").write_text("def easy():\n    return [{'question': '1+1?', 'answer': '2'}]\n")
    (task,) = plan(load_suite(f"{tmp_path}/mine.py:easy"))
    assert (task.name, task.benchmark, task.problems[0].answer) == ("easy", "easy", "2")


def test_a_run_s_own_problems(rows: dict[str, str]) -> None:
    problems = list(plan(load_suite("ksm"), rows={"ksm": rows["ksm"]})[0].problems)
    (task,) = plan(load_suite("run:validation"), run_problems={"validation": problems}.__getitem__)
    assert (task.name, task.benchmark, list(task.problems)) == ("validation", "validation", problems)
    with pytest.raises(DataError, match="- run:test: belongs to a run: evaluate a run's folder"):
        plan(load_suite("nano"))


def test_a_suite_of_one_s_own_reads_what_stands_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets").mkdir()
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "sets" / "own.jsonl", OWN)
    write_rows(tmp_path / "sets" / "hle.jsonl", MADE_UP["hle"])
    tasks = (
        '{ benchmark = "own.jsonl", k = 3 }, { benchmark = "hle", source = "hle.jsonl" }, '
        '{ benchmark = "own.jsonl", name = "greedy", mode = "non_reasoning" }'
    )
    suite = load_suite(write_suite(tmp_path / "sets" / "mine.toml", tasks, "[non_reasoning]\ntemperature = 0\nk = 1\n"))
    own, hle, greedy = plan(suite)
    assert (own.name, own.sampling.num_samples, hle.sampling.num_samples) == ("own", 3, 2)
    assert hle.source.endswith("hle.jsonl") and [problem.id for problem in hle.problems] == ["hle/a"]
    assert (greedy.name, greedy.mode, greedy.sampling.temperature) == ("greedy", "non_reasoning", 0)


# ---- what the caller wants otherwise


def test_budgets_make_tasks_of_their_own(rows: dict[str, str]) -> None:
    suite = load_suite("exaone-deep")
    tasks = plan(load_suite("aime_2025"), sampling={"budgets": (1024, 16384)}, rows={"aime_2025": rows["aime_2025"]})
    assert [task.name for task in tasks] == ["aime_2025@1024", "aime_2025@16384"]
    assert [(task.sampling.thinking_budget, task.sampling.max_new_tokens) for task in tasks] == [
        (1024, 1024 + 4096),
        (16384, 16384 + 4096),
    ]
    assert {task.benchmark for task in tasks} == {"aime_2025"}
    assert suite.not_published("aime_2025@1024") == suite.not_published("aime_2025") != ()


def test_overrides_reach_every_task(rows: dict[str, str]) -> None:
    suite = load_suite("exaone-deep")
    changed = {"num_samples": 2, "seed": 7, "max_new_tokens": 100}
    tasks = plan(suite, sampling=changed, rows=rows_for(suite, rows), limit=1)
    assert {(t.sampling.num_samples, t.sampling.seed, t.sampling.max_new_tokens) for t in tasks} == {(2, 7, 100)}
    assert {len(task.problems) for task in tasks} == {1}


def test_modes_are_chosen(rows: dict[str, str]) -> None:
    suite = load_suite("exaone-4.0")
    tasks = plan(suite, rows=rows_for(suite, rows), modes=["non_reasoning"])
    assert len(tasks) == 13 and not any(task.thinking for task in tasks)
    assert tasks[0].name == "mmlu_redux-non-reasoning" and tasks[0].benchmark == "mmlu_redux"


@pytest.mark.parametrize(
    ("name", "wanted", "fault"),
    [
        (
            "exaone-4.0-non-reasoning", {"num_samples": 4},
            "suite exaone-4.0-non-reasoning: mmlu_redux-non-reasoning: k = 4 with temperature = 0: greedy replies are "
            "all the same: set k = 1, or a temperature above 0",
        ),
        (
            "exaone-4.0", {"budgets": [1024]},
            "suite exaone-4.0: mmlu_redux-non-reasoning: budgets with mode = 'non_reasoning': such replies have no "
            "thought to cut: leave the budgets out, or ask in mode 'reasoning' alone",
        ),
        (
            "aime_2025", {"budgets": [32768]},
            "suite aime_2025: aime_2025: budget 32768 with max_new_tokens = 32768: must be at least 1 and below it: "
            "leave this budget out, or raise max_new_tokens",
        ),
        ("aime_2025", {"budgets": [0]}, "suite aime_2025: aime_2025: budget 0 with max_new_tokens = 32768: must be at"),
        ("aime_2025", {"budgets": [8, 8]}, "suite aime_2025: aime_2025: budgets = [8, 8]: one is listed twice: remove"),
        ("aime_2025", {"num_samples": 0}, "suite aime_2025: k = 0: "),
        ("aime_2025", {"limit": 0}, "limit = 0: must be at least 1"),
        ("aime_2025", {"modes": ["fast"]}, "mode 'fast': must be one of reasoning, non_reasoning"),
        ("exaone-deep", {"modes": ["non_reasoning"]}, "suite exaone-deep: has no task in mode non_reasoning: choose"),
        (
            "aime_2025", {"num_samples": 4, "temperature": 0.0},
            "suite aime_2025: aime_2025: k = 4 with temperature = 0: greedy replies are all the same: set k = 1",
        ),
        (
            "aime_2025", {"num_samples": 4, "modes": ["non_reasoning"]},
            "suite aime_2025: aime_2025-non-reasoning: k = 4 with temperature = 0: greedy replies are all the same",
        ),
        ("aime_2025", {"temperature": -1.0}, "suite aime_2025: temperature = -1.0: "),
        ("aime_2025", {"top_p": 0.0}, "suite aime_2025: top_p = 0.0: "),
        ("aime_2025", {"top_k": 0}, "suite aime_2025: top_k = 0: "),
        ("aime_2025", {"logit_bias": {5: 101}}, "suite aime_2025: logit_bias.5 = 101: "),
        ("aime_2025", {"stop": [""]}, "suite aime_2025: stop.0 = "),
        ("aime_2025", {"rows": {"aime": "x"}}, "--rows aime: not in suite aime_2025; did you mean \"aime_2025\"? Its"),
    ],
)  # fmt: skip
def test_what_contradicts_itself_says_the_fix(name: str, wanted: dict[str, Any], fault: str) -> None:
    others = {key: wanted[key] for key in ("rows", "limit", "modes") if key in wanted}
    sampling = {key: value for key, value in wanted.items() if key not in others}
    with pytest.raises(ConfigError, match="^" + re.escape(fault)):
        plan(load_suite(name), sampling=sampling, **others)


# ---- what cannot be loaded


def test_everything_that_is_missing_is_told_at_once(rows: dict[str, str]) -> None:
    suite = load_suite("exaone-deep")
    some = {name: rows[name] for name in ("math_500", "mmlu")}
    with pytest.raises(DataError) as caught:
        plan(suite, rows=some)
    first, *lines = str(caught.value).split("\n")
    assert first == "suite exaone-deep: 6 of its benchmarks cannot be loaded:"
    assert lines[6:] == [
        "The hub cannot be reached (no route): check the network.",
        "`exaone fetch NAME` downloads a benchmark's rows once.",
        "--skip-missing evaluates the rest.",
    ]
    missing = ["aime_2024", "aime_2025", "csat_2025_math", "gpqa_diamond", "livecodebench", "mmlu_pro"]
    assert [line.partition(":")[0] for line in lines[:6]] == [f"- {name}" for name in missing]
    for name, line in zip(missing, lines[:6], strict=True):
        mend = f"name a file here: --rows {name}=FILE" if name == "csat_2025_math" else f"add --rows {name}=FOLDER"
        assert line.endswith(mend) and "reached" not in line
    assert "copy its files (gpqa_diamond.csv) from https://huggingface.co/datasets/Idavidrein/gpqa" in lines[3]
    assert "exaone fetch csat_2025_math --rows FILE" in lines[2]


def test_skipping_is_advised_where_something_is_left(rows: dict[str, str]) -> None:
    with pytest.raises(DataError) as caught:
        plan(load_suite("math_500"))
    assert "The hub cannot be reached" in str(caught.value) and "--skip-missing" not in str(caught.value)
    with pytest.raises(DataError) as caught:
        plan(load_suite("csat_2025_math,aime_2025"), rows={"aime_2025": rows["aime_2025"]})
    said = str(caught.value)
    assert said.endswith("\n--skip-missing evaluates the rest.") and "reached" not in said


def test_reasons_that_differ_are_told_each(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo, **options):
        raise ConnectionError(f"no route to {repo}")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(DataError) as caught:
        plan(load_suite("math_500,mmlu"))
    lines = str(caught.value).split("\n")
    assert "the hub cannot be reached (no route to HuggingFaceH4/MATH-500): copy" in lines[1]
    assert "the hub cannot be reached (no route to cais/mmlu): copy" in lines[2]


def test_what_is_missing_can_be_skipped_and_is_told(rows: dict[str, str]) -> None:
    told = list[str]()
    some = {name: rows[name] for name in ("math_500", "mmlu")}
    tasks = plan(load_suite("exaone-deep"), rows=some, skip_missing=True, on_skip=told.append)
    assert [task.name for task in tasks] == ["math_500", "mmlu"]
    assert len(told) == 6 and told[0] == (
        "aime_2024: HuggingFaceH4/aime_2024: is incomplete in the hub's cache, and the hub cannot be reached (no route)"
    )
    with pytest.raises(DataError, match="suite exaone-deep: nothing is left to measure"):
        plan(load_suite("exaone-deep"), skip_missing=True)


def test_rows_that_are_wrong_or_named_and_not_there_are_never_skipped(rows: dict[str, str], tmp_path: Path) -> None:
    wrong = write_rows(tmp_path / "wrong.jsonl", [{"problem": "?"}])
    asked = {"math_500": wrong, "mmlu": str(tmp_path / "none.jsonl"), "gpqa_diamond": "owner/gone"}
    with pytest.raises(DataError) as caught:
        plan(load_suite("exaone-deep"), rows=asked, skip_missing=True)
    lines = str(caught.value).split("\n")
    assert lines[0] == "suite exaone-deep: 3 of its benchmarks cannot be loaded:"
    assert lines[1] == f"- math_500: {wrong}: line 1: field 'answer': is missing; every row needs it"
    assert lines[2].startswith("- gpqa_diamond: owner/gone: is incomplete in the hub's cache")
    assert lines[3] == f"- mmlu: {tmp_path / 'none.jsonl'}: no such file"


WITHOUT = object()


@pytest.mark.parametrize(
    ("name", "changes", "fault"),
    [
        ("math_500", {"answer": WITHOUT}, "field 'answer': is missing; every row needs it"),
        ("gsm8k", {"answer": "5"}, "field 'answer': must end in '#### ' and the final answer"),
        ("gpqa_diamond", {"Record ID": "rec0"}, "'gpqa_diamond/rec0' is an earlier row's: give each row a unique "
         "id, or drop one"),
        ("mmlu_pro", {"options": WITHOUT}, "field 'options': must be a list of texts, not None"),
        ("csat_2025_math", {"choices": ["1"]}, "field 'choices': must hold 5 texts, not 1"),
        ("mmlu_pro", {"answer": "K"}, "field 'answer': must be one of A, B, C, D, E, F, G, H, I, J, not 'K'"),
        ("mmmlu_es", {"Answer": "E"}, "field 'Answer': must be one of A, B, C, D, not 'E'"),
        ("kmmlu_pro", {"solution": 6}, "field 'solution': must be a whole number from 1 to 5, not '6'"),
    ],
)  # fmt: skip
def test_a_wrong_row_from_end_to_end(name: str, changes: dict[str, Any], fault: str, tmp_path: Path) -> None:
    first = MADE_UP[name][0]
    wrong = {key: value for key, value in {**first, **changes}.items() if value is not WITHOUT}
    path = write_rows(tmp_path / "rows.jsonl", [first, wrong])
    with pytest.raises(DataError) as caught:
        plan(load_suite(name), rows={name: path})
    said = f"suite {name}: 1 of its benchmarks cannot be loaded:\n- {name}: {path}: line 2: {fault}"
    assert str(caught.value) == said


def test_changed_content_from_end_to_end(tmp_path: Path) -> None:
    """Made-up rows with the fields of the copy that we know are a change of it."""
    path = write_rows(tmp_path / "rows.jsonl", MADE_UP["gsm8k"])
    with pytest.raises(DataError) as caught:
        plan(load_suite("gsm8k"), rows={"gsm8k": path})
    known = get_benchmark("gsm8k").pins[0].sha256
    said = (
        rf"suite gsm8k: 1 of its benchmarks cannot be loaded:\n- gsm8k: {re.escape(path)}: the benchmark's content "
        rf"changed: the rows of gsm8k have sha256 [0-9a-f]{{64}}, not {known}: scores do not compare with those of "
        r"others; fetch it again, or accept it with --changed \(on_change='warn'\)"
    )
    assert re.fullmatch(said, str(caught.value))
    with pytest.warns(UserWarning, match="the benchmark's content changed"):
        (task,) = plan(load_suite("gsm8k"), rows={"gsm8k": path}, on_change="warn")
    assert not task.is_pinned


# ---- files that are wrong


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('name = "x"\n', "is neither a suite, which has [[tasks]] with benchmark and k, nor a benchmark, which has"),
        ('tasks = []\nfile = "x"\n', "file: stands beside tasks: a suite has [[tasks]], a benchmark has file or hub; "),
        ('name = "x"\nwhat = "x"\ntasks = []\n', "tasks = []: "),
        ('name = "x"\nwhat = "x"\ntasks = 3\n', "tasks = 3: "),
        ('name = "x"\nwhat = "x"\ntasks = [3]\n', "tasks.0 = 3: "),
        ('tasks = [{}]\n', "name: is missing"),
        ('name = "x"\nwhat = "x"\n[[tasks]]\nbenchmark = "hle"\n', "tasks.0.k: is missing"),
        ("TASK k = '3'\n", "tasks.0.k = '3': "),
        ("TASK mode = 'fast'\n", "tasks.0.mode = 'fast': "),
        ("TASK thinking = true\n", "tasks.0.thinking: unknown key"),
        ("TASK k = 3\ntemperature = 0\n", "hle: k = 3 with temperature = 0: greedy replies are all the same"),
        ("TASK budgets = [64]\n", "hle: budget 64 with max_new_tokens = 64: must be at least 1 and below it"),
        ("TASK budgets = [32]\nmode = 'non_reasoning'\n", "hle-non-reasoning: budgets with mode = 'non_reasoning'"),
        ("TASK metrics = ['cons@64']\n", "hle: metric 'cons@64': needs k = 64 samples, not 2"),
        ("TASK metrics = ['mean']\n", "hle: metric 'mean': must be pass@K, cons@K or csat"),
        ("TASK not_published = ['q']\n", "hle: not_published: 'q' is none of top_k, "),
        ("TASK [[tasks]]\nbenchmark = 'hle'\n", "tasks: two are called 'hle': give one a name of its own"),
        ("TASK [reasoning]\ntemprature = 1\n", 'reasoning.temprature: unknown key; did you mean "temperature"? Known'),
        ("TASK [reasoning]\nmode = 'reasoning'\n", "reasoning.mode: unknown key"),
        ("TASK [non-reasoning]\nk = 1\n", 'non-reasoning: unknown key; did you mean "non_reasoning"? Known'),
        ("TASK mode = 'non-reasoning'\n", "one of reasoning, non_reasoning; did you mean \"non_reasoning\"?"),
        ("TASK non-reasoning = 3\n", "tasks.0.non-reasoning: unknown key"),
    ],
)  # fmt: skip
def test_a_wrong_file_names_file_and_field(text: str, fault: str, tmp_path: Path) -> None:
    start = (
        'name = "x"\nwhat = "x"\n[defaults]\nk = 2\ntemperature = 0.6\ntop_p = 0.95\nmax_new_tokens = 64\n'
        '[[tasks]]\nbenchmark = "hle"\n'
    )
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace("TASK ", start))
    with pytest.raises(ConfigError) as caught:
        load_suite(str(path))
    assert any(line.startswith(f"{path}: ") and fault in line for line in str(caught.value).split("\n"))


def test_an_unknown_name_tells_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"suite 'exaone-5': unknown; did you mean .*\? The suites are .*exaone-4.0-reasoning, .*math_500",
    ):
        load_suite("exaone-5")
    with pytest.raises(ConfigError, match="suite 'zzz': unknown. The suites are"):
        load_suite("zzz")
    with pytest.raises(ConfigError, match="nowhere.toml: no such file"):
        load_suite(str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigError, match="nowhere.jsonl: .*no such file|no such file"):
        load_suite("exaone-deep-reasoning-x.toml")
