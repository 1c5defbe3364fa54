"""The verdict on a mathematical answer, by tables: what is the same, what is not, and where an answer stands."""

import random
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.verify.math.judge import judge_math
from open_exaone.verify.settings import JudgeSettings

SETTINGS = JudgeSettings()


def judge(answer: str, gold: str, **metadata: object) -> Verdict:
    return judge_math(answer, gold, metadata, SETTINGS)


def boxed(answer: str, gold: str, **metadata: object) -> VerdictStatus:
    return judge(rf"So it is $\boxed{{{answer}}}$.", gold, **metadata).status


SAME = [
    # numbers
    ("007", "7"),
    ("-0", "0"),
    ("4.50", "4.5"),
    (".5", "0.5"),
    ("1,234,567", "1234567"),
    ("1{,}234", "1234"),
    (r"1,\!234", "1234"),
    (r"1\,234", "1234"),
    ("1 234", "1234"),
    ("2,5", "2.5"),
    (r"\frac12", "0.5"),
    (r"\dfrac{3}{6}", "1/2"),
    (r"\frac{-1}{2}", r"-\frac{1}{2}"),
    (r"\frac{1}{-2}", r"-\frac{1}{2}"),
    (r"1\frac{4}{5}", "9/5"),
    ("1 4/5", "1.8"),
    (r"3.2\times 10^{5}", "320000"),
    ("1.5e3", "1500"),
    ("10^{-3}", "0.001"),
    ("2^{100}", str(2**100)),
    ("9" * 3000, "9" * 3000),
    ("5!", "120"),
    (r"\binom{5}{2}", "10"),
    ("0.333333", r"\frac{1}{3}"),
    ("3.14159265", r"\pi"),
    # percent, currency, degrees and units
    (r"28\%", "28"),
    ("0.28", r"28\%"),
    ("28 percent", r"28\%"),
    (r"\$5", "5"),
    ("₩5,000", "5000"),
    (r"90^\circ", "90"),
    ("90°", r"90^{\circ}"),
    (r"15\text{ cm}^2", r"15\mbox{ cm}^2"),
    ("3 cm", "3"),
    (r"12^{\text{th}} \text{ grade}", "12"),
    ("125 miles", "125"),
    ("5개", "5"),
    (r"5\text{개}", "5"),
    ("5{,}000원", "5000"),
    ("3시간", "3"),
    ("12 명", "12"),
    ("45도", "45"),
    ("약 3.14", "3.14"),
    ("③", "3"),
    ("③번", "3"),
    ("１２", "12"),
    # roots, symbols, functions
    (r"2\sqrt{3}", r"\sqrt{12}"),
    (r"\frac{1}{\sqrt{3}}", r"\frac{\sqrt{3}}{3}"),
    ("3√13", r"3\sqrt{13}"),
    (r"\sqrt2-1", r"\frac{1}{1+\sqrt{2}}"),
    (r"\sqrt{-4}", "2i"),
    ("i^2", "-1"),
    (r"\sqrt[3]{27}", "3"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"\frac{\pi r}{r+h}", r"\frac{r \pi}{h+r}"),
    (r"2 \cos a \sin b", r"2 \sin(b) \cos(a)"),
    (r"\frac{\cos x}{\sin x}", r"\cot x"),
    ("52_8", "52_{8}"),
    # lists, tuples, sets, intervals, matrices
    ("1,-2", "-2, 1"),
    (r"\{1, 2\}", "2 and 1"),
    ("2와 3", "2,3"),
    (r"3 \pm 2\sqrt{2}", r"3-2\sqrt{2}, 3+2\sqrt{2}"),
    ("(3, 4)", "(3,4)"),
    ("(0.5,1)", r"\left( \frac{1}{2}, 1 \right)"),
    (r"(-\infty, 2] \cup (3,\infty)", r"(3, \infty) \cup (-\infty, 2]"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"\begin{bmatrix} 1/2 & 0 \\ 0 & 1 \end{bmatrix}", r"\begin{pmatrix} 0.5 & 0 \\ 0 & 1 \end{pmatrix}"),
    # equations and relations
    ("x = 5", "5"),
    ("5", "x=5"),
    ("x=2, y=3", "x=2,y=3"),
    ("y = 2x + 3", "2x - y + 3 = 0"),
    ("-x > -1", "x < 1"),
    (r"5 \geq x", r"x \leq 5"),
    ("k = 2 + 3 = 5", "5"),
    (r"x \approx 600", "600"),
    # words
    (r"\text{Monday}", "monday"),
    ("(C)", r"\text{(C)}"),
    ("짝수", r"\text{짝수}"),
]

DIFFERENT = [
    ("8", "7"),
    ("-7", "7"),
    ("7.1", "7"),
    ("1.234", "1234"),
    ("12,34", "1234"),
    ("70", "7"),
    ("3", "30"),
    (r"\frac{2}{1}", r"\frac{1}{2}"),
    ("0.33", r"\frac{1}{3}"),
    ("0.333334", r"\frac{1}{3}"),
    (".0000671", ".0000672"),
    ("2^{101}", str(2**100)),
    ("9" * 3000, "9" * 3001),
    (r"15\text{ cm}^3", r"15\text{ cm}^2"),
    (r"\sqrt{3}", "3"),
    (r"\pi", "3.14"),
    ("2x", "x^2"),
    ("x+1", "x-1"),
    (r"\sin x", r"\cos x"),
    ("52_9", "52_8"),
    ("(4,3)", "(3,4)"),
    ("[3,4)", "(3,4)"),
    ("1,2", "1,2,3"),
    ("1,2,3", "1,2"),
    ("1,1,2", "1,2,2"),
    (r"\pm 5", "5"),
    (r"(1,2)", r"\begin{pmatrix} 3 \\ 4 \end{pmatrix}"),
    ("x = 6", "x=5"),
    ("y = 2x", "y=3x"),
    ("x < 5", "x > 5"),
    (r"x \le 5", "x < 5"),
    ("11a+c", "7=11a+c"),
    ("5x - 7y = 1", "5x-7y=0"),
    (r"\text{west}", r"\text{east}"),
    ("7", r"\text{east}"),
    (r"\text{east}", "7"),
    ("B", r"\text{(C)}"),
    ("A", r"\text{A, B}"),
    ("(A) and (C)", "A"),
    ("12:00", "1:00"),
    ("", "7"),
    ("-east", r"\text{east}"),
]


@pytest.mark.parametrize(("answer", "gold"), SAME)
def test_the_same_answer_is_correct(answer: str, gold: str) -> None:
    assert boxed(answer, gold) is VerdictStatus.CORRECT


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_another_answer_is_not(answer: str, gold: str) -> None:
    assert boxed(answer, gold) in (VerdictStatus.WRONG, VerdictStatus.UNPARSED)


@pytest.mark.parametrize(
    ("reply", "gold"),
    [
        (r"First \boxed{1}, no: \boxed{2}.", "2"),
        (r"\boxed{840}" + "\n\n" + r"\boxed{840}", "840"),
        (r"$\boxed{2}$ and $\boxed{3}$", "2,3"),
        (r"$x = \boxed{2}$ or $x = \boxed{3}$.", r"\{2,3\}"),
        (r"\boxed{2}와 \boxed{3}입니다.", "2,3"),
        (r"\boxed{\boxed{5}}", "5"),
        (r"\fbox{5}", "5"),
        (r"$\boxed 7$", "7"),
        (r"\[\boxed{255}\] Final Answer: The final answer is $10,455$. I hope it is correct.", "10455"),
        ("The answer is 5.", "5"),
        ("**Answer:** $\\frac12$", "0.5"),
        ("The final answer is: \\[ x = 5 \\]", "5"),
        ("The answer is 5 apples because 2 + 3 = 5, and 7 is too many.", "5"),
        ("Final Answer: Jane started 3 hours ago.", "3"),
        ("정답은 ③번이다", "3"),
        ("정답은 ③번이다.", "3"),
        ("답은 5개입니다.", "5"),
        (r"따라서 정답은 \boxed{12}", "12"),
        ("**정답: 7**", "7"),
        ("따라서 $k$의 값은 5이다.", "5"),
        ("따라서 $a+b=24$이다.", "24"),
        ("La respuesta es 3,5.", "3.5"),
        ("We add them.\nTherefore, there are 12 sequences in all.", "12"),
        ("She has 3 + 4 = 7.\n#### 7", "7"),
        ("1 000", "1000"),
        ("$\\frac12$", "1/2"),
        ("the number is not 10 which is 1,000.99€", "1000.99"),
        ("Answer \\( 9 \\)", "9"),
        ("5", "5"),
        ("The answer is for sure D, it can't be A or B", "D"),
        ("The answer is 7.<|im_end|>\n<|im_start|>user\nWhat is 2 + 3?", "7"),
    ],
)
def test_the_final_answer_is_found(reply: str, gold: str) -> None:
    assert judge(reply, gold).status is VerdictStatus.CORRECT


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "...",
        "I do not know what to do with this question.",
        "We have 3 + 4 = 7. Next we look at the other",
        "Let us see. The sum is 7, and so the product of it with the other one",
        "To simplify the expression \\(3 + 4\\), we add 3 and 4",
        "So the answer is",
        "Adding gives 7.\n\nNow we multiply by two.\n\nThen",
        r"It is \boxed{7",
        r"It is \boxed{7} or rather \boxed{",
        "The answer is 7? Wait, that cannot be. " + "We go through it again, step by step. " * 30,
        "계산하면 7이 나온다. 이제 다음 단계로 넘어가서 나머지를",
        "AZYUK7A",
        "The mean is 21/3 = ",
        "We add 3 and 4 and the sum makes 7",
        "not 7",
    ],
)
def test_a_reply_without_a_final_answer_is_never_correct(reply: str) -> None:
    assert judge(reply, "7").status in (VerdictStatus.UNPARSED, VerdictStatus.WRONG)


def test_no_answer_is_unparsed_and_another_one_wrong() -> None:
    assert judge("We begin by looking at the numbers one by one, and", "7") == Verdict(
        VerdictStatus.UNPARSED, None, "The reply has no final answer."
    )
    assert judge(r"\boxed{ 8 }", "7") == Verdict(VerdictStatus.WRONG, "8", "8 is not the gold answer 7.")
    assert judge(r"\boxed{7}", "7") == Verdict(VerdictStatus.CORRECT, "7", "7 is the gold answer.")


def test_equal_boxes_are_one_answer() -> None:
    assert judge(r"\boxed{840}, \boxed{840}", "840").extracted == "840"


def test_how_many_decimals_a_rounded_answer_needs_is_the_problems_matter() -> None:
    assert boxed("0.33", r"\frac{1}{3}", precision=2) is VerdictStatus.CORRECT
    assert boxed("0.34", r"\frac{1}{3}", precision=2) is VerdictStatus.WRONG


def test_a_thread_may_ask_the_algebra() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(boxed, r"\sin^2 x + \cos^2 x", "1").result() is VerdictStatus.CORRECT


def test_what_the_algebra_cannot_end_is_a_timeout() -> None:
    limits = JudgeSettings(time_limit_s=0.5)
    verdict = judge_math(r"\boxed{\int_0^1 e^{x^{x^{x}}} dx}", "3", {}, limits)
    assert verdict.status is VerdictStatus.TIMEOUT
    assert verdict.extracted == r"\int_0^1 e^{x^{x^{x}}} dx"


@pytest.mark.parametrize("precision", [0, -1, 1000, "six", None])
def test_broken_metadata_is_refused(precision: object) -> None:
    with pytest.raises(ValueError, match=r"metadata\.precision"):
        judge("7", "7", precision=precision)


@pytest.mark.parametrize("gold", ["", "  \n"])
def test_an_empty_gold_answer_is_refused(gold: str) -> None:
    with pytest.raises(ValueError, match="answer: the gold answer is empty"):
        judge("7", gold)


@given(st.integers(), st.integers())
def test_integers_are_the_same_when_they_are_equal(found: int, gold: int) -> None:
    assert (boxed(f"{found:,}", str(gold)) is VerdictStatus.CORRECT) == (found == gold)


@given(st.fractions(max_denominator=1000), st.fractions(max_denominator=1000))
def test_fractions_are_the_same_when_they_are_equal(found: Fraction, gold: Fraction) -> None:
    sign = "-" if found < 0 else ""
    text = rf"{sign}\frac{{{2 * abs(found.numerator)}}}{{{2 * found.denominator}}}"
    assert boxed(text, str(gold)) is (VerdictStatus.CORRECT if found == gold else VerdictStatus.WRONG)


@given(st.lists(st.integers(-99, 99), min_size=2, max_size=6), st.randoms())
def test_a_set_has_no_order_and_a_tuple_has(items: list[int], shuffle: random.Random) -> None:
    mixed = items[:]
    shuffle.shuffle(mixed)
    found, gold = ", ".join(map(str, mixed)), ", ".join(map(str, items))
    assert boxed(rf"\{{{found}\}}", rf"\{{{gold}\}}") is VerdictStatus.CORRECT
    assert (boxed(f"({found})", f"({gold})") is VerdictStatus.CORRECT) == (mixed == items)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="3³३٣③㈢㊂３"), max_size=60))
def test_no_reply_makes_it_raise(text: str) -> None:
    for reply in (text, rf"\boxed{{{text}}}", f"The answer is {text}"):
        verdict = judge(reply, "3")
        assert verdict.why.endswith(".")
        assert len(verdict.why) < 200


@settings(deadline=None)
@given(st.text(alphabet="\\frac{}()[]^_+-*/=<>,.:;|!%$ 0123456789xyπ√±∞∪sqrtleigh", max_size=40))
def test_no_formula_makes_the_exact_ways_raise(text: str) -> None:
    from open_exaone.verify.math.algebra import TooLarge
    from open_exaone.verify.math.compare import same
    from open_exaone.verify.math.normalise import canonical
    from open_exaone.verify.math.structure import read

    try:
        value = read(canonical(text))
        same(value, read("3"))
        same(value, value)
    except TooLarge:
        pass
