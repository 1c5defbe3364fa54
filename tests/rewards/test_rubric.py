"""Rewards: named terms, each by itself, and their weighted sum."""

from dataclasses import replace

import pytest

from mock_endpoint import mock_endpoint
from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import Missing, Problem, Reply, Verdict, VerdictStatus
from open_exaone.remote.settings import Endpoint
from open_exaone.rewards.rubric import GROUP_TERMS, TERMS, Judged, Rubric, score, sum_size, weighted_sum, weights_of
from open_exaone.verify.settings import JudgeSettings

PROBLEM = Problem("p/1", "p", "en", "What is two and two?", "4", "math")
REPLY = Reply("Two and two are four.", r"The answer is \boxed{4}.")


def judged(status: VerdictStatus = VerdictStatus.CORRECT, num_tokens: int = 20, reply: Reply = REPLY) -> Judged:
    return Judged(PROBLEM, reply, Verdict(status, "4", "It is."), num_tokens, max_tokens=100, thinking=True)


@pytest.mark.parametrize("status", VerdictStatus)
def test_the_policy_turns_each_status_into_its_own_number(status: VerdictStatus) -> None:
    known = [name for name in VerdictStatus if name is not VerdictStatus.ERROR]
    rubric = Rubric(**{name.value: number / 8 for number, name in enumerate(known)})
    terms = score(judged(status), {"correct": 1.0}, rubric, JudgeSettings())
    assert terms["correct"] == (Missing("It is.") if status is VerdictStatus.ERROR else known.index(status) / 8)


def test_what_takes_too_long_earns_as_much_as_a_wrong_answer() -> None:
    late = Verdict(VerdictStatus.TIMEOUT, None, "It loops.")
    assert Rubric(wrong=-1.0).reward(late) == -1.0 and Rubric().reward(late) == 0.0
    assert Rubric(wrong=-1.0, timeout=0.0).reward(late) == 0.0
    assert validate(Rubric, Rubric(wrong=-1.0).model_dump(exclude_none=True), "recipe.toml").reward(late) == -1.0


def test_an_error_earns_nothing_in_any_term_that_looks_at_the_verdict() -> None:
    terms = score(
        judged(VerdictStatus.ERROR), {"correct": 1.0, "concise": 1.0, "format": 1.0}, Rubric(), JudgeSettings()
    )
    assert terms == {"correct": Missing("It is."), "concise": Missing("It is."), "format": 1.0}
    with pytest.raises(ConfigError, match=r"recipe\.toml: .*rubric\.error was removed: .*delete the key"):
        validate(Rubric, {"error": -1.0}, "recipe.toml")


def test_the_reward_is_the_weighted_sum_of_terms_reported_unweighted() -> None:
    weights = {"correct": 2.0, "format": 0.5, "language": 0.25, "concise": 0.125, "overlong": 4.0}
    terms = score(judged(num_tokens=90), weights, Rubric(), JudgeSettings())
    assert set(terms) == set(weights)
    assert weighted_sum(terms, weights) == pytest.approx(sum(weights[name] * value for name, value in terms.items()))
    assert terms["correct"] == terms["format"] == terms["language"] == 1.0
    assert terms["overlong"] == pytest.approx(-0.5)  # half way through the last fifth


def test_a_korean_thought_about_an_english_problem_loses_the_language_term() -> None:
    reply = Reply("둘에 둘을 더하면 넷이므로 답은 넷이다.", r"The answer is \boxed{4}.")
    assert score(judged(reply=reply), {"language": 1.0}, Rubric(), JudgeSettings()) == {"language": 0.0}


def test_without_one_of_its_terms_there_is_no_reward() -> None:
    weights = {"correct": 1.0, "preference": 1.0}
    terms = score(judged(), weights, Rubric(), JudgeSettings())  # no endpoint
    assert terms == {"correct": 1.0, "preference": Missing("There is no [judge.endpoint].")}
    assert weighted_sum(terms, weights) is None and sum_size(terms, weights) == 0.0
    assert weighted_sum({**terms, "preference": 0.5}, weights) == 1.5


def test_a_judge_model_grades_what_stands_behind_the_thought() -> None:
    """As EXAONE 4.0 labels preferences in reasoning mode."""
    shown = []
    with mock_endpoint(lambda question, _: shown.append(question) or "7") as endpoint:
        settings = JudgeSettings(endpoint=Endpoint(base_url=endpoint.url, model="m"))
        assert score(judged(), {"preference": 1.0}, Rubric(), settings) == {"preference": 0.7}
    assert REPLY.answer in shown[0] and REPLY.thought not in shown[0]


def test_rules_for_an_answer_stand_in_for_a_judge_model() -> None:
    for status, value in ((VerdictStatus.WRONG, 1.0), (VerdictStatus.TRUNCATED, 0.8)):
        assert score(judged(status), {"answer_rules": 1.0}, Rubric(), JudgeSettings()) == {"answer_rules": value}


def test_terms_that_are_known_are_not_asked_for_again() -> None:
    found = score(judged(), {"correct": 1.0, "format": 1.0}, Rubric(), JudgeSettings(), {"correct": 0.25})
    assert found == {"correct": 0.25, "format": 1.0}


@pytest.mark.parametrize("name", [*TERMS, *GROUP_TERMS, "my_rewards.py:score", "a folder/r.py:f"])
def test_a_term_alone_has_weight_one(name: str) -> None:
    assert dict(weights_of(name)) == {name: 1.0}


@pytest.mark.parametrize("reward", ["corect", "score", "my_rewards:score", "my_rewards.py", {"correct": 1.0, "x": 1.0}])
def test_an_unknown_term_is_refused_with_the_known_ones(reward: object) -> None:
    with pytest.raises(ValueError, match=r"unknown.*The terms are correct, format, language, .*; a function of yours"):
        weights_of(reward)


@pytest.mark.parametrize("weight", [float("inf"), float("nan"), 1e308, -1e4])
def test_a_weight_without_measure_is_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="must lie within"):
        weights_of({"correct": weight})


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one term"):
        weights_of({})


def own(tmp_path, body: str) -> str:
    (tmp_path / "mine.py").write_text(f"import os, sys, time\ndef score(sample):\n    {body}\n", encoding="utf-8")
    return f"{tmp_path / 'mine.py'}:score"


def test_a_function_of_the_users_own_is_a_term_and_sees_the_whole_sample(tmp_path) -> None:
    of_problem, of_reply = ["question", "gold", "language", "task", "metadata"], ["thought", "answer", "num_tokens"]
    keys = {*of_problem, *of_reply, "verdict", "extracted", "mode"}
    name = own(tmp_path, f"return len(sample['thought']) if set(sample) == {keys} else -1")
    assert score(judged(), {name: 0.5}, Rubric(), JudgeSettings()) == {name: len(REPLY.thought)}
    in_mode = own(tmp_path, "return ['non_reasoning', 'reasoning'].index(sample['mode'])")
    for thinking in (False, True):
        seen = replace(judged(), thinking=thinking)
        assert score(seen, {in_mode: 1.0}, Rubric(), JudgeSettings()) == {in_mode: float(thinking)}


@pytest.mark.parametrize(
    "body", ["raise KeyError('x')", "return 'high'", "return float('nan')", "return None", "sys.exit(0)"]
)
def test_a_mistake_in_it_stops_the_run_and_is_named(tmp_path, body: str) -> None:
    with pytest.raises(DataError, match=r"mine\.py:score (failed|returned)"):
        score(judged(), {own(tmp_path, body): 1.0}, Rubric(), JudgeSettings())


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ValueError, match="no_such.py:score: no such file"):
        score(judged(), {"no_such.py:score": 1.0}, Rubric(), JudgeSettings())


@pytest.mark.parametrize("body", ["time.sleep(60)", "return len(bytearray(1 << 34))"])
def test_its_time_and_memory_end(tmp_path, body: str) -> None:
    name = own(tmp_path, body)
    terms = score(judged(), {name: 1.0}, Rubric(), JudgeSettings(time_limit_s=0.2))
    assert "second" in str(terms[name]) or "memory" in str(terms[name])
    assert score(judged(), {own(tmp_path, "return 0.75"): 1.0}, Rubric(), JudgeSettings()) == {name: 0.75}  # as ever
