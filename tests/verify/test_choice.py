"""Multiple choice: every way to name an option is read, and nothing else is."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from open_exaone.base.records import VerdictStatus
from open_exaone.verify.choice import judge_choice
from open_exaone.verify.settings import JudgeSettings

CITIES = {"options": ["Paris", "London", "Rome", "Berlin"]}
LETTERS_4 = {"labels": list("ABCD")}
DIGITS = {"labels": list("12345")}
NOTHING: Mapping[str, object] = {}


def status(answer: str, gold: str, metadata: Mapping[str, object] = NOTHING) -> VerdictStatus:
    return judge_choice(answer, gold, metadata, JudgeSettings()).status


@pytest.mark.parametrize(
    ("answer", "gold", "metadata"),
    [
        (r"\boxed{E}", "E", NOTHING),
        (r"\boxed{e}", "E", NOTHING),
        (r"\boxed{\text{E}}", "E", NOTHING),
        (r"\boxed{\textbf{(E)}}", "E", NOTHING),
        (r"\boxed{E. Paris}", "E", NOTHING),
        (r"\boxed{\text{C}: \; 3x}", "C", NOTHING),
        (r"The answer is \(\boxed{\text{(C) }\frac12}\)", "C", NOTHING),
        (r"\fbox{C}", "C", NOTHING),
        (r"\boxed{A}. Wait. \boxed{B}", "B", NOTHING),
        ("(b)", "B", CITIES),
        ("정답은 ❷번", "B", CITIES),
        ("정답은 (2)번입니다.", "B", CITIES),
        ("정답은 2) London", "B", CITIES),
        ("정답은 b입니다.", "B", CITIES),
        (r"I will put it in \boxed{}. The answer is B.", "B", NOTHING),
        (r"\boxed{Paris}", "A", CITIES),
        (r"\boxed{paris.}", "A", CITIES),
        (r"\boxed{\text{Rome}}", "Rome", CITIES),
        (r"\boxed{C. Rome}", "Rome", CITIES),
        (r"\boxed{\frac{1}{2}}", "B", {"options": ["$1$", r"$\dfrac{1}{2}$"]}),
        (r"\boxed{1234}", "B", {"options": ["$1$", "$1,234.0$"]}),
        (r"\boxed{E}", "E", {"options": ["E", "D", "C", "B", "A"]}),  # a label comes before an option's text
        (r"\boxed{(D) costs}", "A", {"options": ["(D) costs", "(C) gains", "(B) rates", "(A) prices"]}),
        (
            r"\boxed{c}",
            "A",
            {"options": ["c", "0.5c", "2c", "3c"]},
        ),  # a text as it stands before a label in small letters
        (r"\boxed{yes}", "C", {"options": ["no", "yes", "yes"]}),
        ("B", "B", NOTHING),
        ("(B)", "B", NOTHING),
        ("B)", "B", NOTHING),
        ("**B**", "B", NOTHING),
        ("I", "I", NOTHING),
        ("Ｂ", "B", NOTHING),
        ("Ⓑ", "B", NOTHING),
        ("London", "B", CITIES),
        ("Some thought.\nB) London", "B", CITIES),
        ("### Final Answer\n\nC", "C", NOTHING),
        ("D. it can't be A or B", "D", NOTHING),
        ("The answer is (C).", "C", NOTHING),
        ("The answer is b.", "B", NOTHING),
        ("The answer is 'B'.", "B", NOTHING),
        ("The answer is Rome.", "C", CITIES),
        ("The answer is E. coli.", "B", {"options": ["S. aureus", "E. coli"]}),
        ("The answer is Bb.", "B", {"options": ["bb", "Bb", "BB"]}),
        ("Answer: Bb.", "A", {"options": ["Bb.", "BB."]}),
        ("Answer: D. X", "D", {"options": ["U", "D", "Y", "X"]}),
        ("Answer: C. 0.8c", "C", {"options": ["2c", "c", "0.8c", "0.5c"]}),
        ("The answer is I think B", "B", NOTHING),
        ("The answer is B, I believe.", "B", NOTHING),
        ("The answer is B. A reason is given.", "B", NOTHING),
        ("The answer is B; A, C, and D are wrong.", "B", NOTHING),
        ("The answer is for sure D, it can't be A or B", "D", NOTHING),
        ("thinking about it I think the correct answer is C", "C", NOTHING),
        ("The correct option is C because it is.", "C", NOTHING),
        ("I choose option D.", "D", NOTHING),
        ("B is the correct answer.", "B", NOTHING),
        ("Answer: D", "D", NOTHING),
        ("**Answer:** C", "C", NOTHING),
        ("**Answer: C) Rome**", "C", CITIES),
        ("Answer:\n\n**C**", "C", NOTHING),
        ("The answer is A. Then again, the answer is C.", "C", NOTHING),
        ("La respuesta correcta es B.", "B", NOTHING),
        ("정답은 ③번", "3", DIGITS),
        ("정답은 ③번", "C", NOTHING),
        ("정답: B", "B", NOTHING),
        ("답은 2번입니다", "2", DIGITS),
        ("답은 2번입니다.", "B", NOTHING),
        ("③이 정답입니다.", "3", DIGITS),
        ("③이 정답입니다.", "C", NOTHING),
        ("정답은 （Ｂ）입니다", "B", NOTHING),
        ("정답은 B. 파리입니다.", "B", {"options": ["런던", "파리"]}),
        ("따라서 정답은 **④**입니다.", "4", DIGITS),
        (r"\boxed{⑤}", "5", DIGITS),
        (r"\boxed{5번}", "5", DIGITS),
        (r"\boxed{3}", "3", DIGITS | {"options": ["1", "3", "5", "7", "9"]}),
        (r"\boxed{7}", "4", DIGITS | {"options": ["1", "3", "5", "7", "9"]}),
        (r"\boxed{나}", "나", {"labels": ["가", "나", "다"]}),
        ("B is correct.", "B", CITIES),
        ("Option B is correct.", "B", CITIES),
        ("It's B.", "B", CITIES),
        ("I think it's B.", "B", CITIES),
        ("Thus, B.", "B", CITIES),
        ("Option B", "B", CITIES),
        ("<answer>B</answer>", "B", CITIES),
        ("答案是B。", "B", CITIES),
        ("答えはBです", "B", CITIES),
        ("La réponse est B", "B", CITIES),
        ("Die Antwort ist B.", "B", CITIES),
        ("A resposta é B", "B", CITIES),
        ("Ответ: B", "B", CITIES),
    ],
)
def test_a_named_option_is_read(answer: str, gold: str, metadata: Mapping[str, object]) -> None:
    assert status(answer, gold, metadata) is VerdictStatus.CORRECT


@pytest.mark.parametrize(
    ("answer", "metadata"),
    [
        ("The answer is A or B", NOTHING),
        ("The answer is (A) or (B).", NOTHING),
        ("The answer is A. Paris or B. London.", CITIES),
        ("A or B is the correct answer.", NOTHING),
        ("both A and B", NOTHING),
        (r"\boxed{A} or \boxed{B}", NOTHING),
        (r"\boxed{A}, \boxed{B}", NOTHING),
        ("\\boxed{A}\n\n\\boxed{B}", NOTHING),
        (r"The answer is $\boxed{A}$ or maybe $\boxed{B}$.", NOTHING),
        (r"\boxed{B} or A", NOTHING),
        (r"\boxed{A, B}", NOTHING),
        (r"\boxed{A \text{ or } B}", NOTHING),
        (r"\boxed{A/B}", NOTHING),
        (r"\boxed{AB}", NOTHING),
        (r"\boxed{A. London}", CITIES),
        ("La respuesta es A o B.", NOTHING),
        ("정답은 A와 B입니다.", NOTHING),
        ("정답은 A 또는 B입니다.", NOTHING),
        ("정답은 A나 B입니다.", NOTHING),
        ("정답은 ①, ②입니다.", NOTHING),
        ("답은 ①번이나 ②번입니다.", NOTHING),
    ],
)
def test_hedging_never_pays(answer: str, metadata: Mapping[str, object]) -> None:
    for gold in "AB":
        assert status(answer, gold, metadata) is VerdictStatus.WRONG


@pytest.mark.parametrize(
    ("answer", "metadata"),
    [
        (r"\boxed{K}", LETTERS_4),
        (r"\boxed{E}", CITIES),
        (r"\boxed{Madrid}", CITIES),
        (r"\boxed{42}", LETTERS_4),
        (r"\boxed{A'}", CITIES),
        (r"\boxed{\text{A}'}", LETTERS_4),
        ("Answer: K", LETTERS_4),
        ("The answer is (E).", CITIES),
        (r"\boxed{⑤}", LETTERS_4),
    ],
)
def test_an_answer_outside_the_options_is_wrong(answer: str, metadata: Mapping[str, object]) -> None:
    assert status(answer, "A", metadata) is VerdictStatus.WRONG


@pytest.mark.parametrize(
    "answer",
    [
        "The incorrect answer is A.",
        "The wrong answer is A.",
        "The least likely answer is A.",
        "Answer: A is wrong",
        r"\boxed{\text{A is wrong}}",
        "The answer is A. Wait, actually, it's B.",
        "The answer is A. No wait, it is B.",
        "The answer is A; or B.",
        "The answer is A; alternatively B",
        "The answer is A, no, B.",
        "The answer is A, but it could also be B.",
        "The answer is A, although C is equally good.",
        "오답은 A입니다.",
        "B, A가 옳다.",
        "Answer: A; B",
        "It is false that the answer is A.",
        "The answer is not Paris, which is option A.",
        "The answer is London, which is option A.",
        "Paris is the correct answer? No.",
        "A. London is the correct answer.",
        "정답: 1. London",
    ],
)
def test_what_is_denied_or_taken_back_is_not_the_answer(answer: str) -> None:
    assert status(answer, "A", CITIES) in (VerdictStatus.UNPARSED, VerdictStatus.WRONG)


STATED = st.sampled_from(
    [r"\boxed{{{0}}}.", r"The final answer is \boxed{{{0}}}.", "The answer is {0}.", "정답은 {0}입니다."]
)
ASIDES = (
    "Many students think the answer is {0}.",
    "Some people would say that the correct answer is {0}.",
    "It is tempting to say the answer is {0}.",
    "Most people would say the answer is {0}, but they are wrong.",
    "Had it asked for the coldest, the answer would be {0}.",
    "If the question had asked for the smallest, the answer would be {0}.",
    "If it asked for the city with the smallest number of inhabitants of all of those in the list, the answer is {0}.",
    "The answer would be {0} if it had asked for the oldest.",
    "Statement {0} is correct, but irrelevant.",
    "가장 작은 것을 물었다면 정답은 {0}입니다.",
)


@given(STATED, st.sampled_from(ASIDES), st.permutations("ABCD"))
def test_what_others_say_or_another_question_asks_is_no_answer(stated: str, aside: str, labels: Sequence[str]) -> None:
    stated, aside = stated.format(labels[0]), aside.format(labels[1])
    for reply in (f"{stated} {aside}", f"{aside} {stated}", f"{stated}\n\n{aside}"):
        assert status(reply, labels[0], CITIES) is VerdictStatus.CORRECT


@pytest.mark.parametrize(
    "reply",
    [
        "If we apply the rule, the answer would be C.",
        "Many students think it is B, but the answer is C.",
        "Some say that it rains, so the answer is C.",
        "The mistake is in the sign, so the answer is C.",
        "If Tom had five and gave two away, the answer is C.",
        "학생들이 세 명이므로 정답은 C입니다.",
    ],
)
def test_what_follows_from_a_condition_is_an_answer(reply: str) -> None:
    assert status(reply, "C", CITIES) is VerdictStatus.CORRECT


@given(st.permutations("ABCD"))
def test_only_a_final_answer_replaces_a_box(labels: Sequence[str]) -> None:
    boxed, other = rf"\boxed{{{labels[0]}}}", labels[1]
    assert status(f"{boxed}\nThat is off.\nFinal answer: {other}", other, CITIES) is VerdictStatus.CORRECT
    assert status(f"{boxed}. Wait, that is wrong. The answer is {other}.", other, CITIES) is VerdictStatus.CORRECT
    assert status(f"{boxed}. So the answer is {labels[0]}.", labels[0], CITIES) is VerdictStatus.CORRECT
    for gold in "ABCD":
        assert status(f"{boxed}. By the rule the answer is {other}.", gold, CITIES) is VerdictStatus.UNPARSED


@pytest.mark.parametrize(
    "text", ["3.5", "-3", "3, 4", "3 or 4", "3x", "3/4", "33", r"3 \text{ cm}", "3:1", "(3, 4)", "~3"], ids=repr
)
def test_a_digit_in_a_box_is_a_label_only_alone(text: str) -> None:
    assert status(f"\\boxed{{{text}}}", "3", DIGITS) is VerdictStatus.WRONG


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "A vitamin is what I need; C is a programming language. I do not know.",
        "We know that A and B are sets. I see.",
        "A. Lincoln was president.",
        "A) is wrong because it is small.",
        "A) Paris\nB) London\nC) Rome\nD) Berlin",
        "A\nB\nC\nD",
        "Grade: A",
        "The answer is a matter of taste.",
        "The answer is I think hard to see",
        "The answer is C-reactive protein.",
        "The answer is B vitamins.",
        "The answer is C++.",
        "The answer is 42.",
        "The answer is Rome, the old city.",
        "The answer is not B.",
        "The answer is neither A nor B.",
        "The answer is B.\nOn reflection the answer is not B.",
        "The answer could be A or B.",
        "If the answer is B, then we are done.",
        "Is B the correct answer?",
        "I doubt that the answer is B.",
        "I don't think the answer is B.",
        "We must find out whether the correct answer is B.",
        "정답은 B가 아닙니다.",
        "정답이 B라면 모순입니다.",
        "정답은 B일 수도 있습니다.",
        "정답은 3개입니다.",
        r"\boxed{}",
        r"\boxed{A} and \boxed{B",
        r"The answer is \boxed{B",
    ],
)
def test_a_reply_without_a_final_answer_is_unparsed(answer: str) -> None:
    for gold in "ABCD":
        assert status(answer, gold, CITIES) is VerdictStatus.UNPARSED


FORMS: Sequence[Callable[[str, str], str]] = (
    lambda label, text: rf"So we are done. $\boxed{{{label}}}$",
    lambda label, text: rf"\[\boxed{{\textbf{{({label})}}}}\]",
    lambda label, text: rf"It is \boxed{{{label}. {text}}}.",
    lambda label, text: f"Some reasoning about it.\n\n**{label}**",
    lambda label, text: f"I think so. The answer is ({label}).",
    lambda label, text: f"I think so.\nAnswer: {label}. {text}",
    lambda label, text: f"The correct option is {label} because of this.",
    lambda label, text: f"따라서 정답은 {'①②③④⑤⑥⑦⑧⑨⑩'[ord(label) - ord('A')]}번입니다.",
)


@given(
    options=st.lists(st.text("abcxyz0123 +-$", min_size=3, max_size=9), min_size=2, max_size=10, unique_by=str.strip),
    data=st.data(),
)
def test_the_right_label_is_correct_and_every_other_is_wrong(options: list[str], data: st.DataObject) -> None:
    gold = data.draw(st.integers(0, len(options) - 1))
    form = data.draw(st.sampled_from(FORMS[:2] + FORMS[3:5] + FORMS[6:]))
    for index, (label, text) in enumerate(zip("ABCDEFGHIJ", options, strict=False)):
        wanted = VerdictStatus.CORRECT if index == gold else VerdictStatus.WRONG
        assert status(form(label, text), "ABCDEFGHIJ"[gold], {"options": options}) is wanted


def test_real_options_are_told_apart() -> None:
    data = Path(os.environ.get("OPEN_EXAONE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = data / "mcq" / "mmlu_pro_test_questions.jsonl"
    if not path.exists():
        pytest.skip(f"{data} isn't here; set OPEN_EXAONE_DATA to where mcq/ stands")
    for line in path.read_text(encoding="utf-8").splitlines()[::101]:
        row = json.loads(line)
        for label, text in zip("ABCDEFGHIJ", row["options"], strict=False):
            wanted = VerdictStatus.CORRECT if label == row["answer"] else VerdictStatus.WRONG
            for form in FORMS:
                assert status(form(label, text), row["answer"], {"options": row["options"]}) is wanted, form(
                    label, text
                )


@pytest.mark.parametrize(
    ("gold", "metadata", "message"),
    [
        ("E", CITIES, "gold 'E': must be one of the labels A, B, C, D, or the text of one option"),
        ("Madrid", CITIES, "gold 'Madrid'"),
        ("x y", {"options": ["x  y ", "xy", "XY", "x y"], "labels": list("ABCC")}, "metadata 'labels'"),
        ("A", {"labels": []}, "metadata 'labels': must hold 1 to 26 texts, not 0"),
        ("A", {"options": "Paris"}, "metadata 'options': must be a list of texts, not 'Paris'"),
        ("A", {"options": ["Paris", 5]}, "metadata 'options'"),
        ("A", {"options": ["x"] * 27}, "metadata 'options': must hold 1 to 26 texts, not 27"),
        ("A", CITIES | {"labels": ["A", "B"]}, "metadata: 4 options but 2 labels"),
        ("A", {"labels": ["A", "B C"]}, "metadata 'labels'"),
    ],
)
def test_broken_problems_are_refused_by_field(gold: str, metadata: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        status("A", gold, metadata)


def test_a_verdict_says_why() -> None:
    verdict = judge_choice(r"\boxed{B}", "C", CITIES, JudgeSettings())
    assert (verdict.extracted, verdict.why) == ("B", "Option B is wrong: the gold option is C.")
    assert (
        judge_choice("A or C", "C", CITIES, JudgeSettings()).why == "The reply names A and C and chooses no single one."
    )
    assert judge_choice(r"\boxed{x}", "C", CITIES, JudgeSettings()).why == "The answer x is none of the options A to D."


@given(
    st.text()
    | st.text().map("\\boxed{{{}}}".format)
    | st.text(alphabet="AB()or,.번①\\boxed{} ").map("Answer: {}".format)
)
def test_no_reply_makes_it_raise(text: str) -> None:
    verdict = judge_choice(text, "A", CITIES, JudgeSettings())
    assert verdict.why.endswith(".") and len(verdict.why) < 150


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "A",
            "A ",
            "A\n",
            "(",
            "A) x\n",
            "①",
            "번",
            "answer is ",
            "Answer: A or ",
            "is the ",
            " A is the correct answer",
        ),
        *("\\boxed{", "\\boxed{A} ", "\\boxed{A}", "\\text{", "$", "*", "1번", "the ", "either "),
    ],
)
def test_megabytes_cost_linear_time(piece: str) -> None:
    text = piece * (2_000_000 // len(piece))
    start = time.process_time()
    for answer in (text, f"\\boxed{{{text}}}", f"The answer is {text}"):
        judge_choice(answer, "A", CITIES, JudgeSettings())
    assert time.process_time() - start < 10.0  # quadratic would take hours


TEXTS = st.lists(st.text("ghkmnrtuw", min_size=3, max_size=8), min_size=3, max_size=5, unique=True)
WITH_TEXT = (
    r"\boxed{{{0} ({1})}}",
    r"\boxed{{\text{{{0}}}\quad\text{{{1}}}}}",
    r"\boxed{{{0} \rightarrow {1}}}",
    "Answer: {0} {1}",
    "Answer: {0} ({1})",
    "The answer is {1} ({0}).",
    "정답은 {0}({1})입니다.",
    "### Final Answer\n**{0}. {1}**",
    "{0}. {1} is the correct answer.",
    "So **({0}) {1}** is the correct answer.",
    "{0}. {1}가 정답입니다.",
    "정답은 {1}({0})입니다.",
    "The answer is {1}, which is option {0}.",
    "It is {1}, which corresponds to option {0}.",
    r"\boxed{{\text{{{0}}} \text{{ -- {1}}}}}",
)
BY_LABEL = (
    "정답 {0}",
    "[정답] {0}",
    "답변은 {0}입니다.",
    "따라서 {0}가 옳다.",
    "{0}를 선택합니다.",
    "가장 적절한 것은 {0}이다.",
    "### 정답\n{0}",
    "Answer - {0}",
    "I'd pick {0}.",
    "I'm going with {0} here.",
    "({0}) is the answer.",
    "Only {0} remains.",
    "This matches option {0}.",
    "Answer: <b>{0}</b> ✅",
    "So $v = \\boxed{{3.2}}$.\n\nFinal answer: {0}",
    "\\boxed{{Z}}\n\nThat is off.\n\nFinal answer: {0}",
    "故选{0}。",
    "उत्तर: {0}",
    "Answer: {0}\n\nQuestion: And now?\nAnswer: Z",
    "I'd say {0}.",
    "The correct response is {0}.",
    "That leaves only option {0}.",
    "It has to be {0}; {0} has to be the answer.",
    '{{"reason": "It is old.", "choice": "{0}"}}',
    "Answer: {0} 😊",
    r"\boxed{{\color{{red}}{{{0}}}}}",
    "결론: {0}",
    "(정답) {0}",
    "정답은 {0}네요.",
    "{0}가 가장 적절한 답이다.",
    "所以答案选{0}。",
)
WHOLE = (
    "→ {0}",
    "<s> Answer: {0}</s>",
    "<s>[INST] Which? [/INST] Answer: {0}</s>",
    "<|start_header_id|>assistant<|end_header_id|>\n\nAnswer: {0}<|eot_id|>",
    "<|im_start|>assistant\nAnswer: {0}<|im_end|>",
    "[|assistant|]Answer: {0}[|endofturn|]",
    "<bos><start_of_turn>model\nAnswer: {0}<end_of_turn>",
    "{0}\n\nQuestion: And now?\nAnswer: Z",
    "{0}. It is.\n\nQuestion: And now?\nAnswer: Z",
    "{0}\n\nWhich is next?\nA. one\nB. two\nC. three\nD. four\nAnswer: Z",
)


@settings(deadline=None)
@given(texts=TEXTS, data=st.data(), form=st.sampled_from(WITH_TEXT))
def test_a_letter_and_a_text_must_name_one_option(texts: list[str], data: st.DataObject, form: str) -> None:
    letter, text = (data.draw(st.integers(0, len(texts) - 1)) for _ in range(2))
    reply = "We look at each one.\n\n" + form.format("ABCDE"[letter], texts[text])
    for gold in range(len(texts)):
        is_correct = status(reply, "ABCDE"[gold], {"options": texts}) is VerdictStatus.CORRECT
        assert is_correct == (gold == letter == text)


@pytest.mark.parametrize("form", BY_LABEL)
def test_further_ways_to_announce_a_label(form: str) -> None:
    for label in "ABCD":
        reply = "We look at each one.\n\n" + form.format(label)
        assert [gold for gold in "ABCD" if status(reply, gold, CITIES) is VerdictStatus.CORRECT] == [label]


@pytest.mark.parametrize("form", WHOLE)
def test_whole_replies_of_a_label(form: str) -> None:
    for label in "ABCD":
        assert [gold for gold in "ABCD" if status(form.format(label), gold, CITIES) is VerdictStatus.CORRECT] == [label]


@pytest.mark.parametrize(
    "form",
    [
        "The answer is not {0} but {1}.",
        "정답은 {0}가 아니라 {1}입니다.",
        "The answer is {1}, not {0}, but not by much.",
    ],
)
def test_a_label_that_is_denied_is_not_the_one_that_is_named(form: str) -> None:
    for denied, named in permutations("ABCD", 2):
        reply = form.format(denied, named)
        assert [gold for gold in "ABCD" if status(reply, gold, CITIES) is VerdictStatus.CORRECT] == [named]


@pytest.mark.parametrize(
    "reply",
    [
        "정답은 {}입니다.",
        "정답은 '{}'이다.",
        "정답: {}",
        "따라서 답은 **{}**입니다.",
        "정답은 {}다.",
        "{}가 정답입니다.",
        "{}입니다.",
    ],
)
def test_a_korean_text_is_read_without_its_verb(reply: str) -> None:
    options = ["산소", "질소", "수소"]
    assert status(reply.format("수소"), "C", {"options": options}) is VerdictStatus.CORRECT
    assert status(reply.format("질소"), "C", {"options": options}) is VerdictStatus.WRONG


@pytest.mark.parametrize(
    "reply",
    [
        "The answer is the {} option.",
        "The {} choice is correct.",
        "Between C and D, I'd pick the {} option.",
        "It is down to two of them. The {} option is correct.",
        "Of these two, the {} option is correct.",
        "The answer is the {} option from the bottom.",
        "The answer is the {} option that is not a capital of Spain.",
        "Our {} choice is correct.",
    ],
)
@pytest.mark.parametrize("place", ["first", "second", "third", "last"])
def test_a_place_among_who_knows_what_names_no_option(place: str, reply: str) -> None:
    for known in (CITIES, LETTERS_4):
        assert status(reply.format(place), "A", known) is VerdictStatus.UNPARSED
    text = f"the {place} option"
    assert status(f"The answer is {text}.", "B", {"options": ["x", text]}) is VerdictStatus.CORRECT


@pytest.mark.parametrize(
    "reply",
    [
        "마지막으로 모두 보기가 정답입니다.",
        "첫 번째로 모두 선택지가 정답입니다",
        "두 선택지가 정답입니다.",
        "정답은 마지막 두 보기입니다.",
        "세 번째 선택지가 정답입니다.",
    ],
)
def test_a_place_or_a_number_of_options_in_korean_names_none(reply: str) -> None:
    assert not [label for label in "ABCD" if status(reply, label, CITIES) is VerdictStatus.CORRECT]


@pytest.mark.parametrize(
    "reply", ["The answer is the first option that is not in Spain, C.", "B or C remain. The first option is correct."]
)
def test_a_place_beside_labels_is_none_of_its_own(reply: str) -> None:
    assert not [label for label in "ABD" if status(reply, label, CITIES) is VerdictStatus.CORRECT]
