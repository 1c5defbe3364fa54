"""From problems to judged samples."""

from collections import Counter
from dataclasses import replace

import pytest

import mock_endpoint as module
from evaluation.made_up import MadeUp
from mock_endpoint import mock_endpoint
from open_exaone.base.errors import DataError
from open_exaone.base.records import (
    Generation,
    Missing,
    Problem,
    Reply,
    Rollout,
    RolloutGroup,
    Sampling,
    StopReason,
    Verdict,
    VerdictStatus,
)
from open_exaone.remote import http
from open_exaone.remote.settings import Endpoint
from open_exaone.rollout import judge_outage
from open_exaone.rollout import judging as judging_module
from open_exaone.rollout.provider import requests_for
from open_exaone.rollout.run import MIN_ERRORS, Judging, judge_groups, judge_some, sample
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.settings import JudgeSettings

PROBLEM = Problem("p/1", "p", "en", "What?", "4", "math")
RIGHT = Generation(Reply("", r"\boxed{4}"), StopReason.END, 1, 1, 0)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["What is two and two? Four."] * 4, 300)


def rollouts(tokenizer: Tokenizer, problem: Problem, replies: list[str], **judging):
    provider = MadeUp(lambda request: replies[request.index])
    provider.tokenizer = tokenizer
    groups = sample([problem], provider, Sampling(50, num_samples=len(replies)), thinking=False)
    [group] = judge_groups(groups, Judging(**judging), max_tokens=50)
    return group.rollouts


def own(tmp_path, body: str) -> Problem:
    (tmp_path / "mine.py").write_text(f"def check(sample):\n    {body}\n", encoding="utf-8")
    return Problem("p/1", "p", "en", "What?", "4", f"{tmp_path / 'mine.py'}:check")


def test_judged_side_by_side_samples_keep_their_places(tokenizer) -> None:
    problem = Problem("p/1", "p", "en", "What?", "7", "math")
    found = rollouts(tokenizer, problem, [rf"\boxed{{{number}}}" for number in range(20)])
    assert [r.verdict.extracted for r in found] == [str(number) for number in range(20)]
    assert [r.reward for r in found] == [float(number == 7) for number in range(20)]


def test_a_verifier_of_ones_own_decides(tokenizer, tmp_path) -> None:
    problem = own(tmp_path, "return sample['gold'] in sample['answer']")
    found = rollouts(tokenizer, problem, ["It is 4.", "It is 5."])
    assert [r.verdict.status for r in found] == [VerdictStatus.CORRECT, VerdictStatus.WRONG]


@pytest.mark.parametrize("body", ["return 1 / 0", "return float('nan')"])
def test_a_verifier_that_fails_every_time_does_not_pass_for_wrong_replies(tokenizer, tmp_path, body) -> None:
    with pytest.raises(
        DataError, match=r"no reply could be judged: 8 verdicts are errors; the first: .*mine\.py:check"
    ):
        rollouts(tokenizer, own(tmp_path, body), ["It is 4."] * MIN_ERRORS)


def test_a_verifier_that_fails_now_and_then_is_counted_only(tokenizer, tmp_path) -> None:
    problem = own(tmp_path, "return 1 / ('5' not in sample['answer'])")
    found = rollouts(tokenizer, problem, ["It is 4."] + ["It is 5."] * MIN_ERRORS)
    assert [r.verdict.status for r in found].count(VerdictStatus.ERROR) == MIN_ERRORS


def test_a_problem_that_cannot_be_judged_is_named(tokenizer) -> None:
    problem = Problem("mcq/7", "mcq", "en", "Which?", "K", "choice", metadata={"options": ["Rome", "Paris"]})
    with pytest.raises(DataError, match="problem mcq/7: "):
        rollouts(tokenizer, problem, ["A"])


def test_what_was_judged_before_an_error_is_saved(monkeypatch) -> None:
    monkeypatch.setattr(judging_module.os, "cpu_count", lambda: 1)  # in turn
    broken = Problem("mcq/7", "mcq", "en", "Which?", "K", "choice", metadata={"options": ["Rome", "Paris"]})
    rollout = Rollout(RIGHT, judge_outage.UNJUDGED, None)
    groups, saved = [RolloutGroup(problem, (1,), False, (rollout,)) for problem in (PROBLEM, broken, PROBLEM)], []
    with pytest.raises(DataError, match="problem mcq/7: "):
        judge_groups(groups, Judging(), max_tokens=9, save=saved.append)
    [[first, *others]] = saved
    assert (first.rollouts[0].verdict.status, first.rollouts[0].reward) == (VerdictStatus.CORRECT, 1.0)
    assert others == groups[1:]


def test_what_can_be_judged_now_is_and_the_rest_stays_open(monkeypatch) -> None:
    """A problem that is wrong, and a judge model that is down, are left to `judge_groups`, which names them."""
    monkeypatch.setattr(judging_module.os, "cpu_count", lambda: 1)  # in turn
    monkeypatch.setattr(http, "FIRST_WAIT_S", 1e-3)
    broken = Problem("mcq/7", "mcq", "en", "Which?", "K", "choice", metadata={"options": ["Rome", "Paris"]})
    owed = replace(PROBLEM, id="p/2", answer="1/2", verifier="rule_then_judge")
    rollout = Rollout(RIGHT, judge_outage.UNJUDGED, None)
    unclear = replace(rollout, generation=replace(RIGHT, reply=Reply("", r"\boxed{one half}")))
    settings = JudgeSettings(endpoint=Endpoint(base_url="http://127.0.0.1:9/v1", model="m", max_attempts=1))
    judging = Judging(settings=settings)
    right, wrong = RolloutGroup(PROBLEM, (1,), False, (rollout,) * 2), RolloutGroup(broken, (1,), False, (rollout,))
    asked = RolloutGroup(owed, (1,), False, (unclear,))
    found = judge_some([right, wrong], judging, max_tokens=9, limit_s=60)
    assert found[:1] == judge_groups([right], judging, max_tokens=9)
    for rest in (found[1], *judge_some([asked], judging, max_tokens=9, limit_s=60)):
        assert judge_outage.is_open(rest.rollouts[0])
    assert judge_some([right], judging, max_tokens=9, limit_s=0) is not None  # which begins, and waits for nothing
    monkeypatch.setattr(judging_module.interrupt, "requested", lambda: True)
    assert judge_some([right], judging, max_tokens=9, limit_s=60) == [right]


def test_a_thought_is_asked_for_in_reasoning_mode_alone() -> None:
    """By the reward term "format"; the verdict is on the answer, whatever the mode."""
    thought = replace(RIGHT, reply=Reply("So.", RIGHT.reply.answer))
    rollouts = tuple(Rollout(generation, judge_outage.UNJUDGED, None) for generation in (RIGHT, thought))
    groups = [RolloutGroup(PROBLEM, (1,), thinking, rollouts) for thinking in (False, True)]
    found = judge_groups(groups, Judging(weights={"correct": 0.0, "format": 1.0}), max_tokens=9)
    assert [[rollout.reward for rollout in group.rollouts] for group in found] == [[1.0, 0.0], [0.0, 1.0]]
    assert all(rollout.verdict.correct for group in found for rollout in group.rollouts)


def test_limits_reach_the_verifier(tokenizer, tmp_path) -> None:
    problem = own(tmp_path, "while True: pass")
    [found] = rollouts(tokenizer, problem, ["It is 4."], settings=JudgeSettings(time_limit_s=0.2))
    assert found.verdict.status is VerdictStatus.ERROR and found.reward is None
    assert "second" in found.verdict.why


def test_a_rule_then_judge_problem_waits_for_its_model(tokenizer, monkeypatch) -> None:
    """What the rule decides is judged meanwhile or later; nothing is an error."""
    monkeypatch.setattr(http, "FIRST_WAIT_S", 1e-3)
    monkeypatch.setattr(judge_outage, "_sleep", lambda seconds: setattr(endpoint, "settings", up))
    problem = Problem("p/1", "p", "en", "How much?", "1/2", "rule_then_judge")
    replies = [r"\boxed{one half}", r"\boxed{0.5}", r"\boxed{two}"]
    monkeypatch.setattr(module, "_fault", lambda seed, number, share: 0 if share else None)  # a 500
    with mock_endpoint(
        lambda question, _: "SAME" if "one half" in question else "DIFFERENT", error_share=1.0
    ) as endpoint:
        up = {**endpoint.settings, "error_share": 0.0}
        settings = JudgeSettings(endpoint=Endpoint(base_url=endpoint.url, model="m", max_attempts=1))
        found = rollouts(tokenizer, problem, replies, settings=settings)
    status = VerdictStatus
    assert [r.verdict.status for r in found] == [status.CORRECT, status.CORRECT, status.WRONG]
    assert [r.reward for r in found] == [1.0, 1.0, 0.0]


def test_terms_that_compare_the_replies_to_a_problem_join_the_others() -> None:
    """A reply whose verdict is not known misses its own; its siblings are compared without it."""

    def one(answer: str, num_tokens: int) -> Rollout:
        generation = replace(RIGHT, reply=Reply("", answer), num_tokens=num_tokens)
        return Rollout(generation, judge_outage.UNJUDGED, None)

    right, wrong = r"\boxed{4}", r"\boxed{5}"
    lost = Rollout(RIGHT, Verdict(VerdictStatus.ERROR, None, "It broke."), None, {"correct": Missing("It broke.")})
    rollouts = (one(right, 40), one(wrong, 10), one(right, 100), lost, one(right, 70))
    weights = {"concise_group": 0.5, "correct": 1.0}
    groups, saved = [RolloutGroup(PROBLEM, (1,), False, rollouts), RolloutGroup(PROBLEM, (1,), False, (lost,))], []
    judging = Judging(weights=weights)
    [found, alone] = judge_groups(groups, judging, max_tokens=100, save=saved.append)
    assert [list(rollout.terms) for rollout in found.rollouts] == [["concise_group", "correct"]] * 5
    assert [rollout.terms["concise_group"] for rollout in found.rollouts] == [
        1.0,
        0.0,
        0.0,
        Missing("It broke."),
        pytest.approx(0.5),
    ]
    assert [rollout.reward for rollout in found.rollouts] == [1.5, 0.0, 1.0, None, pytest.approx(1.25)]
    assert alone.rollouts[0].reward is None
    assert judge_groups([found, alone], judging, max_tokens=100) == [found, alone]  # as a resumed step reads them


def test_progress_and_what_a_provider_left_out_are_reported(tokenizer) -> None:
    seen = []
    provider = MadeUp(lambda request: "4")
    provider.tokenizer = tokenizer
    sampling = Sampling(50, num_samples=2)
    groups = sample([PROBLEM] * 2, provider, sampling, thinking=False, on_progress=lambda *args: seen.append(args))
    assert seen == [(1, 4, 7), (2, 4, 14), (3, 4, 21), (4, 4, 28)]
    assert [one.occurrence for one in sorted(provider.asked, key=lambda one: one.occurrence)] == [0, 0, 1, 1]
    assert list(groups[0].prompt_ids) == list(provider.asked[0].prompt_ids)
    broken = MadeUp(lambda request: "4", fail=lambda request: request.index == 1)
    with pytest.raises(DataError, match="2 of 4 samples could not be generated: it broke: mend it"):
        sample([PROBLEM] * 2, broken, sampling, thinking=False)


def test_what_was_asked_before_counts_and_takes_little_memory():
    seen = Counter()
    conversation = ({"role": "user", "content": "\ud800" * 10**5},)
    for occurrence in range(3):
        [asked] = requests_for([conversation], None, Sampling(8), thinking=True, seen=seen)
        assert asked.occurrence == occurrence
    assert [len(digest) for _, digest in seen] == [16]
