"""Prepared problems without some of them are as if those had never been prepared; a curriculum orders an epoch."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles import make_tokenizer
from open_exaone.base.errors import DataError
from open_exaone.base.records import Problem
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.mixture import Mixture, by_pass_rate
from open_exaone.data.prepare import prepare
from open_exaone.data.store import Group
from open_exaone.data.subset import Subset


def rows(name, number):
    return [
        {"id": f"{name}{n}", "question": f"How much is {name} and {n}" + " more" * (n % 3), "answer": "1"}
        for n in range(number)
    ]


def prepared(folder, files):
    """Problems of three sources, the first two in reasoning mode; by id, whichever of them there are."""
    folder.mkdir()
    for name, kept in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    modes = {"a": "reasoning", "b": "reasoning", "c": "non_reasoning"}
    sources = tuple(SourceConfig(path=str(folder / f"{name}.jsonl"), mode=modes[name]) for name in files)
    data = DataConfig(sources=sources, reasoning_ratio=1.5)
    return prepare(data, make_tokenizer(), folder / "data", kind="rl", max_tokens=100), data


ALL = {"a": rows("a", 20), "b": rows("b", 30), "c": rows("c", 40)}


def test_a_subset_is_mixed_as_if_the_other_problems_had_never_been_there(tmp_path):
    whole, data = prepared(tmp_path / "whole", ALL)
    for number, kept in enumerate(({"a": 7, "b": 30, "c": 11}, {"a": 0, "b": 5, "c": 40})):
        wanted = {f"{place}/{row['id']}" for place, name in enumerate("abc") for row in ALL[name][: kept[name]]}
        indices = [index for index, problem in enumerate(whole.problems) if problem.id in wanted]
        some = Subset(whole, indices, [{"pass_rate": index / 100} for index in indices])
        there = {name: ALL[name][: kept[name]] for name in ALL if kept[name]}
        fresh, own = prepared(tmp_path / f"fresh{number}", there)
        assert [problem.question for problem in some.problems] == [problem.question for problem in fresh.problems]
        assert [problem.metadata["pass_rate"] for problem in some.problems] == [index / 100 for index in indices]
        assert some.tokens_N.tolist() == fresh.tokens_N.tolist() and some.thinks_N.tolist() == fresh.thinks_N.tolist()
        mixed, alike = Mixture(some, data, seed=3), Mixture(fresh, own, seed=3)
        assert mixed.shares == alike.shares and mixed.epoch(2).tolist() == alike.epoch(2).tolist()
        ratio = sum(row["epoch_tokens"] for row in mixed.report() if row["mode"] == "reasoning") / sum(
            row["epoch_tokens"] for row in mixed.report() if row["mode"] != "reasoning"
        )
        assert ratio == pytest.approx(1.5, rel=0.1)


def test_all_of_it_is_the_whole_and_other_pass_rates_are_another_fingerprint(tmp_path):
    whole, data = prepared(tmp_path / "whole", ALL)
    every = Subset(whole, range(len(whole)), [{}] * len(whole))
    assert Mixture(every, data, 3).epoch(1).tolist() == Mixture(whole, data, 3).epoch(1).tolist()
    assert every.groups == whole.groups and every.place(25) == whole.place(25)
    fingerprints = {
        Subset(whole, indices, [{"pass_rate": rate}] * 2).fingerprint
        for indices in ([0, 1], [0, 2])
        for rate in (0.5, 0.25)
    }
    assert len(fingerprints | {whole.fingerprint, every.fingerprint}) == 6


@given(st.lists(st.sampled_from([0.0, 0.125, 0.5, 0.875]), min_size=1, max_size=40), st.booleans())
def test_a_curriculum_is_an_epoch_in_the_order_of_pass_rates_and_ties_stay_as_drawn(rates, hardest_first):
    problems = [
        Problem(f"p{n}", "t", "en", "Q?", "1", "exact", metadata={"pass_rate": rate}) for n, rate in enumerate(rates)
    ]
    places_N = by_pass_rate(problems, hardest_first=hardest_first)
    data = Made(len(rates))
    drawn, ordered = (Mixture(data, CONFIG, 5, places) for places in (None, places_N))
    for epoch in range(2):
        wanted = sorted(drawn.epoch(epoch), key=lambda index: rates[index] if hardest_first else -rates[index])
        assert ordered.epoch(epoch).tolist() == wanted
    assert ordered.indices(1, len(rates)) == [*ordered.epoch(0)[1:].tolist(), int(ordered.epoch(1)[0])]


CONFIG = DataConfig(sources=(SourceConfig(path="p.jsonl"),))


class Made:
    """What a mixture asks of prepared data: problems of one source."""

    def __init__(self, number):
        self.groups = (Group(0, "p.jsonl", "reasoning", number, 10 * number),)
        self.tokens_N, self.group_N = np.full(number, 10, np.int32), np.zeros(number, np.int32)

    def __len__(self):
        return len(self.tokens_N)


@pytest.mark.parametrize(
    "metadata", [{}, {"pass_rate": None}, {"pass_rate": True}, {"pass_rate": "1"}, {"pass_rate": 1.5}]
)
def test_a_problem_without_a_pass_rate_is_named(metadata):
    with pytest.raises(DataError, match=r"problem p/7: has no pass_rate between 0 and 1 in its metadata"):
        by_pass_rate([Problem("p/7", "t", "en", "Q?", "1", "exact", metadata=metadata)])
