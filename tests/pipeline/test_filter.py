"""The accuracy filter in a recipe: what it keeps, who reads it, how it resumes, what it refuses."""

import json
import tomllib

import pytest
import torch

import open_exaone
from doubles import TINY, make_model, make_tokenizer
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.files import read_json, read_jsonl
from open_exaone.base.records import Generation, Problem, Reply, Sample, Sampling, StopReason, Verdict, VerdictStatus
from open_exaone.checkpoint.folder import load_weights, save_model
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.filter import pass_rates, summary
from open_exaone.pipeline.folder import RunFolder
from open_exaone.pipeline.measure import Machine, find_model
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.pipeline.source import resolve_model
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.train.config import FilterConfig

FLOAT32 = Machine(device="cpu", dtype="float32")
CLOSE, END = make_tokenizer().think_close_id, make_tokenizer().end_id
RECIPE = f"""
name = "filtered"
model = "PLACE/checkpoint"

[data.chat]
sources = [{{ path = "PLACE/chat.jsonl" }}]
[data.problems]
sources = [
  {{ path = "PLACE/hard.jsonl", mode = "reasoning", domain = "hard", verifier = "PLACE/mine.py:check" }},
  {{ path = "PLACE/easy.jsonl", mode = "non_reasoning", domain = "easy", verifier = "PLACE/mine.py:check" }},
]

[evaluation]
data = "problems"
limit = 2
num_samples = 1
max_new_tokens = 4

[[stages]]
kind = "sft"
name = "sft"
data = "chat"
num_epochs = 1.0
batch_documents = 8
optimizer = {{ kind = "adamw", learning_rate = 1e-4 }}

[[stages]]
kind = "filter"
name = "filter"
data = "problems"
num_samples = 4
max_correct = 2
max_new_tokens = 20
logit_bias = {{ {CLOSE} = 5.0, {END} = 5.0 }}

[[stages]]
kind = "rl"
name = "rl"
data = "filter"
reward = "PLACE/mine.py:score"
num_steps = 3
batch_prompts = 5
group_size = 3
max_new_tokens = 6
checkpoint_steps = 1
optimizer = {{ kind = "adamw", learning_rate = 1e-4 }}
"""
MINE = """
def check(sample): return len(sample["answer"]) % 4 != 1
def score(sample): return float(len(sample["thought"] + sample["answer"]) % 3)
"""


class Cut(BaseException):
    pass


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def asked(first, number):
    return [{"question": f"How much is {n} + 1?", "answer": str(n + 1)} for n in range(first, first + number)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filter")
    save_model(folder / "checkpoint", TINY, dict(make_model().named_parameters()), make_tokenizer(), {})
    turns = ({"role": "user"}, {"role": "assistant"})
    write(
        folder / "chat.jsonl",
        [
            {"messages": [turns[0] | {"content": row["question"]}, turns[1] | {"content": row["answer"]}]}
            for row in asked(100, 8)
        ],
    )
    write(folder / "hard.jsonl", asked(0, 8))
    write(folder / "easy.jsonl", asked(20, 6))
    (folder / "mine.py").write_text(MINE)
    return folder


def recipe(place, *overrides, text=RECIPE):
    return load_recipe(tomllib.loads(text.replace("PLACE", str(place))), overrides)


def run(place, out, *overrides, on_event=lambda event: None, text=RECIPE):
    run_recipe(recipe(place, *overrides, text=text), out, on_event, FLOAT32)
    return out


def only(*kinds):
    """The recipe with the stages of these kinds alone."""
    head, *stages = RECIPE.split("[[stages]]")
    return "[[stages]]".join([head, *(stage for stage in stages if any(f'kind = "{kind}"' in stage for kind in kinds))])


def weights(folder):
    return {name: weight.clone() for name, weight in load_weights(folder).items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def kept_and_rates(out):
    """What a finished filter left, less what differs from one sitting to the next."""
    folder = out / "02-filter"
    found = read_json(folder / "filter.json")
    found = {key: found[key] for key in found.keys() - {"sample_seconds", "peak_rss_bytes"}}
    files = [(folder / name).read_bytes() for name in ("pass_rates.jsonl", "kept.jsonl", "samples/samples.jsonl")]
    return found, files


def asked_by_rl(folder):
    """The ids of the problems that RL asked, in order."""
    rows = [row for path in sorted((folder / "rollouts").iterdir()) for row in read_jsonl(path)]
    return list(dict.fromkeys(row["problem"] for row in rows if "problem" in row))


@pytest.fixture(scope="module")
def whole(place):
    """A finished run, and the events that it gave."""
    events = []
    return run(place, place / "whole", on_event=events.append), events


def test_what_is_solved_too_often_is_dropped_and_rl_asks_the_others_alone(whole):
    out, _ = whole
    rows = read_jsonl(out / "02-filter" / "pass_rates.jsonl")
    assert [row["num_judged"] for row in rows] == [4] * 14
    assert {row["mode"] for row in rows if row["task"] == "hard"} == {"reasoning"}
    assert {row["mode"] for row in rows if row["task"] == "easy"} == {"non_reasoning"}
    assert all(row["kept"] == (row["num_correct"] <= 2) for row in rows)
    kept = read_jsonl(out / "02-filter" / "kept.jsonl")
    assert 0 < len(kept) < 14 and [row["id"] for row in kept] == [row["id"] for row in rows if row["kept"]]
    rates = {row["id"]: row["pass_rate"] for row in rows}
    assert all(row["metadata"]["pass_rate"] == rates[row["id"]] for row in kept) and len(set(rates.values())) > 2
    assert set(asked_by_rl(out / "03-rl")) == {row["id"] for row in kept}


def test_a_filter_leaves_no_model_and_all_that_walks_over_stages_knows(whole, place, capsys):
    out, events = whole
    entries = read_json(out / "report.json")["stages"]
    assert [(entry["name"], entry["start"]) for entry in entries] == [("sft", None), ("filter", "sft"), ("rl", "sft")]
    assert not (out / "02-filter" / "model").exists() and "pass_at_1" not in entries[1]
    found = entries[1]["filter"]
    assert found["num_kept"] + sum(found["dropped"].values()) == found["num_problems"] == 14
    assert sum(found["histogram"]) == 14 and set(found["per_task"]) == {"hard", "easy"}
    assert ["filter", "rl"] not in [row["between"] for row in read_json(out / "report.json")["shared_prompts"]]
    page = (out / "report.html").read_text()
    assert "What filter kept" in page and page.count("problems by correct samples of 4") == 3  # all, and two domains
    assert "| filter | filter | sft |" in (out / "card.md").read_text()
    assert resolve_model(out) == out / "03-rl" / "model" and len(RunFolder(out).model_folders()) == 2
    with pytest.raises(ConfigError, match="--stage filter: must be one of sft, rl"):
        find_model(out, "filter")
    [plan] = [event["plan"] for event in events if "plan" in event]
    assert [stage["num_steps"] for stage in plan if stage["stage"] == "filter"] == [14 * 4]
    assert any(
        event.get("message", "").startswith(f"filter: {found['num_kept']} of 14 problems kept") for event in events
    )
    assert run(place, out) == out  # nothing is done twice


def cut_stream(number, monkeypatch):
    """The engine gives so many samples of the filter's requests, and then the process is killed."""
    stream = LocalProvider.stream

    def cut(provider, requests):
        for place, found in enumerate(stream(provider, requests)):
            if place == number and requests[0].sampling.max_new_tokens == 20:
                raise Cut
            yield found

    monkeypatch.setattr(LocalProvider, "stream", cut)


@pytest.mark.parametrize("where", ["sample 1", "sample 30", "filter.json", "step 1", "step 2"])
def test_a_run_that_was_cut_ends_as_one_that_was_not(where, whole, place, tmp_path, monkeypatch):
    def cut(event):
        if where == "filter.json" and event.get("message", "").startswith("filter: "):
            (tmp_path / "out" / "02-filter" / "filter.json").unlink()  # as if killed before it was written
            raise Cut
        if event.get("stage") == "rl" and where == f"step {event.get('step')}":
            raise Cut

    with monkeypatch.context() as patch:
        if where.startswith("sample"):
            cut_stream(int(where.split()[1]), patch)
        with pytest.raises(Cut):
            run(place, tmp_path / "out", on_event=cut)
    sampled, stream = [], LocalProvider.stream

    def watched(provider, requests):
        sampled.extend(request for request in requests if request.sampling.max_new_tokens == 20)
        yield from stream(provider, requests)

    monkeypatch.setattr(LocalProvider, "stream", watched)
    out = run(place, tmp_path / "out")
    assert len(sampled) == (56 - int(where.split()[1]) if where.startswith("sample") else 0)
    assert kept_and_rates(out) == kept_and_rates(whole[0])
    assert same(weights(out / "03-rl" / "model"), weights(whole[0] / "03-rl" / "model"))


def test_a_filter_that_keeps_everything_is_as_none(place, tmp_path):
    ratio = ("data.problems.reasoning_ratio=1.5", "filter.max_correct=4", "evaluation.limit=1")
    kept = run(place, tmp_path / "kept", *ratio)
    none = run(place, tmp_path / "none", *ratio, "rl.data='problems'")
    assert read_json(kept / "02-filter" / "filter.json")["num_kept"] == 14
    assert same(weights(kept / "03-rl" / "model"), weights(none / "03-rl" / "model"))
    filtered = run(place, tmp_path / "filtered", *ratio[::2], "filter.min_correct=1")
    assert not same(weights(filtered / "03-rl" / "model"), weights(none / "03-rl" / "model"))


def test_where_nothing_is_kept_the_end_to_loosen_is_named_and_nothing_is_sampled_anew(place, tmp_path, monkeypatch):
    never = place / "never.py"
    never.write_text("def check(sample): return False")
    own = [f"data.problems.sources.{n}.verifier='{never}:check'" for n in range(2)]
    wanted = "none of 14 problems is kept .*14 less often.*: lower filter.min_correct, or give it other problems"
    with pytest.raises(DataError, match=wanted):
        run(place, tmp_path / "out", *own, "filter.min_correct=1")
    kept = tmp_path / "out" / "02-filter" / "kept.jsonl"
    kept.write_text("of other ends")
    with pytest.raises(DataError, match=wanted):
        run(place, tmp_path / "out", *own, "filter.min_correct=1")
    assert not kept.exists() and not kept.with_name("filter.json").exists()
    monkeypatch.setattr(LocalProvider, "stream", lambda provider, requests: pytest.fail("sampled again"))
    with pytest.raises(pytest.fail.Exception):  # by rl, for the first time
        run(place, tmp_path / "out", *own)
    assert read_json(tmp_path / "out" / "02-filter" / "filter.json")["num_kept"] == 14


def test_the_ends_may_change_until_a_stage_has_read_what_is_kept(place, tmp_path):
    def cut(event):
        if event.get("stage") == "rl" and event.get("step") == 1:
            raise Cut

    with pytest.raises(Cut):
        run(place, tmp_path / "out", on_event=cut)
    with pytest.raises(RunFolderError, match=r"another recipe .*differs in filter\.max_correct"):
        run(place, tmp_path / "out", "filter.max_correct=1")


def test_weights_that_changed_since_are_refused(place, tmp_path):
    def cut(event):
        if event.get("message", "").startswith("filter: "):
            raise Cut

    with pytest.raises(Cut):
        run(place, tmp_path / "out", on_event=cut)
    config = tmp_path / "out" / "01-sft" / "model" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(RunFolderError, match=r"02-filter: its problems were sampled .* other settings \(model\)"):
        run(place, tmp_path / "out")


def test_a_filter_alone_gives_data_that_training_reads(place, tmp_path):
    text = only("filter")
    out = run(place, tmp_path / "out", text=text)
    assert (out / "report.html").is_file() and not (out / "card.md").exists()
    with pytest.raises(ConfigError, match="this run has no model: a filter leaves none"):
        resolve_model(out)
    result = open_exaone.run_training(
        tomllib.loads(text.replace("PLACE", str(place))), tmp_path / "api", device="cpu", dtype="float32"
    )["result"]
    kept = read_jsonl(tmp_path / "api" / "01-filter" / "kept.jsonl")
    assert result.endswith("kept.jsonl") and (place / result).is_file()
    source = f"data.problems.sources=[{{path='{result}', code=['{place}/mine.py']}}]"
    again = ("rl.data='problems'", "rl.curriculum='easiest_first'", "rl.num_steps=1", f"rl.batch_prompts={len(kept)}")
    read = run(place, tmp_path / "rl", source, *again, "evaluation.limit=1", text=only("rl"))
    asked = asked_by_rl(read / "01-rl")
    rates = {row["id"]: row["metadata"]["pass_rate"] for row in kept}
    assert sorted(asked) == sorted(rates) and len(set(rates.values())) > 1
    assert [rates[id] for id in asked] == sorted(rates.values(), reverse=True)


def test_a_curriculum_needs_pass_rates(place, tmp_path):
    with pytest.raises(DataError, match="0/hard.jsonl:1: has no pass_rate"):
        run(place, tmp_path / "out", "rl.data='problems'", "rl.curriculum='easiest_first'")
    assert not (tmp_path / "out" / "01-sft" / "metrics.jsonl").exists()


def test_a_filter_may_read_another_and_a_preference_stage_too(place, tmp_path):
    _, sft, own, rl = (f"[[stages]]{stage}" for stage in RECIPE.split("[[stages]]"))
    again = own.replace('name = "filter"\ndata = "problems"', 'name = "again"\nmin_correct = 1\ndata = "filter"')
    prefer = (
        rl.split("reward")[0].replace('kind = "rl"', 'kind = "preference"').replace('name = "rl"', 'name = "prefer"')
    )
    prefer = prefer.replace('data = "filter"', 'data = "again"\nnum_samples = 8\nmax_new_tokens = 20\nbatch_pairs = 2')
    prefer += f"logit_bias = {{ {CLOSE} = 5.0, {END} = 5.0 }}\n"
    prefer += 'optimizer = { kind = "adamw", learning_rate = 1e-4 }\n'
    text = RECIPE.split("[[stages]]")[0] + sft + own + again + prefer
    out = run(place, tmp_path / "out", "evaluation.limit=1", text=text)
    first, second = (read_jsonl(out / name / "pass_rates.jsonl") for name in ("02-filter", "03-again"))
    assert {row["id"] for row in second} == {row["id"] for row in first if row["kept"]}
    assert "pass_rate" in second[0]["metadata"]
    kept = {row["id"] for row in second if row["kept"]}
    pairs = {row["problem"] for row in read_jsonl(out / "04-prefer" / "pairs.jsonl")}
    assert pairs and pairs <= kept and kept < {row["id"] for row in second}
    starts = [entry["start"] for entry in read_json(out / "report.json")["stages"]]
    assert starts == [None, "sft", "sft", "sft"]


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ("filter.name='problems'", "problems: is the name of a filter and of data"),
        ("rl.start='filter'", "rl.start = 'filter': a filter leaves no model"),
        ("sft.data='filter'", "sft.data = 'filter': that filter does not come before it"),
        ("filter.data='filter'", "filter.data = 'filter': that filter does not come before it"),
        ("filter.data='nowhere'", "filter.data = 'nowhere': no such data"),
        (
            "filter.max_correct=5",
            "filter.max_correct = 5: must lie in min_correct = 0 to num_samples = 4",
        ),
        ("filter.min_correct=3", "filter.max_correct = 2: must lie in min_correct = 3 to"),
        ("filter.optimizer={learning_rate=1.0}", "filter.optimizer"),
        ("rl.kind='sft'", "rl."),
    ],
)
def test_what_a_filter_does_not_go_with_is_named(place, override, why):
    with pytest.raises(ConfigError) as caught:
        recipe(place, override)
    assert why in str(caught.value)


def test_a_filter_is_no_reference_of_a_divergence(place):
    with pytest.raises(ConfigError, match=r"rl.reference = 'filter': must be a stage before it"):
        recipe(place, "rl.reference='filter'", "rl.loss={name='grpo', kl={beta=0.1}}")


def test_sft_may_not_read_a_filter(place):
    text = RECIPE.replace('data = "chat"', 'data = "filter"')
    head, sft, own, _ = text.split("[[stages]]")
    with pytest.raises(ConfigError, match=r"sft.data = 'filter': a filter's problems are for stages that sample"):
        recipe(place, text="[[stages]]".join([head, own, sft]))


def made(statuses):
    """A problem's judged samples."""
    generation = Generation(Reply("", "1"), StopReason.END, 1, 1, 0)
    return tuple(
        Sample(f"k{n}", "t", "p", n, generation, Verdict(VerdictStatus(status), None, "made up"))
        for n, status in enumerate(statuses)
    )


@pytest.mark.parametrize(
    ("statuses", "ends", "outcome"),
    [
        (["correct"] * 4, {}, "too easy"),
        (["correct"] * 4, {"max_correct": 4}, "kept"),
        (["correct"] * 3 + ["wrong"], {}, "kept"),
        (["wrong"] * 4, {}, "kept"),
        (["wrong"] * 4, {"min_correct": 1}, "too hard"),
        (["truncated", "unparsed", "timeout", "correct"], {"min_correct": 1}, "kept"),
        (["correct"] * 3 + ["error"], {}, "too easy"),  # 3 of 3, as 4 of 4
        (["correct", "correct", "wrong", "error"], {"max_correct": 2}, "too easy"),  # 2 of 3, more than 2 of 4
        (["wrong"] * 3 + ["error"], {"min_correct": 1}, "too hard"),
        (["correct", "wrong", "error", "error"], {"min_correct": 2, "max_correct": 2}, "kept"),
        (["error"] * 4, {}, "not judged"),
    ],
)
def test_both_ends_hold_among_the_samples_that_could_be_judged(statuses, ends, outcome):
    problem = Problem("p", "t", "en", "Q?", "1", "exact")
    task = Task("t", "t", (problem,), Sampling(8, num_samples=4), True)
    config = FilterConfig(num_samples=4, **ends)
    [row] = pass_rates([(task, (made(statuses),))], config)
    assert row["outcome"] == outcome and row["kept"] == (outcome == "kept")
    assert row["num_judged"] == 4 - statuses.count("error")
    found = summary([row], config)
    assert found["num_samples_not_judged"] == statuses.count("error")
    assert sum(found["histogram"]) == (outcome != "not judged") and found["num_kept"] == row["kept"]
