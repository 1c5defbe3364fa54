"""The border around every verdict: what a reply says never raises, and what fails is told from what is wrong."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from made_replies import made_replies
from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.sandbox.programs import run_program
from open_exaone.sandbox.workers import CallResult
from open_exaone.verify import judge as module
from open_exaone.verify.judge import judge_answer
from open_exaone.verify.math import judge as mathematics
from open_exaone.verify.settings import JudgeSettings

IFEVAL = {
    "instruction_id_list": ["length_constraints:number_sentences", "detectable_format:json_format"],
    "kwargs": [{"num_sentences": 3, "relation": "at least"}, {}],
}
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("exact", "3", {}),
    ("math", "3", {}),
    ("math", r"\frac{x^2+1}{2}", {}),
    ("math", "(1, 2]", {}),
    ("choice", "B", {"options": ["two", "three", "four"]}),
    ("constraints", "", IFEVAL),
    ("language", "ko", {}),
    ("length", "", {"min_words": 5}),
]
NUM_REPLIES = 2_500  # of each of 8: 20,000


@pytest.mark.parametrize(("kind", "gold", "metadata"), KINDS, ids=[f"{kind}-{gold}" for kind, gold, _ in KINDS])
def test_no_generated_reply_makes_a_verifier_fail(
    kind: str, gold: str, metadata: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        mathematics, "call", lambda *_, **__: CallResult("ok", False, "")
    )  # what it may cost: test_hostile
    for reply in made_replies(NUM_REPLIES, seed=len(gold)):
        verdict = judge_answer(kind, reply, gold, metadata)
        assert verdict.status is not VerdictStatus.ERROR, (reply, verdict.why)
        assert verdict.why.endswith(".") and len(verdict.why) < 400


@pytest.mark.parametrize(
    "error",
    [KeyError("status"), RecursionError("deep"), MemoryError(), ValueError("int"), OSError(5, "io"), Exception("\n\n")],
)
def test_a_verifier_that_raises_is_an_error_with_its_reason(error: Exception, judge: Callable[..., None]) -> None:
    judge(error)
    verdict = judge_answer("exact", "", "3", {})
    assert verdict.status is VerdictStatus.ERROR
    assert type(error).__name__ in verdict.why and "\n" not in verdict.why


@pytest.mark.parametrize("error", [DataError("the gold answer"), ConfigError("the endpoint"), KeyboardInterrupt()])
def test_what_the_user_can_fix_is_raised(error: BaseException, judge: Callable[..., None]) -> None:
    judge(error)
    with pytest.raises(type(error)):
        judge_answer("exact", "", "3", {})


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the verifier "exact" raise something."""

    def install(error: BaseException) -> None:
        def fail(*_: object) -> Verdict:
            raise error

        monkeypatch.setattr(module, "_JUDGES", {**module._JUDGES, "exact": fail})

    return install


@pytest.mark.parametrize(
    "answer", [r"\boxed{5" + "%" * 500 + "}", r"\boxed{" + "e^" * 500 + "x}", r"\boxed{" + r"\sin" * 500 + " x}"]
)
def test_formulas_that_grow_are_given_up(answer: str) -> None:
    verdict = judge_answer("math", answer, "3", {}, JudgeSettings(time_limit_s=0.5))
    assert verdict.status in (VerdictStatus.WRONG, VerdictStatus.TIMEOUT), verdict.why


@pytest.mark.parametrize("gold", ["77", r"\frac{1}{2}", "x^2+1", r"\text{yes}", "x=5", "(1,2)", r"\{1\}", "1 or 2"])
@pytest.mark.parametrize("answer", ["or", "and", "또는", ", or", "or or", r"\text{and}", "and ×", ",", ";", "∪", ":"])
def test_what_only_joins_answers_is_none(answer: str, gold: str) -> None:
    for reply in (rf"\boxed{{{answer}}}", f"The answer is {answer}."):
        assert not judge_answer("math", reply, gold, {}).correct


@pytest.mark.usefixtures("sandbox")
def test_a_program_that_locks_its_folder_is_judged() -> None:
    locks = "import os\nos.chmod('.', 0)\n"
    assert run_program(locks + "print(3)").stdout == "3\n"
    tests = '[{"input": "", "output": "3"}]'
    for program, status in ((locks + "print(3)", VerdictStatus.CORRECT), (locks, VerdictStatus.WRONG)):
        assert judge_answer("code", f"```python\n{program}\n```", tests, {}).status is status
