"""Answers that were made to break a judge: it replies within its limit, is right, and judges the next one as ever."""

import time

import pytest

from open_exaone.base.records import VerdictStatus
from open_exaone.sandbox.workers import CallResult
from open_exaone.verify.math import judge
from open_exaone.verify.math.judge import judge_math
from open_exaone.verify.math.normalise import canonical
from open_exaone.verify.settings import JudgeSettings

SETTINGS = JudgeSettings(time_limit_s=0.5)
SLACK_S = 60.0  # for a loaded machine, and for starting the first worker; the rest of the limit is asked for exactly
N = 100_000

ANSWERS = {  # none of them is 3
    "tower": "10^{10^{10}}",
    "tower without braces": "10^10^10",
    "tower of Python": "10**10**10",
    "tall tower": "2^{" * 50 + "2" + "}" * 50,
    "quotient of towers": r"\frac{10^{10^{10}}}{10^{10^{10}}}",
    "root of a tower": r"\sqrt{9^{9^{9^{9}}}}",
    "towers that cancel": r"10^{10^{10}}-10^{10^{10}}+3",
    "great power": "7^{9999999999}",
    "great power of a sum": "(x+y+z+1)^{1000000}",
    "tiny power": "10^{-10^{10}}",
    "powers of sums": "+".join(["(x+1)^{64}^2"] * 150),
    "great exponent": "1e999999999",
    "tiny exponent": "3e-999999999",
    "factorial": "99999999!",
    "many factorials": "3!!!!!!!!!! + 0",
    "nested factorials": "(((9!)!)!)!",
    "great binomial": r"\binom{1000000000}{500000000}",
    "long sum": r"\sum_{k=1}^{1000000000000} \frac{1}{k}",
    "long product": r"\prod_{k=1}^{10000000} k",
    "hard integral": r"\int_0^1 e^{x^{x^{x}}} dx",
    "nested logarithms": r"\log(\log(\log(\log(10^{10^{10^{10}}}))))",
    "great polynomials": r"\gcd(x^{5000}-1, x^{4999}-1)",
    "power modulo": r"7^{10^{12}} \bmod 10",
    "parentheses": "(" * N + ")" * N,
    "parentheses around 3": "(" * N + "3" + ")" * N,
    "open parentheses": "(" * N,
    "braces": "{" * N + "4" + "}" * N,
    "escaped braces": r"\{" * N + r"\}" * N,
    "brackets": "[" * N + "3" + "]" * N,
    "fractions": r"\frac{1}{" * N + "3" + "}" * N,
    "fractions without arguments": r"\frac" * N,
    "roots": r"\sqrt" * N + "9",
    "roots with braces": r"\sqrt{" * N + "}" * N,
    "boxes": r"\boxed{" * N + "4" + "}" * N,
    "boxes never closed": r"\boxed{" * N,
    "many boxes": r"\boxed{4}" * N,
    "different boxes": "".join(rf"\boxed{{{i}}}" for i in range(N)),
    "texts": r"\text{" * N + "}" * N,
    "lefts": r"\left(" * N + r"\right)" * N,
    "signs": "-" * N + "4",
    "carets": "^" * N,
    "underscores": "_" * N,
    "dollars": "$" * N,
    "backslashes": "\\" * (2 * N),
    "commas": "," * N,
    "a long list": "1," * N,
    "groups of thousands": "1" + ",000" * N,
    "a chain of equations": "x=" * N + "4",
    "a chain of inequalities": "<".join("x" * N),
    "a long union": r"(1,2)\cup" * N,
    "many signs": r"1\pm" * N + "2",
    "a million digits": "9" * 1_000_000,
    "a million decimals": "0." + "3" * 1_000_000,
    "ten megabytes": "x+" * 5_000_000,
    "ten megabytes of digits": "3" * 10_000_000,
    "ten megabytes of prose": "the answer is 4 and " * 500_000,
    "a great set": r"\{" + ",".join(map(str, range(N))) + r"\}",
    "a long tuple": "(" + ",".join("3" * N) + ")",
    "a great matrix": r"\begin{pmatrix}" + r"\\".join(["&".join("3" * 1000)] * 1000) + r"\end{pmatrix}",
    "nested matrices": r"\begin{pmatrix}" * 1000 + "3" + r"\end{pmatrix}" * 1000,
    "an open matrix": r"\begin{pmatrix} 3",
    "spaces": "x" + " " * N + "y",
    "an Arabic digit": "٣",
    "a Devanagari digit": "३",
    "a right-to-left mark": "1\u202e3",
    "a joiner": "\u200d3x",
    "a NUL": "\x004",
    "a lone surrogate": "4\ud800",
    "a homoglyph": "З",
    "infinity": "∞",
    "not a number": "NaN",
    "division by zero": r"\frac{3}{0}",
    "zero by zero": r"\frac{0}{0}",
    "an empty box": "",
    "None": "None",
    "Python": "__import__('os').system('true')",
    "eval": "eval('3')",
    "a lambda": "(lambda: 3)()",
    "a format": "{0.__class__}",
    "a macro": r"\def\x{\x\x}\x",
    "a file": r"\input{/etc/passwd}",
    "a command": r"\immediate\write18{id}",
    "a loop": r"\loop\iftrue\repeat",
    "many letters": "a" * 50_000 + "?",
    "markup": "<script>3</script>",
    "JSON": '{"steps": 3}',
    "every number": ", ".join(map(str, range(-50, 50))),
    "a range": "0 < x < 10",
    "a choice": "3 or 4",
    "an unknown": "x",
    "a denial": r"x \neq 3",
    "an interval": "[3,3]",
    "an alternative": "3|4",
    "a pattern": ".*",
    "a word behind a total": "We have 4, and it adds up to 5 " + "a" * 1900 + "=",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("form", [r"\boxed{%s}", "The answer is %s", "%s"], ids=["box", "phrase", "bare"])
def test_it_is_answered_in_time_and_never_correct(form: str, answer: str) -> None:
    reply = form.replace("%s", answer)
    start = time.monotonic()
    verdict = judge_math(reply, "3", {}, SETTINGS)
    assert time.monotonic() - start < SETTINGS.time_limit_s + SLACK_S
    assert verdict.status is not VerdictStatus.CORRECT
    assert len(verdict.why) < 200
    assert judge_math(r"\boxed{3}", "3", {}, SETTINGS).status is VerdictStatus.CORRECT


def test_a_unit_with_an_empty_part_is_read() -> None:
    assert judge_math(r"\boxed{5\text{m}\text{}}", "5", {}, SETTINGS).status is VerdictStatus.CORRECT


@pytest.mark.parametrize("gold", [a for a in ANSWERS.values() if a], ids=[k for k, a in ANSWERS.items() if a])
def test_a_gold_answer_is_held_to_the_same_bounds(gold: str) -> None:
    start = time.monotonic()
    verdict = judge_math(r"\boxed{3}", gold, {}, SETTINGS)
    assert time.monotonic() - start < SETTINGS.time_limit_s + SLACK_S
    assert verdict.status is not VerdictStatus.CORRECT


@pytest.mark.parametrize("answer", ["10^{10^{10}}", "7^{9999999999}", "99999999!", "(" * N, r"\sqrt" * N, "x+" * 5000])
def test_what_is_out_of_all_proportion_costs_no_time_limit(answer: str) -> None:
    start = time.process_time()
    assert judge_math(rf"\boxed{{{answer}}}", "3", {}, SETTINGS).status is VerdictStatus.WRONG
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    "text",
    [
        *("|" * 1990, "A|" * 995, "|" * 21, r"\|" * 900, r"\lvert x" * 150, r"\vert " * 300),
        *("(" * 40 + "1,2" + ")" * 40, "[" * 20 + "1,2" + "]" * 20, "[(1," * 6 + "2?" + ")]" * 6),
        *("(" + "(1,2)(" * 30 + "x?" + ")" * 31, "1 " * 995, "12 13 " * 300, r"1\," * 490),
    ],
)
@pytest.mark.parametrize("form", ["{}", "x={}", "{}+y?"])
def test_bars_deep_brackets_and_rows_of_numbers_are_not_asked_of_the_algebra(
    monkeypatch: pytest.MonkeyPatch, form: str, text: str
) -> None:
    monkeypatch.setattr(judge, "call", lambda *_, **__: pytest.fail("the algebra was asked"))
    for answer, gold in ((form.format(text), "3"), ("3", form.format(text))):
        assert judge_math(rf"\boxed{{{answer}}}", gold, {}, SETTINGS).status is VerdictStatus.WRONG


@pytest.mark.parametrize("text", ["|x|+|y|+|z|?", "((((1+x)^2)^3)^5)?", r"\sqrt{" * 12 + "2?" + "}" * 12, "1 2 3 4 5"])
def test_a_few_bars_and_brackets_are_asked_of_it(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    asked = []
    monkeypatch.setattr(judge, "call", lambda *call, **_: asked.append(call) or CallResult("ok", False, ""))
    judge_math(rf"\boxed{{{text}}}", "3", {}, SETTINGS)
    assert asked


@pytest.mark.parametrize("blank", [" ", "\n", "\x0b", "$", "~", r"\,"])
@pytest.mark.parametrize("before", ["x", r"x\circ ", "x, "])
def test_blanks_are_one_before_any_step_looks_through_them(before: str, blank: str) -> None:
    assert canonical(before + 3 * blank + "y") == canonical(before + blank + blank + "y")
    start = time.process_time()
    canonical(before + 20_000 * blank + "y")
    assert time.process_time() - start < 1.0  # a step that starts anew from each blank takes ten seconds


def test_the_same_tower_is_the_same_answer() -> None:
    assert judge_math(r"\boxed{10^{10^{10}}}", "10^{10^{10}}", {}, SETTINGS).status is VerdictStatus.CORRECT
