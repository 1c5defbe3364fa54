"""A recipe that is measured on several of its data: what is reported and shown, resumed, repeated and refused."""

import json
import shutil
import tomllib
from collections import Counter

import pytest

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.base.machine import has_fast_cpu_bfloat16
from open_exaone.base.records import Problem
from open_exaone.cli.chat import solved_problems
from open_exaone.cli.main import main
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.problems import draw_all
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.report import build_report, choose_showcase
from open_exaone.pipeline.run import run_recipe
from open_exaone.pipeline.source import resolve_model
from open_exaone.present.report import write_report
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.tasks.registry import get_family
from open_exaone.verify.settings import JudgeSettings

RECIPE = """
name = "several"
engine = { kind = "local", num_slots = 4 }

[model]
vocab_size = 400
width = 16
num_layers = 1
num_heads = 2
num_kv_heads = 1
head_width = 8
ffn_width = 16
max_positions = 256

[data]
test = { sources = [{ families = ["secret_number", "height_order"], num_problems = 8 }] }
harder = { sources = [{ families = ["secret_number"], num_problems = 4, harder = true }] }
base = { sources = [{ families = "drill", num_problems = 20 }, { families = ["secret_number"], num_problems = 20 }] }

[evaluation]
data = ["test", "harder"]
shown = "harder"
num_samples = 2
max_new_tokens = 4

[[stages]]
kind = "base"
name = "base"
data = "base"
num_epochs = 1
batch_documents = 20
optimizer = { kind = "adamw", learning_rate = 1e-3 }

[[stages]]
kind = "base"
name = "more"
data = "base"
num_epochs = 1
batch_documents = 40
optimizer = { kind = "adamw", learning_rate = 1e-3 }
"""
FLOAT32 = Machine(device="cpu", dtype="float32")


def run(folder, *overrides):
    run_recipe(load_recipe(tomllib.loads(RECIPE), overrides), folder, lambda event: None, FLOAT32)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run; read only."""
    return run(tmp_path_factory.mktemp("several") / "run")


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def judge_greedily(folder, data, verdicts):
    """Gives the greedy replies to problems of one of the run's data, in order, these verdicts."""
    rows, left = read_jsonl(folder / "eval" / "samples.jsonl"), iter(verdicts)
    for row in rows:
        if row["task"] == f"{data}-greedy":
            row["verdict"] = next(left)
    (folder / "eval" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_each_data_has_its_entry_and_the_first_is_the_stage_s(whole):
    for stage in read_json(whole / "report.json")["stages"]:
        assert [(part["measured_on"], part["num_problems"], part["k"]) for part in stage["tasks"]] == [
            ("test", 8, 2),
            ("harder", 4, 2),
        ]
        assert all(stage[key] == value for key, value in stage["tasks"][0].items())
        samples = read_jsonl(whole / stage["folder"] / "eval" / "samples.jsonl")
        assert Counter(row["task"] for row in samples) == {
            "test": 16,
            "test-greedy": 8,
            "harder": 8,
            "harder-greedy": 4,
        }
        for part in stage["tasks"]:
            greedy = [row["verdict"] == "correct" for row in samples if row["task"] == f"{part['measured_on']}-greedy"]
            assert part["greedy"] == sum(greedy) / len(greedy)
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert all(f"By family of problems: {name}" in page for name in ("test", "harder"))


def test_what_a_stage_changed_is_paired_with_the_model_that_it_began_from(copied):
    folder = RunFolder(copied)
    for name, verdicts in (("01-base", ["correct", "wrong"]), ("02-more", ["correct", "correct"])):
        rows = read_jsonl(copied / name / "eval" / "samples.jsonl")
        for place, row in enumerate(row for row in rows if row["task"] == "test"):
            row["verdict"] = verdicts[place % 2]
        (copied / name / "eval" / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = build_report(folder, folder.recipe())["changes"]
    assert [(row["start"], row["stage"], row["measured_on"]) for row in changes] == [
        ("base", "more", "test"),
        ("base", "more", "harder"),
    ]
    test, harder = changes
    assert test["value"] == 0.5 and 0 < test["low"] < 0.5 < test["high"] <= 1 and test["p_value"] < 0.05
    assert harder["value"] == 0 and harder["low"] < 0 < harder["high"]
    assert test["mean_reply_tokens"] == [
        read_json(copied / name / "eval" / "report.json")["tasks"][0]["mean_reply_tokens"]
        for name in ("01-base", "02-more")
    ]
    assert "What each stage changed" in write_report(copied).read_text(encoding="utf-8")


def test_one_name_is_the_same_as_a_list_of_it(tmp_path):
    reports = [
        read_json(run(tmp_path / str(number), f"evaluation.data={data}", "evaluation.shown='test'") / "report.json")
        for number, data in enumerate(("'test'", "['test']"))
    ]
    assert all("tasks" not in stage for report in reports for stage in report["stages"])
    for one, other in zip(*(report["stages"] for report in reports), strict=True):
        assert one["per_task"] == other["per_task"] and one["pass_at_1"] == other["pass_at_1"]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("evaluation.data=[]", "evaluation.data"),
        ("evaluation.data=['test', 'harder', 'test']", "data: names 'test' twice: leave one out"),
        ("evaluation.temperature=0", "greedy replies are measured in any case, as test-greedy"),
        ("evaluation.data=['test', 'hardr']", "evaluation.data = 'hardr': no such data; did you mean \"harder\"?"),
        ("evaluation.shown='base'", "evaluation.shown = 'base': must be one of evaluation.data (test, harder)"),
        ("evaluation.data='test'", "evaluation.shown = 'harder': must be one of evaluation.data (test)"),
    ],
)
def test_what_data_cannot_be_measured_on_is_named(override, why):
    with pytest.raises(ConfigError) as caught:
        load_recipe(tomllib.loads(RECIPE), [override])
    assert why in str(caught.value)


def test_data_that_are_called_as_the_greedy_replies_of_others_are_refused():
    with pytest.raises(ConfigError, match="data: harder-greedy is what a measurement of harder is called"):
        load_recipe(tomllib.loads(RECIPE.replace("test", "harder-greedy")))


class Cut(BaseException):
    pass


def test_a_measurement_that_was_cut_in_the_second_data_is_resumed_there(whole, tmp_path, monkeypatch):
    stream, asked = LocalProvider.stream, list[str]()

    def cut_in_the_second(provider, requests):
        for place, generation in stream(provider, requests):
            yield place, generation
            asked.append(requests[place].messages[-1]["content"])
            if sum(question in harder for question in asked) == 2:
                raise Cut

    def counted(provider, requests):
        asked.extend(request.messages[-1]["content"] for request in requests)
        return stream(provider, requests)

    harder = {problem.question for problem in RunFolder(whole).problems("harder")}
    monkeypatch.setattr(LocalProvider, "stream", cut_in_the_second)
    with pytest.raises(Cut):
        run(tmp_path / "cut")
    journal = (tmp_path / "cut" / "01-base" / "eval" / "journal.jsonl").read_text(encoding="utf-8")
    num_kept = journal.count('"thought"')
    assert '"harder"' in journal and num_kept >= 17
    asked.clear()
    monkeypatch.setattr(LocalProvider, "stream", counted)
    run(tmp_path / "cut")
    assert len(asked) == 2 * (16 + 8 + 8 + 4) - num_kept
    for stage in ("01-base", "02-more"):
        both = [read_json(folder / stage / "eval" / "report.json") for folder in (whole, tmp_path / "cut")]
        assert both[0] == both[1]


def test_problems_of_the_second_data_that_changed_are_noticed(whole, tmp_path):
    """A run of one's own rows, of which a row of the second data is exchanged before it is resumed."""
    rows = [{"question": f"How much is {n} + 1?", "answer": str(n + 1)} for n in range(4)]
    file = tmp_path / "harder.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = f"data.harder.sources=[{{ path='{file}' }}]"

    def cut(event):
        if event.get("stage") == "more":
            raise Cut

    recipe = load_recipe(tomllib.loads(RECIPE), [own])
    with pytest.raises(Cut):
        run_recipe(recipe, tmp_path / "run", cut, FLOAT32)
    file.write_text(file.read_text().replace("3 + 1", "3 + 2"))
    with pytest.raises(DataError, match="evaluation.data = test, harder: the problems .* have changed since"):
        run_recipe(recipe, tmp_path / "run", cut, FLOAT32)


def printed(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return ended.value.code, " ".join((out + err).split())


def test_eval_measures_a_run_on_all_its_data_and_on_one_by_name(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, text = printed(capsys, "eval", whole, "--out", "all", "--dtype", "float32")
    assert code == 0
    report = read_json(tmp_path / "all" / "report.json")
    assert [task["name"] for task in report["tasks"]] == ["test", "test-greedy", "harder", "harder-greedy"]
    assert all(task["is_whole"] for task in report["tasks"]) and report["suite"] == "test, harder"
    _, text = printed(capsys, "eval", whole, "--stage", "base")
    assert "is the same as the run's own measurement" in text or has_fast_cpu_bfloat16()
    code, text = printed(capsys, "eval", whole, "--out", "one", "--suite", "harder", "--limit", "3")
    assert code == 0 and "own measurement" not in text
    report = read_json(tmp_path / "one" / "report.json")
    assert [(task["name"], task["num_problems"], task["is_whole"]) for task in report["tasks"]] == [
        ("harder", 3, False),
        ("harder-greedy", 3, False),
    ]


def test_chat_offers_problems_of_the_first_data_that_were_solved_greedily(copied):
    verdicts = ["wrong", "correct", "truncated", "wrong", "correct", "wrong", "unparsed", "error"]
    judge_greedily(copied / "02-more", "test", verdicts)
    judge_greedily(copied / "02-more", "harder", ["correct"] * 4)
    problems = RunFolder(copied).problems("test")
    assert solved_problems(copied, resolve_model(copied)) == [problems[1], problems[4]]


# ---- which problems are shown

LANGUAGES = ("en", "ko")


def problem_of(name, language="en", thought="1+1=2"):
    return Problem(name, "sums", language, "?", "2", "exact", thought=thought)


def verdicts_of(**verdicts):
    return {name: {"verdict": verdict} for name, verdict in verdicts.items()}


PROBLEMS = [
    *(problem_of(f"{language}{number}", language) for number in (1, 2, 3) for language in LANGUAGES),
    *(problem_of(f"plain{number}", thought=None) for number in (1, 2, 3)),
]
WRONG = {problem.id: "wrong" for problem in PROBLEMS}


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        # right before and after: nobody learned that
        (
            {"en1": "correct", "ko1": "correct", "plain1": "correct"},
            dict.fromkeys(WRONG, "correct") | {"plain3": "truncated"},
            ["en2", "ko2", "plain2", "plain3"],
        ),
        ({"en1": "correct", "en2": "correct"}, {"en1": "correct", "en2": "wrong"}, ["en1", "ko1"]),  # nothing learned
        ({"en1": "correct"}, {"en1": "correct", "en3": "correct"}, ["en3", "ko1"]),
        ({}, {"ko2": "correct"}, ["ko2", "en1"]),
        ({}, {}, ["en1"]),
        ({}, dict.fromkeys(WRONG, "correct"), ["en1", "ko1", "plain1"]),  # none fails
    ],
)
def test_problems_that_were_learned_are_shown_and_one_that_still_fails(before, after, shown):
    chosen = choose_showcase(PROBLEMS, verdicts_of(**WRONG | before), verdicts_of(**WRONG | after))
    assert [problem.id for problem in chosen] == shown


def test_without_a_stage_before_what_is_right_is_learned():
    after = verdicts_of(**WRONG | {"en2": "correct", "ko1": "correct"})
    assert [problem.id for problem in choose_showcase(PROBLEMS, {}, after)] == ["en2", "ko1", "en1"]


def test_a_report_shows_what_was_learned_of_the_data_that_the_recipe_names(copied):
    """After the last stage against the first, with the replies of both."""
    judge_greedily(copied / "01-base", "harder", ["correct", "wrong", "wrong", "wrong"])
    judge_greedily(copied / "02-more", "harder", ["correct", "wrong", "correct", "wrong"])
    judge_greedily(copied / "02-more", "test", ["correct"] * 8)
    folder = RunFolder(copied)
    shown = build_report(folder, folder.recipe())["showcase"]
    problems = folder.problems("harder")
    assert [item["problem"]["id"] for item in shown] == [problems[2].id, problems[1].id]
    assert [[(reply["stage"], reply["verdict"]) for reply in item["replies"]] for item in shown] == [
        [("base", "wrong"), ("more", "correct")],
        [("base", "wrong"), ("more", "wrong")],
    ]


# ---- what was drawn of each family


def test_what_was_drawn_of_each_family_is_counted_and_what_training_saw_of_it(whole):
    report = read_json(whole / "report.json")
    families = read_json(whole / "problems" / "families.json")
    assert families == report["families"]
    drawn = {name: Counter(p.task for p in RunFolder(whole).problems(name)) for name in ("test", "harder", "base")}
    for family in ("secret_number", "height_order", "drill"):
        counts = {name: counts[family] for name, counts in drawn.items() if counts[family]}
        assert families[family]["problems"] == counts
    assert families.keys() == {"secret_number", "height_order", "drill"}
    assert families["height_order"]["seen_share"] == families["drill"]["seen_share"] == 0.0
    page = (whole / "report.html").read_text(encoding="utf-8")
    table = page[page.index('id="families"') :].split("</table>")[0]
    row = next(line for line in table.splitlines() if "secret number" in line)
    assert '<th scope="col">test</th><th scope="col">harder</th><th scope="col">base</th>' in table
    assert "<td>4</td><td>4</td><td>20</td>" in row


def test_what_training_saw_of_a_family_is_what_it_drew_of_its_space(tmp_path):
    """Not what a measurement drew."""
    shares = {}
    for name in ("base", "test"):
        sources = "[{ families = ['secret_number'], num_problems = 4000 }]"
        recipe = load_recipe(tomllib.loads(RECIPE), [f"data.{name}.sources={sources}"])
        draw_all(recipe, tmp_path, JudgeSettings())
        shares[name] = read_json(tmp_path / "families.json")["secret_number"]["seen_share"]
    assert shares["test"] < 0.02
    assert 0.04 < shares["base"] < 0.6


# ---- families and problems of one's own that do not suffice


@pytest.mark.parametrize(
    ("override", "why"),
    [
        (
            "data.harder.sources=[{ families=['secret_number'], num_problems=600 }]",
            r"data\.harder: the family secret_number \(en\) gave 2\d\d of 300 problems in 300 draws: "
            r"[\d,]+ have the question .*, [\d,]+ have an answer that 15 problems have already, of \d+ answers in all",
        ),
        (
            "data.base.sources=[{ problems='PLACE', num_problems=4 }]",
            r"data\.base: of the 4 problems of .*own\.jsonl, 0 have a question .*: num_problems = 4 is more",
        ),
    ],
)
def test_data_that_cannot_be_drawn_are_named_with_the_numbers(override, why, tmp_path, monkeypatch):
    monkeypatch.setattr("open_exaone.tasks.generated.DRAWS_PER_PROBLEM", 1)
    monkeypatch.setattr("open_exaone.tasks.generated.SPARE_DRAWS", 0)
    file = tmp_path / "own.jsonl"
    problems = [get_family("secret_number").draw(seed, "en", False).problem for seed in range(4)]
    file.write_text("".join(json.dumps({"question": p.question, "answer": p.answer}) + "\n" for p in problems))
    first = f"data.test.sources=[{{ problems='{file}', num_problems=4 }}]"
    with pytest.raises(DataError, match=why):
        run(tmp_path / "run", first, override.replace("PLACE", str(file)))
