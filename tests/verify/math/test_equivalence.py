"""What is the same answer in another form, by properties: units, tiny numbers, equations, sets, vectors, functions."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.records import VerdictStatus
from open_exaone.verify.math import numeric, symbolic
from open_exaone.verify.math.algebra import TooLarge, reset_budget
from open_exaone.verify.math.compare import same
from open_exaone.verify.math.judge import judge_math
from open_exaone.verify.math.normalise import canonical
from open_exaone.verify.math.parse import expression
from open_exaone.verify.math.structure import read
from open_exaone.verify.settings import JudgeSettings

SETTINGS = JudgeSettings()


def is_correct(answer: str, gold: str) -> bool:
    verdict = judge_math(rf"So it is $\boxed{{{answer}}}$.", gold, {}, SETTINGS)
    assert verdict.status in (VerdictStatus.CORRECT, VerdictStatus.WRONG)
    return verdict.status is VerdictStatus.CORRECT


UNITS = [
    r"^\circ C",
    r"^\circ\mathrm{F}",
    r"{}^\circ\text{C}",
    r"\,\mu\mathrm{m}",
    r"\ \mathrm{\mu s}",
    r"\,\frac{\text{km}}{\text{h}}",
    r"\ \tfrac{\mathrm{kg}}{\mathrm{m}^3}",
    r"\,\frac{m}{s^2}",
    r"\,\text{m}\,\text{s}^{-2}",
    r"\text{ m s}^{-1}",
    r"\,\mathrm{kg\,m^{2}\,s^{-2}}",
    r"\,\mathrm{N}\cdot\mathrm{m}",
    r"\,\mathrm{m}/\mathrm{s}",
    r"\ \text{km} / \text{h}",
    r"\,\mathrm{m}/\mathrm{s}^{2}",
    r"\,\mathrm{kg}\cdot\mathrm{m}/\mathrm{s}/\mathrm{K}",
    r"\,\mathrm{J}\,\mathrm{K}^{-1}",
    r"\,\Omega",
    r"\,\text{k}\Omega",
    "¢",
    r"\,{\rm m}",
    r" \text{ km/h}",
    r"\text{ cm}^{2}",
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("number", ["7", "-2.5", r"\frac{3}{4}", r"1.5\times 10^{-3}"])
def test_a_unit_is_let_off_in_either_place(unit: str, number: str) -> None:
    assert is_correct(number + unit, number)
    assert is_correct(number, number + unit)
    assert not is_correct("8" + unit, number)
    assert not is_correct("8", number + unit)


@pytest.mark.parametrize(
    "answer",
    [
        r"5\text{ and }6",
        r"5\text{ h }30\text{ min}",
        r"5\frac{x}{y}",
        r"5\,\frac{\text{m}}{2\text{s}}",
        "5x",
        "5'",
        r"5\text{ m}/\text{2}",
        r"5\,\mathrm{e}/\mathrm{i}",
    ],
)
def test_what_is_no_unit_counts(answer: str) -> None:
    assert not is_correct(answer, "5")


@given(st.integers(100, 999), st.integers(100, 999), st.integers(1, 300))
def test_a_number_is_the_same_however_small_it_is(found: int, gold: int, exponent: int) -> None:
    mantissas = [f"{number // 100}.{number % 100:02}" for number in (found, gold)]
    for form in (f"e-{exponent}", rf"\times 10^{{-{exponent}}}"):
        assert is_correct(mantissas[0] + form, f"{mantissas[1]}e-{exponent}") == (found == gold)
        assert not is_correct("0", mantissas[1] + form)
        assert not is_correct("0.000000", mantissas[1] + form)


def test_a_float_of_full_length_stands_for_what_it_rounds() -> None:
    assert is_correct("0.30000000000000004", "0.3")
    assert is_correct("3.3333333333e-10", r"\frac13\cdot10^{-9}")
    assert not is_correct("3.3e-10", r"\frac13\cdot10^{-9}")
    assert is_correct("0.016667", r"\frac{1}{60}")


EQUATIONS = [
    r"\log_8(4)=\frac23",
    "f(2)=5",
    "2^5=32",
    r"P(X>2)=0.3",
    r"\det(A)=5",
    r"A^{-1}=\begin{pmatrix}1&2\\3&4\end{pmatrix}",
    r"\frac{dy}{dx}=2x",
    r"\int_0^1 x\,dx=\frac12",
    r"\lim_{x\to0}\frac{\sin x}{x}=1",
    "y''+y=0",
    "x^2+y^2=1",
    r"\sin x=\frac12",
    r"a_n=2^n",
    "x<5",
    "E=mc^2",
    r"\sum_{n=1}^\infty \frac1{n^2}=\frac{\pi^2}{6}",
]


@pytest.mark.parametrize("gold", EQUATIONS)
def test_an_equation_is_itself_and_no_other(gold: str) -> None:
    assert is_correct(gold, gold)
    for other in ("1=2", "1=1", "0=0", "1<2", *EQUATIONS):
        assert other == gold or not is_correct(other, gold)


@pytest.mark.parametrize(
    ("gold", "wrong"),
    [
        (r"\log_8(4)=\frac23", r"\log_8(4)=\frac13"),
        (r"P(X>2)=0.3", r"P(X>2)=0.4"),
        (r"A^{-1}=\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"A^{-1}=\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
        (r"\frac{dy}{dx}=2x", r"\frac{dy}{dx}=3x"),
        (r"\lim_{x\to0}\frac{\sin x}{x}=1", r"\lim_{x\to0}\frac{\sin x}{x}=2"),
        (r"\sin x=\frac12", r"2\sin x=3"),
        (r"(f\circ g)(2)=5", r"(f\circ g)(2)=6"),
    ],
)
def test_both_sides_of_an_equation_count(gold: str, wrong: str) -> None:
    assert not is_correct(wrong, gold)
    assert not is_correct(gold, wrong)


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9), st.integers(-9, 9))
def test_a_functions_value_is_compared_with_its_place(at: int, value: int, other_at: int, other: int) -> None:
    is_same = (at, value) == (other_at, other)
    assert is_correct(f"f({other_at})={other}", f"f({at})={value}") == is_same
    assert is_correct(str(other), f"f({at})={value}") == (other == value)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 12))
def test_congruences_are_compared_by_residues(found: int, gold: int, modulus: int) -> None:
    is_same = (found - gold) % modulus == 0
    wanted = rf"x\equiv {gold}\pmod {{{modulus}}}"
    assert is_correct(rf"x \equiv {found} \pmod{{{modulus}}}", wanted) == is_same
    assert not is_correct(rf"x \equiv {found} \pmod{{{modulus + 1}}}", wanted)
    assert is_correct(rf"7^{{7^7}}\equiv {found} \pmod{{{modulus}}}", str(gold)) == (found == gold)


@given(st.integers(-9, 9), st.integers(1, 9), st.booleans(), st.booleans(), st.integers(-1, 1))
def test_an_inequality_may_be_answered_with_its_interval(low: int, gap: int, left: bool, right: bool, off: int) -> None:
    high, end = low + gap, low + gap + off
    less, more = "<" if left else r"\le ", ">" if right else r"\ge "
    closing, opening = ")" if left else "]", "(" if right else "["
    gold = rf"x {less}{low} \text{{ or }} x {more}{high}"
    assert is_correct(rf"(-\infty,{low}{closing} \cup {opening}{end},\infty)", gold) == (not off)
    closing, opening = "[" if left else "]", "]" if right else "["
    assert is_correct(rf"]-\infty,{low}{closing} \cup {opening}{end},\infty[", gold) == (not off)
    between = f"{low}{less}x<{high}"
    opening, other = ("(", "[") if left else ("[", "(")
    assert is_correct(f"{opening}{low},{end})", between) == (not off)
    assert not is_correct(f"{other}{low},{high})", between)
    assert not is_correct(f"{opening}{low},{high}]", between)
    assert not is_correct(rf"\{{{low},{high}\}}", between)


REALS = [r"\mathbb{R}", r"\text{all real numbers}", r"(-\infty,\infty)", r"x\in\mathbb R", r"\text{모든 실수}"]


@pytest.mark.parametrize("gold", REALS)
@pytest.mark.parametrize("answer", REALS)
def test_all_reals_in_words_and_signs(answer: str, gold: str) -> None:
    assert is_correct(answer, gold)
    for wrong in (r"\text{all integers}", r"(0,\infty)", r"\text{all real numbers except }2", r"\mathbb{Z}"):
        assert not is_correct(wrong, gold)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=5), st.lists(st.integers(0, 5), min_size=2, max_size=5))
def test_sets_are_compared_by_their_members_and_vectors_by_place(found: list[int], gold: list[int]) -> None:
    one, other = ", ".join(map(str, found)), ", ".join(map(str, gold))
    assert is_correct(rf"\{{{one}\}}", rf"\{{{other}\}}") == (set(found) == set(gold))
    column = r"\begin{pmatrix}" + r"\\".join(map(str, gold)) + r"\end{pmatrix}"
    for vector in (f"({one})", rf"\langle {one} \rangle", f"({one})^T"):
        assert is_correct(vector, column) == (found == gold)
        assert is_correct(column, vector) == (found == gold)


@pytest.mark.parametrize("power", ["^T", r"^{\top}", r"^\intercal"])
@settings(deadline=None, max_examples=10)
@given(cells=st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_a_transposed_matrix_has_its_rows_for_columns(power: str, cells: list[int]) -> None:
    def matrix(a: int, b: int, c: int, d: int) -> str:
        return rf"\begin{{pmatrix}}{a}&{b}\\{c}&{d}\end{{pmatrix}}"

    a, b, c, d = cells
    for form in ("{}", r"\left({}\right)", "[{}]"):
        transposed = form.format(matrix(*cells)) + power
        for answer, gold in ((matrix(a, c, b, d), transposed), (transposed, matrix(a, c, b, d))):
            assert is_correct(answer, gold)
        assert b == c or not is_correct(transposed, matrix(*cells))


@pytest.mark.parametrize("base", ["(1+r)", "(1-p)", r"\left(1+\frac{r}{n}\right)", "(AB)", "[a+b]", "(2)(3)"])
def test_a_power_of_what_is_no_vector_is_a_power(base: str) -> None:
    for bare in (base, base.strip("()[]"), "6"):
        for power in ("^T", "^{T}"):
            assert not is_correct(bare, base + power)
            assert not is_correct(base + power, bare)
    assert is_correct(base + "^{T}", base + "^T")


@given(st.lists(st.integers(1, 9), min_size=2, max_size=3), st.integers(2, 5), st.integers(1, 3))
def test_ratios_are_compared_as_ratios(terms: list[int], times: int, more: int) -> None:
    gold, many = ":".join(map(str, terms)), [times * term for term in terms]
    assert is_correct(":".join(map(str, many)), gold)
    assert is_correct(r"\text{ to }".join(map(str, many)), gold)
    assert not is_correct(":".join(map(str, [many[0] + more, *many[1:]])), gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\text{five}", "5"),
        ("12", r"\text{twelve}"),
        ("5=x", "5"),
        (r"0.5\;(\text{or }\tfrac12)", "0.5"),
        ("-1./3", r"-\frac13"),
        ("0,111", "0.111"),
        (r"\SI{5}{\meter}", "5"),
        (r"\num{1.5e3}", "1500"),
        (r"f(x)=cx,\ c\in\mathbb{R}", "f(x)=cx"),
        (r"f(x)=cx \text{ for some constant } c", "f(x)=cx"),
        (r"\begin{aligned}x&=70\end{aligned}", "70"),
        (r"\{x\mid x<3\}", "x<3"),
        ("y=x^2+1", "f(x)=x^2+1"),
        (r"\{\pm 1\}", r"\{-1,1\}"),
        (r"12\,m/s^2", "12"),
        (r"\mathbf{(1,\frac{1}{2})}", r"(1,\frac12)"),
        (r"\text{$\frac{1}{2}$}", "0.5"),
        ("'5'", "5"),
        (r"\frac{dy}{dx}=x+x", r"\frac{dy}{dx}=2x"),
        (r"\int_0^1 x\,dx=0.5", r"\int_0^1 x\,dx=\frac12"),
    ],
)
def test_further_forms_of_one_answer(answer: str, gold: str) -> None:
    assert is_correct(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\text{six}", "5"),
        ("0,111", "111"),
        ("10:20", "5:10"),  # times of day
        (r"5\text{ h }30\text{ min}", "530"),
        (r"0.5\;(\text{or }\tfrac13)", "0.5"),
        (r"f(x)=c,\ c\in\mathbb{R}", "f(x)=cx"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "(1,2,3,4)"),
    ],
)
def test_and_what_only_looks_alike(answer: str, gold: str) -> None:
    assert not is_correct(answer, gold)


# One expression in two forms; a and b are written in place of the letters.
IDENTITIES = [
    (r"\sqrt{\frac{A}{B}}", r"\frac{\sqrt{A}}{\sqrt{B}}"),
    (r"\sqrt{AB}", r"\sqrt{A}\sqrt{B}"),
    (r"\sqrt{\frac{k}{m}}+A", r"A+\frac{\sqrt{km}}{m}"),
    (r"\ln\frac{A}{B}", r"\ln A-\ln B"),
    (r"\log_2(AB)", r"\log_2 A+\log_2 B"),
    (r"A^{m+n}", r"A^m A^n"),
    (r"\sin(A+B)", r"\sin(A)\cos(B)+\cos(A)\sin(B)"),
    (r"\cos(2A)", r"1-2\sin^2(A)"),
    (r"1+\tan^2(A)", r"\frac{1}{\cos^2(A)}"),
    (r"e^{A+B}", r"e^{A}e^{B}"),
    (r"Be^{iA}", r"B(\cos(A)+i\sin(A))"),
    (r"\sqrt[3]{A^2B}", r"(A^2B)^{1/3}"),
]
TERMS = ["x", "y", "3", r"\pi", "(x+2)", r"\frac{x}{5}", "(2xy)", r"(x^2+1)"]


@settings(deadline=None)
@given(st.sampled_from(IDENTITIES), st.sampled_from(TERMS), st.sampled_from(TERMS), st.integers(1, 5))
def test_computing_finds_identities_and_nothing_else(pair: tuple[str, str], a: str, b: str, off: int) -> None:
    left, right = (text.replace("A", f"{{{a}}}").replace("B", f"{{{b}}}") for text in pair)
    one, other = expression(canonical(left)), expression(canonical(right))
    more = expression(canonical(rf"{right}+\frac{{{off}}}{{10^{{20}}}}"))
    assert numeric.equal(one, other)
    assert numeric.equal(other, one)
    assert numeric.equal(one, more) is False


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("262537412640768744", r"e^{\pi\sqrt{163}}"),  # equal to 30 digits
        ("1", r"\cos(10^{-9})"),
        ("x", r"\sqrt{x^2}"),
        (r"\sqrt a+\sqrt b", r"\sqrt{a+b}"),
        (r"e^{-i\pi/4}", r"e^{i\pi/4}"),
        (r"2e^{i\pi/3}", r"e^{i\pi/3}"),
        (r"\ln b-\ln a", r"\ln\frac ab"),
        ("e^{-300.5}", "e^{-200.5}"),
        (r"\exp(-200)", "0"),
    ],
)
def test_what_nearly_is_an_identity_is_none(answer: str, gold: str) -> None:
    assert not is_correct(answer, gold)


@pytest.mark.parametrize(
    "zero", [r"\sin(\pi)", r"e^{-200}\cos\frac{\pi}{2}", r"e^{i\pi}+1", r"\ln(\sin^2(1)+\cos^2(1))"]
)
def test_what_only_rounding_keeps_from_zero_is_zero(zero: str) -> None:
    assert is_correct(zero, "0")


def test_a_value_of_a_function_may_be_rounded() -> None:
    assert is_correct("0.693147", r"\ln 2")
    assert not is_correct("0.693148", r"\ln 2")


HOSTILE = [
    r"e^{e^{e^{e^{100}}}}",
    r"\sin(10^{300})",
    r"\sqrt[99999]{\ln(2^{9000})}",
    r"x^{x^{x^{x^{x^{x}}}}}",
    r"\ln(\ln(\ln(\ln(\ln(2)))))",
    r"2^{\pi^{2^{\pi^{99}}}}",
    "5" + r"\text{m}\cdot" * 150,
    r"5\frac{\text{m}" + " " * 1900,
    "]0," * 600,
    "= c∈" * 400,
    r"≡mod" * 400,
    "x=c for a" + " a" * 900,
    "<" * 1900,
    "x = 1 for constant " + "any " * 450 + "1",
    r"5\frac{" + r"\text{m}^2 " * 150 + r"x}{\text{s}}",
    "f(a)/" * 380 + "! = 4",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_formulas_cost_little(text: str) -> None:
    started = time.process_time()
    reset_budget()
    try:
        value = read(canonical(text))
        same(value, read("3"), numerically=True)
        same(read(r"\ln(x+2)"), value, numerically=True)
    except TooLarge:
        pass
    assert time.process_time() - started < SETTINGS.time_limit_s


def test_sides_are_cut_outside_of_braces() -> None:
    assert symbolic._sides(r"\sum_{k=1}^{n} a_{k} \leq b = c") == [r"\sum_{k=1}^{n} a_{k}", "b", "c"]
