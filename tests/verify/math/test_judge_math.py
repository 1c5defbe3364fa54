"""The verdict on a mathematical answer, by tables: what is the same, what is not, and where an answer stands."""

import random
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.sandbox.workers import CallResult
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
    ("2^10", "1024"),
    ("10^-3", "0.001"),
    ("2⁵", "32"),
    ("x¹⁰", "x^{10}"),
    ("10⁻³", "0.001"),
    ("52₈", "52_8"),
    ("1½", "3/2"),
    ("3 ¾", "15/4"),
    ("∛8", "2"),
    ("√(1+√5)", r"\sqrt{1+\sqrt{5}}"),
    ("0.\\overline{3}", "1/3"),
    ("0.\\overline{12}", "4/33"),
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
    (r"\frac13\ \mathrm{m}", "1/3"),
    ("42 million", "42000000"),
    (r"1.5 \text{ thousand}", "1500"),
    ("5만", "50000"),
    (r"3:00 \text{ p.m.}", r"3:00\text{ PM}"),
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
    ("1>x>0", "0<x<1"),
    (r"\varnothing", r"\emptyset"),
    (r"\{1,2,\dots,10\}", r"\{1, 2, \ldots, 10\}"),
    (r"x \equiv 1 \pmod{3}", r"x\equiv 1\pmod 3"),
    (r"17 \bmod 5", "2"),
    (r"2023 \equiv 4 \pmod 7", "4"),
    ("x=1,y=2", r"\begin{cases}x=1\\y=2\end{cases}"),
    # words
    (r"\text{The answer is } 4", "4"),
    (r"\large 4", "4"),
    (r"\text{yes}", r"\text{Yes}"),
    ("no", "No"),
    (r"\text{Odd}", r"\text{odd}"),
    (r"\textbf{(B) }12", "12"),
    ("B) 12", "12"),
    ("12", r"\textbf{(C)}\ 12"),
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
    (r"17 \pmod{5}", "17"),
    (r"10^{300}\pi^{30}", "3.141593"),
    ("", "7"),
    ("-east", r"\text{east}"),
    # what stands side by side is no number
    ("1 1/2", "11/2"),
    ("11/2", "1 1/2"),
    ("1 2", "12"),
    ("12 34", "1234"),
    ("2 3", "6"),
    (r"4\,2", "42"),
    (r"2\text{ h }30\text{ min}", "230"),
    ("1½", "11/2"),
    # powers and indices
    ("10^23", "300"),
    ("2^10", "0"),
    ("2⁵", "25"),
    ("52₈", "528"),
    # of different kinds
    ("[1,2]", r"\{1,2\}"),
    (r"\pm2", "(2,-2)"),
    (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\sin^{-1}x", r"\frac{1}{\sin x}"),
    (r"\frac{1}{\sin x}", r"\sin^{-1}x"),
    ("f(x)", "f'(x)"),
    # words that change or deny what stands before them
    (r"42 \text{ million}", "42"),
    (r"42\text{ is impossible}", "42"),
    (r"42\text{ or more}", "42"),
    (r"\text{at least }42", "42"),
    (r"42\ldots", "42"),
    (r"3:00\text{ AM}", r"3:00\text{ PM}"),
    (r"\text{on}", r"\text{no}"),
    (r"\text{god}", r"\text{dog}"),
    ("13", r"\textbf{(C)}\ 12"),
    (r"\text{(D) }12", r"\textbf{(C)}\ 12"),
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


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is at least 7.",
        "The answer is greater than 7.",
        "The answer is more than $7$.",
        "If the answer is 7, then 2x = 14.",
        "I do not think the answer is 7.",
        "The answer is twice 7.",
        "The answer is 7 million.",
        "The answer is 7 times 2.",
        "The answer is between 5 and 7.",
        "The answer is undefined for x = 7.",
        "The answer is 7? No.",
        "The answer is 7. Wait, that's wrong. It is 8.",
        "The wrong answer is 7.",
        "x can't be 7",
        "There is no solution for n=7",
        "Therefore, x cannot be equal to 7.",
        "Therefore we have 10 apples and 7 oranges.",
        "정답은 7이 아니다.",
        "정답은 7보다 크다.",
        "정답은 7 이상이다.",
        "따라서 7보다 크다.",
        "La respuesta es mayor que 7.",
    ],
)
def test_what_is_said_of_a_number_is_not_that_it_is_the_answer(reply: str) -> None:
    assert judge(reply, "7").status in (VerdictStatus.UNPARSED, VerdictStatus.WRONG)


@pytest.mark.parametrize(
    ("reply", "is_correct"),
    [
        ("The answer is B, because A is false", True),
        ("B. Peter", True),
        ("Definitely B!", True),
        (r"\boxed{\text{(B)}}", True),
        ("not B", False),
        ("It is not B.", False),
        ("Maybe B or C", False),
        ("Both B and C", False),
        ("B. Peter? No, C. Cecile", False),
        ("A. London\nB. Paris", False),
        (r"\boxed{BC}", False),
    ],
)
def test_a_letter_is_judged_as_a_choice(reply: str, is_correct: bool) -> None:
    assert (judge(reply, "B").status is VerdictStatus.CORRECT) == is_correct


@pytest.mark.parametrize(
    "reply",
    [
        "答案是7。",
        "答案：7",
        "答えは7です。",
        "La réponse est 7.",
        "Die Antwort ist 7.",
        "A resposta é 7.",
        "Ответ: 7",
        "<answer>7</answer>",
        "7\n\nConfidence: 95%",
        "The answer is x=7, not x=8.",
        r"$\frac{14}{2}$ is the answer",
    ],
)
def test_further_ways_to_announce_an_answer(reply: str) -> None:
    assert judge(reply, "7").status is VerdictStatus.CORRECT


def test_all_readings_of_an_answer_share_one_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def call(function: str, argument: object, *, time_limit_s: float, **rest: object) -> CallResult:
        limits.append(time_limit_s)
        return CallResult("timeout", None, "It took longer.")

    monkeypatch.setattr("open_exaone.verify.math.judge.call", call)
    verdict = judge(
        r"The answer is equal to $\int_0^1 \sin(x^x) dx$ units", "The answer is equal to $\\tan(2^x)$ units"
    )
    assert verdict.status is VerdictStatus.TIMEOUT
    assert limits == [SETTINGS.time_limit_s]


@pytest.mark.parametrize(
    "reply", ["잘 모르겠습니다.", "풀 수 없는 문제입니다.", "조건이 부족합니다", "Sorry, no idea.", "I don't know"]
)
def test_giving_up_is_no_answer(reply: str) -> None:
    assert judge_math(reply, "41", {}, JudgeSettings()).status is VerdictStatus.UNPARSED


def test_no_answer_is_unparsed_and_another_one_wrong() -> None:
    assert judge("We begin by looking at the numbers one by one, and", "7") == Verdict(
        VerdictStatus.UNPARSED, None, "The reply has no final answer."
    )
    assert judge(r"\boxed{ 8 }", "7") == Verdict(
        VerdictStatus.WRONG, "8", "The answer 8 is wrong: the gold answer is 7."
    )
    assert judge(r"\boxed{7}", "7") == Verdict(VerdictStatus.CORRECT, "7", "The answer 7 is correct.")


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
