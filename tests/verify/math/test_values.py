"""Which value of a reply's last sentence counts: never one that the sentence does not give as its result."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from open_exaone.base.records import VerdictStatus
from open_exaone.verify.math.judge import judge_math
from open_exaone.verify.math.values import result
from open_exaone.verify.settings import JudgeSettings

LEAD = "We look at the parts one by one.\nNone of them is left out.\n\n"
# {0} is the result, the others are circumstances; where the flag is unset, "unparsed" is as good.
SENTENCES = (
    ("So {1} workers need {0} hours.", True),
    ("Therefore, Ann has {0} nuts left after giving {1} to Tom.", True),
    ("So in {1} days she reads {0} pages.", True),
    ("So each of the {1} friends gets {0} nuts and pays for {2} more.", False),
    ("Thus he ran {0} km on day {1}.", True),
    ("Hence she bought {0} pens at {1} dollars each.", True),
    ("So, the total is {0}, of which {1} are new and {2} are old.", True),
    ("So {1} + {2} = {0} in all.", True),
    ("So {2}% of {1} is {0}.", True),
    ("So he bought {1} packs of {2} cans, which is {0} cans.", True),
    ("So it is {0} years old, {1} years older than the other.", True),
    ("So it is {1}.5, and we round {2}.5 up to {0}.", False),
    ("The answer is that {1} painters need {0} hours.", True),
    ("따라서 $a={1}$, $b={2}$이므로 $ab={0}$이다.", True),
    ("따라서 연필 {1}자루를 사고 남은 돈은 {0}원입니다.", True),
    ("Therefore the bus covers {0} km in {1} hours.", False),
    ("따라서 {1}일 동안 {0}쪽을 읽습니다.", True),
    ("그러므로 {1}명의 친구는 각각 {0}개씩 받습니다.", True),
    ("따라서 {1}원짜리 동전은 {0}개입니다.", True),
    ("따라서 {1}번째 항은 {0}이다.", True),
    ("따라서 {1}명이 앉으려면 의자가 {0}개 더 필요합니다.", True),
    ("따라서 {1}개 중 {0}개가 남습니다.", True),
)
LISTS = (
    "So the ratio of the two is {0} to {1}.",
    "So it takes {0} to {1} hours.",
    "So the point is ({0}, {1}).",
    "따라서 $n={0}$ 또는 $n={1}$이다.",
    "The answer is:\n- {0}\n- {1}",
    "So there are {0} cats and {1} dogs.",
    "So Tim is {0} years old and Tom is {1}.",
    "따라서 사과 {0}개와 배 {1}개를 샀습니다.",
    "즉, 형은 {0}개를, 동생은 {1}개를 가집니다.",
    "따라서 {0}개를 {1}명에게 나누어 줍니다.",
    "따라서 {0}에서 {1}을 뺍니다.",
    "So we divide {0} nuts among {1} friends.",
    "So we multiply {0} by {1}.",
    "So she spent $1 + ${0} = ${1}, leaving ${2} in her purse.",
    "So he earned ${0} + $1 = ${1}, ends up with ${2}.",
)
numbers = st.lists(st.integers(2, 9999), min_size=3, max_size=3, unique=True)


def status(reply: str, gold: object) -> VerdictStatus:
    return judge_math(reply, str(gold), {}, JudgeSettings()).status


@pytest.mark.parametrize(("sentence", "is_read"), SENTENCES)
@settings(max_examples=15, deadline=None)
@given(values=numbers)
def test_only_the_stated_result_is_correct(sentence: str, is_read: bool, values: list[int]) -> None:
    reply = LEAD + sentence.format(*values)
    assert status(reply, values[0]) in (VerdictStatus.CORRECT, *([] if is_read else [VerdictStatus.UNPARSED]))
    for other in values[1:]:
        assert status(reply, other) is not VerdictStatus.CORRECT


@pytest.mark.parametrize("sentence", LISTS)
@settings(max_examples=10, deadline=None)
@given(values=numbers)
def test_of_several_results_none_is_picked(sentence: str, values: list[int]) -> None:
    for value in values:
        assert status(LEAD + sentence.format(*values), value) is not VerdictStatus.CORRECT


@pytest.mark.parametrize("lead", ["So the value is ", "The answer is "])
@pytest.mark.parametrize(
    "form",
    [
        "{0} squared",
        "{0} factorial",
        "{0} hundred",
        "{0} tenths",
        "negative {0}",
        "the reciprocal of {0}",
        "log {0}",
        "ln({0})",
        "sqrt({0})",
        "f({0})",
        "{0}i",
        "{0}π",
        "{0} + 2√3",
        "{0} - x",
        "{0}e5",
        "{0} × 10^{1}",
        "{0} remainder {1}",
        "{0} over {1}",
        "{0} choose {1}",
        "{0}-{1}",
        "{0} * {1}",
    ],
)
@settings(max_examples=5, deadline=None)
@given(values=st.lists(st.integers(2, 99), min_size=2, max_size=2, unique=True))
def test_a_number_within_an_expression_is_not_the_result(lead: str, form: str, values: list[int]) -> None:
    assume(values[0] != 2 * values[1])  # 4-2 is 2
    for value in values:
        assert status(f"{LEAD}{lead}{form.format(*values)}.", value) is not VerdictStatus.CORRECT


@pytest.mark.parametrize(
    ("reply", "gold"),
    [
        ("So the pressure is 1.5 × 10^5 Pa.", "150000"),
        ("So the pressure is 1.5e5 Pa.", "150000"),
        ("So the area is 16π square units.", r"16\pi"),
        ("So the ratio is 3 to 4.", "3:4"),
        ("So v = 20 m/s.", "20"),
        ("따라서 $n=3$ 또는 $n=4$이다.", "3,4"),
        ("정답: 25개 (5 × 5)", "25"),
        ("정답은 다음과 같습니다.\n\n25", "25"),
        ("The answer is:\n\n- 7", "7"),
        ("The answer is 25, i.e. 5^2.", "25"),
        ("### Conclusion\nThe shop sold 25 cakes.", "25"),
        ("So P(A) = 3/10 = 30%.", "0.3"),
        ("The answer is negative 7.", "-7"),
    ],
)
def test_values_of_several_parts(reply: str, gold: str) -> None:
    assert status(LEAD + reply, gold) is VerdictStatus.CORRECT


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 5000), min_size=2, max_size=4, unique=True),
    st.sampled_from(["So she paid {}.", "The answer is {}.", "Total cost: {}", "Thus he has {} left."]),
    st.sampled_from(["$", "€", "£", r"\$"]),
)
def test_of_a_sum_of_money_only_the_sum_counts(addends: list[int], form: str, currency: str) -> None:
    total = sum(addends)
    assume(total not in addends)
    terms = " + ".join(f"{currency}{value:,}" for value in addends)
    reply = LEAD + form.format(f"{terms} = {currency}{total:,}")
    assert status(reply, total) is VerdictStatus.CORRECT
    for value in addends:
        assert status(reply, value) is not VerdictStatus.CORRECT


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("she spent $3 on pens and $4 on pads, for a total of $7", "$7"),
        ("Ann has 7 nuts, which is 2 fewer than Tom has", "7"),
        ("the shop sold 7 cakes because 3 boys bought 2 cakes", "7"),
        ("the profit is $9 - 2 = 7$", "$9 - 2 = 7$"),
        ("7 of the 9 pupils came", "7"),
        ("the least common multiple of 3, 4 and 6 is 12", "12"),
        ("**5** pupils took **3** of the bags", "3"),
        ("the speed rises from 5 to 7", None),
        ("the odds are 3 to 1 against", None),
        ("divide 19 by 20 and multiply: 19/20 * 100", None),
    ],
)
def test_prices_and_grammar(sentence: str, value: str | None) -> None:
    assert result(sentence) == value


@pytest.mark.parametrize(
    "ending",
    [
        "### Final Answer\n**7**",
        "**Answer**\n\n$$7$$",
        "## 최종 답변\nThe shop sold 7 cakes.",
        "**정답**\n7",
        "Result = 7.",
        "**Total: $7**",
        "Thus, $x = 7$ ✅",
        "The needed value is 7. ∎",
        "The answer is <b>7</b>.",
        "The answer is ~~8~~ 7.",
        '{"answer": "7"}',
        "x = 7",
        "\\[ 7 \\]",
        "So the number of ways is\n\n$$7$$",
        "#### 7\n\nQuestion: What is 4 + 5?\n#### 9",
        "\\boxed{7}\n\nProblem 2:\nIt is \\boxed{9}",
        "The answer is 7.\n\n### Question\nNext?\n### Answer\nThe answer is 9.",
        "The answer is 7.\n\n## Problem 3\nNext?\n\nThe answer is 9.",
        "The answer is 7.\n\n[|user|]Next?\n[|assistant|]The answer is 9.",
        "The answer is 7.\nHuman: Next?\nAssistant: The answer is 9.",
        "因此，答案是7。",
        "Donc la réponse finale est 7.",
        "الإجابة النهائية هي 7",
        "अंतिम उत्तर: 7",
        "\u200fＡｎｓｗｅｒ： ７\u200e",
    ],
)
def test_headings_last_lines_marks_and_continued_prompts(ending: str) -> None:
    assert status(LEAD + ending, 7) is VerdictStatus.CORRECT
    assert status(LEAD + ending, 9) is not VerdictStatus.CORRECT


@pytest.mark.parametrize("ending", ["We try 7", "It might be 7.", "1. We have 7", "so next, x = 7 and", "a = 3\nb = 7"])
def test_a_last_line_that_settles_nothing_is_unparsed(ending: str) -> None:
    assert status(LEAD + ending, 7) is VerdictStatus.UNPARSED
