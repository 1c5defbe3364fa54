"""From problems to judged samples."""

import pytest

from open_exaone.base.errors import DataError
from open_exaone.base.records import Completion, Problem, Sampling, StopReason, VerdictStatus
from open_exaone.rollout.run import MIN_ERRORS, Judging, run
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.settings import JudgeSettings


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["What is two and two? Four."] * 4, 300)


def rollouts(tokenizer: Tokenizer, problem: Problem, replies: list[str], **judging):
    def generate(prompts, sampling):
        ids = [tuple(tokenizer.encode(reply)) for reply in replies]
        return [[Completion(i, (0.0,) * len(i), (0.0,) * len(i), StopReason.END, 0) for i in ids] for _ in prompts]

    sampling = Sampling(max_new_tokens=50, num_samples=len(replies))
    [group] = run([problem], generate, tokenizer, sampling, thinking=False, judging=Judging(**judging))
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


def test_limits_reach_the_verifier(tokenizer, tmp_path) -> None:
    problem = own(tmp_path, "import time; time.sleep(60)")
    [found] = rollouts(tokenizer, problem, ["It is 4."], settings=JudgeSettings(time_limit_s=0.5))
    assert found.verdict.status is VerdictStatus.TIMEOUT
